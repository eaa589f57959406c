"""Caches of adversarial sets that somebody else has filled: what does not fit is made anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import save as pack
from torch import Tensor

from robustkit.attacks import cache as store
from robustkit.compute.tensorfiles import checksum
from tests.hostile.case import EITHER, Case, Place
from tests.hostile.sent import ODD, transfer

Change = Callable[[Tensor], Tensor]
KINDS = ("set", "answers", "gradients")


def _nan(value: Tensor) -> Tensor:
    return torch.full_like(value, float("nan")) if value.is_floating_point() else value - 9


VALUES: dict[str, Change] = {
    "of another shape": lambda value: value[..., :1],
    "of another type": lambda value: value.to(torch.float16),
    "of no size": lambda value: value[:0],
    "of NaN": _nan,
    "far away": lambda value: value * 0 + 7,
    "negative": lambda value: value * 0 - 1,
    "flat": lambda value: value.flatten(),
}
NOTES: dict[str, Callable[[str], str]] = {
    "of 100,000 brackets": lambda text: "[" * 100_000,
    "of 5,000 digits": lambda text: text.replace('"format": 1', '"format": ' + "9" * 5000),
    "of a list": lambda text: "[]",
    "of nothing": lambda text: "",
    "of another format": lambda text: text.replace('"format": 1', '"format": 99'),
    "of a checksum of a list": lambda text: json.dumps(json.loads(text) | {"sha256": []}),
    "of another origin": lambda text: json.dumps(json.loads(text) | {"origin": {"a": 1}}),
}


def cases() -> Iterator[Case]:
    """Evaluate with a cache in which one file is not what its name says."""
    for kind in KINDS:
        for name, change in VALUES.items():
            yield Case(f"cache/{kind}/{name}", _changed(kind, change), ends=(0,))
        for name, tell in NOTES.items():
            yield Case(f"cache/{kind}/notes {name}", _told(kind, tell), ends=(0,))
        for name, lay in ODD.items():
            # A folder in a file's place is left as it is, and nothing is kept.
            yield Case(f"cache/{kind}/file/{name}", _laid(kind, lay), ends=(0,))
        yield Case(f"cache/{kind}/other tensors", _others(kind), ends=(0,))
        yield Case(f"cache/{kind}/link outside", _linked(kind), ends=(0,))
    yield Case("cache/a file for the folder", _no_folder)
    yield Case("cache/a link to itself for the folder", _round)
    yield Case("cache/sound", _sound, ends=(0,))
    yield Case("cache/read-only", _read_only, ends=EITHER)


def _files(place: Place, kind: str) -> list[Path]:
    return sorted((place.copy("cached") / "cache").glob(f"{kind}-*.safetensors"))


def _command(place: Place) -> Sequence[str]:
    return transfer(place, "--cache", "cached/cache")


def _sound(place: Place) -> Sequence[str]:
    place.copy("cached")
    return _command(place)


def _changed(kind: str, change: Change) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        for path in _files(place, kind):
            tensors, origin = store.read(path)
            store.write(path, {name: change(value) for name, value in tensors.items()}, origin)
        return _command(place)

    return prepare


def _others(kind: str) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        for path in _files(place, kind):
            _, origin = store.read(path)
            store.write(path, {"surprise": torch.zeros(3)}, origin)
        return _command(place)

    return prepare


def _told(kind: str, tell: Callable[[str], str]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        for path in _files(place, kind):
            tensors, origin = store.read(path)
            whole = {name: value.clone() for name, value in tensors.items()}
            notes = {"format": 1, "origin": origin, "sha256": checksum(whole)}
            path.write_bytes(pack(whole, metadata={"robustkit_store": tell(json.dumps(notes))}))
        return _command(place)

    return prepare


def _laid(kind: str, lay: Callable[[Path], None]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        for path in _files(place, kind)[:1]:
            lay(path)
        return _command(place)

    return prepare


def _linked(kind: str) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        for path in _files(place, kind):
            path.unlink()
            path.symlink_to(place.outside / "precious.txt")
        return _command(place)

    return prepare


def _no_folder(place: Place) -> Sequence[str]:
    place.write("cached/cache", "a file")
    return _command(place)


def _round(place: Place) -> Sequence[str]:
    (place.here / "cached").mkdir()
    (place.here / "cached" / "cache").symlink_to("cache")
    return _command(place)


def _read_only(place: Place) -> Sequence[str]:
    (place.copy("cached") / "cache").chmod(0o500)
    return _command(place)
