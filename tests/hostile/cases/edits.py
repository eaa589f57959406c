"""Edits of JSON and YAML that strangers make: what can stand where something else did."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

Path = tuple[str | int, ...]
Edit = Callable[[Any], Any]

HUGE = 10**400


class Raw(float):
    """A number that is written as it is spelt, though JSON has no such number."""

    def __new__(cls, text: str) -> Raw:
        self = super().__new__(cls, 0.0)
        self.text = text  # type: ignore[attr-defined]
        return self

    def __repr__(self) -> str:
        return str(self.text)  # type: ignore[attr-defined]


DROP = object()
EXTRA = object()


def _deep(value: Any) -> Any:
    for _ in range(200):
        value = [value]
    return value


def _longer(value: Any) -> Any:
    if isinstance(value, list):
        return [*value, *(value[:1] or [None])]
    return [value, value]


def _shorter(value: Any) -> Any:
    return value[:-1] if isinstance(value, list | str) else []


EDITS: dict[str, Edit] = {
    "drop": lambda value: DROP,
    "null": lambda value: None,
    "text for it": lambda value: 7 if isinstance(value, str) else "seven",
    "list for it": lambda value: {"a": 1} if isinstance(value, list) else [value],
    "object for it": lambda value: [] if isinstance(value, dict) else {"value": value},
    "NaN": lambda value: Raw("NaN"),
    "1e999": lambda value: Raw("1e999"),
    "1e300": lambda value: 1e300,
    "huge integer": lambda value: Raw(str(HUGE)),
    "large integer": lambda value: 2**62,
    "negative": lambda value: -0.5 if isinstance(value, float) else -3,
    "above one": lambda value: 1.5,
    "zero": lambda value: 0,
    "true": lambda value: True,
    "longer": _longer,
    "shorter": _shorter,
    "deep": _deep,
    "newline": lambda value: "two\nlines",
    "escape": lambda value: "\x1b[2J\x07gone",
    "maths": lambda value: "$\\frac{1}{$",
    "HTML": lambda value: "<script>alert(1)</script>",
    "10,000 characters": lambda value: "x" * 10_000,
    "surrogate": lambda value: "\ud800",
    "extra": lambda value: EXTRA,
}
"""By name, what makes another value of one."""


def paths(value: Any, here: Path = ()) -> Iterator[Path]:
    """All places in a tree of plain values; of lists the first entry and the last alone."""
    if here:
        yield here
    if isinstance(value, dict):
        for key in value:
            yield from paths(value[key], (*here, key))
    elif isinstance(value, list) and value:
        for index in sorted({0, len(value) - 1}):
            yield from paths(value[index], (*here, index))


def edited(value: Any, place: Path, edit: Edit) -> Any:
    """A copy of a tree in which what lies at `place` is edited."""
    if not place:
        return edit(value)
    first, *rest = place
    changed = edited(value[first], tuple(rest), edit)
    copy = value.copy()
    if changed is DROP:
        del copy[first]
    elif changed is EXTRA:
        if isinstance(copy, dict):
            copy["\u202ean <extra> $key$"] = {"deep": [1, None]}
    else:
        copy[first] = changed
    return copy


def spelt(value: Any) -> str:
    """A tree as JSON, or what looks like it."""
    if isinstance(value, Raw):
        return repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)}: {spelt(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(spelt, value)) + "]"
    return json.dumps(value)
