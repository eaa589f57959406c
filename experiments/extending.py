"""`--extend`: modules of a person's own, whose attacks, blocks, maps, … can then be named."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from robustkit import extensions

FLAG = "--extend"
EXTEND_HELP = "your own modules, whose attacks, blocks, objectives, maps, … can then be named"


def named_modules(arguments: Sequence[str]) -> list[str]:
    """The modules that flags name; what is wrong with them is the parser's to say."""
    told = [value for flag, value in pairwise(arguments) if flag == FLAG and value[:2] != "--"]
    told += [each.partition("=")[2] for each in arguments if each.startswith(f"{FLAG}=")]
    return [name for each in told for part in each.split(",") if (name := part.strip())]


def load_modules(values: dict[str, Any], given: dict[str, Any]) -> None:
    """Import what flags and file name; where there is nothing, there is no such setting either."""
    if not values["extend"]:
        del values["extend"]
        given.pop("extend", None)
    extensions.load(*values.get("extend", ()))
