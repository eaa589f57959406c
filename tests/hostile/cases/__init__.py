"""All cases, a module for each kind of attack."""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.case import Case
from tests.hostile.cases import ledgers, links, patches, summaries_search

MODULES = (links, summaries_search, ledgers, patches)


def every() -> Iterator[Case]:
    """Every case; no two have the same name."""
    for module in MODULES:
        yield from module.cases()
