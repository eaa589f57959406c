"""Imports that many cases share, done once, before children are forked that each would."""

from __future__ import annotations

import importlib
from functools import cache

_DRAWING = ("matplotlib.figure", "matplotlib.backends.backend_svg", "jinja2", "scipy.stats")


@cache
def warm(*verbs: str) -> None:
    """Import the modules of these verbs, and what draws."""
    for name in (*_DRAWING, *(f"experiments.verbs.{verb}" for verb in verbs)):
        importlib.import_module(name)
