"""Hostile variants of a sound file: bytes cut, flipped and spliced, values made absurd."""

from __future__ import annotations

import json
from random import Random
from typing import Any

NASTY: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2,
        7,
        10**6,
        2**31,
        2**63,
        -(2**63),
        10**30,
        10**400,
        1e308,
        -1e308,
    ),
    *(0.5, "", "x", "\x00", "../../etc/passwd", "a" * 2000, "8/0", "nan", [], {}, [[]], [None]),
    *([1] * 50, {"x": 1}, "$\\foo$", "<script>", "é" * 20, "torchvision:resnet18", "os:system"),
)
FRAGMENTS: tuple[bytes, ...] = (
    *(b"\x00", b"\xff" * 8, b"<!DOCTYPE a>", b"&lt;", b"{", b"]", b'"', b"\n", b": ", b"- "),
    *(b"!!python/object/apply:os.system ['true']", b"1e999", b"NaN", b"9" * 400, b"&a *a"),
)


def damaged(content: bytes, rng: Random) -> bytes:
    """Some bytes of `content` changed, left out, doubled or put in."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(len(found) + 1)
        kind = rng.randrange(6)
        if kind == 0 and found:
            found[min(place, len(found) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del found[place : place + rng.choice((1, 2, 8, 64, 4096))]
        elif kind == 2:
            found[place:place] = rng.choice(FRAGMENTS)
        elif kind == 3:
            found[place : place + 8] = rng.randbytes(8)
        elif kind == 4:
            other = rng.randrange(len(found) + 1)
            found[place:place] = found[other : other + rng.choice((4, 32, 256))]
        else:
            del found[place:]
    return bytes(found)


def absurd(value: Any, rng: Random, depth: int = 0) -> Any:
    """A JSON value with one of its parts replaced, left out, doubled or misnamed."""
    if depth and (rng.random() < 0.25 or not isinstance(value, dict | list) or not value):
        return rng.choice(NASTY)
    if isinstance(value, dict) and value:
        found = dict(value)
        name = rng.choice(sorted(found, key=str))
        kind = rng.randrange(8)
        if kind == 0:
            del found[name]
        elif kind == 1:
            found[f"{name}2"] = found.pop(name)
        else:
            found[name] = absurd(found[name], rng, depth + 1)
        return found
    if isinstance(value, list) and value:
        items = list(value)
        place = rng.randrange(len(items))
        kind = rng.randrange(6)
        if kind == 0:
            del items[place]
        elif kind == 1:
            items *= rng.choice((2, 50))
        else:
            items[place] = absurd(items[place], rng, depth + 1)
        return items
    return rng.choice(NASTY)


def absurd_json(text: str, rng: Random) -> str:
    """`absurd` on JSON text, up to three times over."""
    value = json.loads(text)
    for _ in range(rng.choice((1, 1, 2, 3))):
        value = absurd(value, rng)
    return json.dumps(value)
