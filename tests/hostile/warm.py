"""Imports that many cases share, done once before the children are forked."""

from __future__ import annotations

import importlib
from functools import cache

from robustkit.cli.commands import load_command

_DRAWING = ("matplotlib.figure", "matplotlib.backends.backend_svg", "jinja2", "scipy.stats")


@cache
def warm(*commands: str) -> None:
    """Import the modules of these commands, and what draws."""
    for name in _DRAWING:
        importlib.import_module(name)
    for command in commands:
        load_command(command)
