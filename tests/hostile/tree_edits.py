"""Edits of a JSON tree, one value at a time: every key of a made run gets its turn."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

Path = tuple[str | int, ...]
OVERFLOW = "@overflow@"  # stands for a number that no float holds
GONE = object()

NAMES: dict[str, str] = {
    "newline": "two\nlines",
    "escape": "\x1b[2Jgone\x07",
    "turned": "\u202eturned\u2028",
    "mathtext": r"$\frac{$ and $x$",
    "markup": "</td><script>alert(1)</script>'\"&",
    "long": "W" * 10_000,
    "half": "\ud83d",
    "up": "../../outside/precious.txt",
}
VALUES: dict[str, Callable[[Any], Any]] = {
    "dropped": lambda value: GONE,
    "null": lambda value: None,
    "true": lambda value: True,
    "text": lambda value: "many",
    "quoted": lambda value: json.dumps(value),
    "nan": lambda value: float("nan"),
    "overflow": lambda value: OVERFLOW,
    "huge": lambda value: 10**300,
    "large": lambda value: 1e300,
    "negative": lambda value: -1,
    "half": lambda value: 0.5,
    "no list": lambda value: [],
    "no object": lambda value: {},
    "longer": lambda value: [*value, *value] if isinstance(value, list) else [value, value],
    "shorter": lambda value: value[:-1] if isinstance(value, list) else 0,
    "deep": lambda value: _nested(80),
}


def _always(text: str) -> Callable[[Any], Any]:
    return lambda value: text


VALUES.update({f"name {name}": _always(text) for name, text in NAMES.items()})


def paths(value: Any, tables: frozenset[str], path: Path = ()) -> Iterator[Path]:
    """Every key of a tree; of lists the first entry, of tables of names the first one alone."""
    if isinstance(value, list):
        value = {0: value[0]} if value else {}
    if not isinstance(value, dict):
        return
    names = list(value)
    if path and path[-1] in tables:
        names = names[:1]
    for name in names:
        yield (*path, name)
        yield from paths(value[name], tables, (*path, name))


def edited(tree: Any, path: Path, change: Callable[[Any], Any]) -> Any:
    """A copy of the tree in which the value at `path` is another one, or gone."""
    whole = copy.deepcopy(tree)
    parent = whole
    for step in path[:-1]:
        parent = parent[step]
    value = change(parent[path[-1]])
    if value is GONE:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return whole


def renamed(tree: Any, path: Path, name: str) -> Any:
    """A copy of the tree in which the key at `path` has another name, in its place."""
    whole = copy.deepcopy(tree)
    parent = whole
    for step in path[:-1]:
        parent = parent[step]
    if isinstance(parent, dict):
        entries = [(name if key == path[-1] else key, value) for key, value in parent.items()]
        parent.clear()
        parent.update(entries)
    return whole


def as_json(tree: Any) -> str:
    """The tree as JSON, with NaN where there is one, and a number that is too large."""
    return json.dumps(tree).replace(f'"{OVERFLOW}"', "1e999")


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value
