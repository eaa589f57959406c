"""All cases, a module for each kind of attack."""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.case import Case
from tests.hostile.cases import detectors, links, summaries_detectors, summaries_studies

MODULES = (links, detectors, summaries_detectors, summaries_studies)


def every() -> Iterator[Case]:
    """Every case; no two have the same name."""
    for module in MODULES:
        yield from module.cases()
