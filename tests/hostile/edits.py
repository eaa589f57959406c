"""Edits of a JSON tree such that every key path is hit by some of them, the same every time."""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

Path = tuple[str | int, ...]
NESTED: Any = json.loads("[" * 60 + "]" * 60)
HUGE = 10**300
BAD_TEXTS = ("a\nb", "\x1b[2Jx", "$x$", "<script>alert(1)</script>", "x" * 10_000, "\u202etxt", "")
EXTRA = "never heard of"

# What replaces a value, by name; `NaN` and `1e999` are written as such, which no JSON has.
_ANY: dict[str, Any] = {"null": None, "list": [], "object": {}, "true": True, "nested": NESTED}
_NUMBER: dict[str, Any] = {
    "text": "12",
    "NaN": "@NaN@",
    "1e999": "@1e999@",
    "huge": HUGE,
    "negative": -7,
    "large": 1e14,
    "float": 0.123456,
    "digits": "@" + "9" * 5000 + "@",
}
_TEXT: dict[str, Any] = {"number": 3, **{f"text {n}": text for n, text in enumerate(BAD_TEXTS)}}


def edits(tree: Any, most: int) -> Iterator[tuple[str, Callable[[Any], str]]]:
    """Yield names and edits: one for every key path up to `most`, chosen by the path's name.

    An edit takes a tree of the same shape and returns the text of the file. Of tables with many
    entries alike, the first and the last are looked at.
    """
    paths = list(_paths(tree))
    step = max(1, len(paths) // most)
    for path in paths[::step][:most]:
        name = "/".join(map(str, path)).replace("\n", " ")
        seed = zlib.crc32(name.encode())
        kinds = [*_kinds(_at(tree, path)).items()]
        kind, change = kinds[seed % len(kinds)]
        yield f"{name}: {kind}", _edit(path, change)


def _paths(tree: Any, above: Path = ()) -> Iterator[Path]:
    if above:
        yield above
    keys: list[Any] = []
    if isinstance(tree, dict):
        keys = list(tree)
        if len(keys) > 12 or _alike(tree):
            keys = [keys[0], keys[-1]] if len(keys) > 1 else keys
    elif isinstance(tree, list) and tree:
        keys = [0, len(tree) - 1] if len(tree) > 1 else [0]
    for key in keys:
        yield from _paths(tree[key], (*above, key))


def _alike(tree: dict[str, Any]) -> bool:
    """Whether all entries of a table are objects with the same keys."""
    values = list(tree.values())
    return len(values) > 2 and all(
        isinstance(each, dict) and each.keys() == values[0].keys() for each in values
    )


def _kinds(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"dropped": _drop}
    found |= {name: _put(each) for name, each in _ANY.items()}
    if isinstance(value, str):
        found |= {name: _put(each) for name, each in _TEXT.items()}
    elif isinstance(value, int | float) or value is None:
        found |= {name: _put(each) for name, each in _NUMBER.items()}
    elif isinstance(value, list):
        found |= {"shorter": _shorter, "longer": _longer, "number": _put(5)}
    else:
        found |= {f"named {n}": _named(text) for n, text in enumerate(BAD_TEXTS)}
        found |= {"number": _put(5), "first gone": _first_gone}
    return found


Change = Callable[[Any, Any], None]


def _drop(holder: Any, key: Any) -> None:
    del holder[key]


def _put(value: Any) -> Change:
    def change(holder: Any, key: Any) -> None:
        holder[key] = value

    return change


def _shorter(holder: Any, key: Any) -> None:
    holder[key] = holder[key][:-1]


def _longer(holder: Any, key: Any) -> None:
    holder[key] = [*holder[key], holder[key][0] if holder[key] else None]


def _first_gone(holder: Any, key: Any) -> None:
    held = holder[key]
    if held:
        del held[next(iter(held))]


def _named(text: str) -> Change:
    def change(holder: Any, key: Any) -> None:
        held = holder[key]
        renamed = {text if number == 0 else name: held[name] for number, name in enumerate(held)}
        holder[key] = renamed

    return change


def _edit(path: Path, change: Change) -> Callable[[Any], str]:
    def edit(tree: Any) -> str:
        found = copy.deepcopy(tree)
        change(_at(found, path[:-1]), path[-1])
        text = json.dumps(found)
        for word in ("NaN", "1e999", "9" * 5000):
            text = text.replace(f'"@{word}@"', word)
        return text

    return edit


def _at(tree: Any, path: Path) -> Any:
    for step in path:
        tree = tree[step]
    return tree


def top_extra(tree: dict[str, Any]) -> str:
    """The file with one more entry at its top."""
    return json.dumps({**tree, EXTRA: {"deep": [1, {"er": None}]}})
