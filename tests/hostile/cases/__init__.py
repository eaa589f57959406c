"""All cases, a module for each kind of attack; what such modules share has no `cases`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from tests.hostile.case import Case


def every() -> Iterator[Case]:
    """Every case; no two have the same name."""
    for found in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{found.name}")
        if hasattr(module, "cases"):
            yield from module.cases()
