"""Edits of plain values, as JSON and YAML hold them: every key path is hit by some of them.

An edit makes a tree of a tree and changes none. The same edits come out every time.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]
Edit = Callable[[Any], Any]

DROP = object()  # what an edit returns for a value that goes, key and all


@dataclass(frozen=True)
class Raw:
    """A number that is written as it is spelt, in JSON and in YAML; many JSON has no such one."""

    json: str
    yaml: str


NAN = Raw("NaN", ".nan")
OVERFLOW = Raw("1e999", ".inf")
DIGITS = Raw("9" * 5000, "9" * 5000)
EXTRA = "\u202ean <extra> $key$"

NAMES = {
    "no characters": "",
    "newline": "two\nlines",
    "escape": "\x1b[2Jgone\x07",
    "turned": "\u202eturned\u2028",
    "mathtext": r"$\frac{$ and $x$",
    "HTML": "</td><script>alert(1)</script>'\"&",
    "10,000 characters": "W" * 10_000,
    "surrogate": "\ud83d",
    "path outside": "../../outside/precious.txt",
}
"""By name, texts that a file or a page should not take as they are."""


def _constant(value: Any) -> Edit:
    return lambda _: value


def _nested(depth: int) -> Edit:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return _constant(value)


def _longer(value: Any) -> Any:
    if isinstance(value, list):
        return [*value, *(value or [None])]
    return [value, value]


def _shorter(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: value[key] for key in list(value)[1:]}
    return value[:-1] if isinstance(value, list | str) else []


def _named(text: str) -> Edit:
    """An object has its first key renamed; anything else becomes the text itself."""

    def edit(value: Any) -> Any:
        if not isinstance(value, dict):
            return text
        return renamed(value, (next(iter(value)),), text) if value else {text: 1}

    return edit


def _extra(value: Any) -> Any:
    return {**value, EXTRA: {"deep": [1, {"er": None}]}} if isinstance(value, dict) else value


EDITS: dict[str, Edit] = {
    "drop": _constant(DROP),
    "null": _constant(None),
    "text for it": lambda value: 7 if isinstance(value, str) else "seven",
    "list for it": lambda value: {"a": 1} if isinstance(value, list) else [value],
    "object for it": lambda value: [] if isinstance(value, dict) else {"value": value},
    "quoted": lambda value: spelt(value),
    "NaN": _constant(NAN),
    "1e999": _constant(OVERFLOW),
    "1e300": _constant(1e300),
    "1e14": _constant(1e14),
    "huge integer": _constant(10**400),
    "large integer": _constant(2**62),
    "integer that is a float": _constant(10**300),
    "5,000 digits": _constant(DIGITS),
    "negative": lambda value: -0.5 if isinstance(value, float) else -3,
    "above one": _constant(1.5),
    "fraction": _constant(0.123456),
    "zero": _constant(0),
    "true": _constant(True),
    "empty list": _constant([]),
    "empty object": _constant({}),
    "longer": _longer,
    "shorter": _shorter,
    "nested": _nested(50),  # not too deep for a reader of JSON
    "deep": _nested(200),
    "extra": _extra,
    **{name: _named(text) for name, text in NAMES.items()},
}
"""By name, what makes another value of one."""


def paths(tree: Any) -> Iterator[Path]:
    """All places in a tree; of lists, and of tables with entries alike, the first and the last.

    What lies in the last is passed over, as it is like what lies in the first.
    """
    keys: list[Any] = []
    if isinstance(tree, dict):
        keys = list(tree)
    elif isinstance(tree, list):
        keys = list(range(len(tree)))
    table = isinstance(tree, list) or _alike(tree)
    for key in keys[:1] if table else keys:
        yield (key,)
        yield from ((key, *below) for below in paths(tree[key]))
    if table and len(keys) > 1:
        yield (keys[-1],)


def _alike(tree: Any) -> bool:
    """Whether all entries of an object are objects with the same keys."""
    values = [*tree.values()] if isinstance(tree, dict) else []
    return len(values) > 1 and all(
        isinstance(each, dict) and each.keys() == values[0].keys() for each in values
    )


def edited(tree: Any, path: Path, edit: Edit) -> Any:
    """A copy of the tree in which what lies at `path` is edited, or gone."""
    if not path:
        return edit(tree)
    first, *rest = path
    changed = edited(tree[first], tuple(rest), edit)
    copy = tree.copy()
    if changed is DROP:
        del copy[first]
    else:
        copy[first] = changed
    return copy


def renamed(tree: Any, path: Path, name: str) -> Any:
    """A copy of the tree in which the key at `path` has another name, in its place."""
    *above, last = path

    def edit(holder: Any) -> Any:
        return {name if key == last else key: value for key, value in holder.items()}

    return edited(tree, tuple(above), edit)


def spelt(tree: Any, *, yaml: bool = False) -> str:
    """The tree as JSON, or what looks like it; as YAML it is the same but for some numbers."""
    if isinstance(tree, Raw):
        return tree.yaml if yaml else tree.json
    if isinstance(tree, dict):
        entries = (f"{json.dumps(key)}: {spelt(tree[key], yaml=yaml)}" for key in tree)
        return "{" + ", ".join(entries) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(spelt(each, yaml=yaml) for each in tree) + "]"
    return json.dumps(tree)


def edits(tree: Any, most: int) -> Iterator[tuple[str, Edit]]:
    """Yield names and edits of a tree of this shape: one for every path, of up to `most`."""
    places = list(paths(tree))
    for path in places[:: max(1, len(places) // most)][:most]:
        where = "/".join(map(str, path)).replace("\n", " ")
        kind = _kind(where, _at(tree, path))
        yield f"{where}: {kind}", at(path, kind)


def numbered_edits(count: int, turns: int = 1) -> Iterator[tuple[str, Edit]]:
    """Yield the same, `turns` of them for a place, of a tree with `count` that is yet to be seen.

    One that has fewer places is edited at some of them again.
    """
    kinds = list(EDITS)
    for number in range(count):
        for turn in range(turns):
            kind = kinds[(number + number // len(kinds) + 13 * turn) % len(kinds)]
            yield f"{number}/{kind}", nth(number, kind)


def at(path: Path, kind: str) -> Edit:
    """The edit of this name, of what lies at `path`."""
    return lambda tree: edited(tree, path, EDITS[kind])


def nth(number: int, kind: str) -> Edit:
    """The edit of this name, of what lies at one of a tree's places."""
    return lambda tree: edited(tree, nth_path(tree, number), EDITS[kind])


def nth_path(tree: Any, number: int) -> Path:
    """One of the places of a tree, counted round and round."""
    places = list(paths(tree))
    return places[number % len(places)]


def _kind(where: str, value: Any) -> str:
    """The name of an edit that changes a value, chosen by where it lies."""
    kinds, seed = list(EDITS), zlib.crc32(where.encode(errors="surrogatepass"))
    turned = (kinds[(seed + turn) % len(kinds)] for turn in range(len(kinds)))
    return next(kind for kind in turned if kind == "drop" or _differs(value, EDITS[kind](value)))


def _differs(value: Any, changed: Any) -> bool:
    return spelt(value) != spelt(changed)


def _at(tree: Any, path: Path) -> Any:
    for step in path:
        tree = tree[step]
    return tree
