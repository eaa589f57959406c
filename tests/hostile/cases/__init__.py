"""All cases, a module for each kind of attack."""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.case import Case
from tests.hostile.cases import arrays, caches, links, models, paths, pictures, tables

MODULES = (arrays, caches, links, models, paths, pictures, tables)


def every() -> Iterator[Case]:
    """Every case; no two have the same name."""
    for module in MODULES:
        yield from module.cases()
