"""Imports that many cases share, done once before the children are forked."""

from __future__ import annotations

import importlib
from functools import cache

_DRAWING = ("matplotlib.figure", "matplotlib.backends.backend_svg", "jinja2", "scipy.stats")


@cache
def warm(*verbs: str) -> None:
    """Import the modules of these verbs, and what draws."""
    for name in (*_DRAWING, *(f"robustkit.commands.{verb}" for verb in verbs)):
        importlib.import_module(name)
