"""Patches, states, galleries and other tensor files of runs that somebody sent; and --scratch."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from tests.hostile.case import EITHER, REFUSED, Case, Ending, Place

Tensors = dict[str, Tensor]
Notes = dict[str, str]
Change = Callable[[Tensors, Notes], object]
NOTE = "robustkit-patch"
FEW = ["--method", "saliency", "--no-check", "--device", "cpu"]


def _first(tensors: Tensors, part: str) -> str:
    return next(name for name in sorted(tensors) if name.startswith(f"{part}/"))


def _replaced(part: str, make: Callable[[Tensor], Tensor]) -> Change:
    def change(tensors: Tensors, notes: Notes) -> None:
        name = _first(tensors, part)
        tensors[name] = make(tensors[name])

    return change


def _renamed(new: str) -> Change:
    def change(tensors: Tensors, notes: Notes) -> None:
        old = _first(tensors, "new").removeprefix("new/")
        for part in ("indices", "old", "new"):
            tensors[f"{part}/{new}"] = tensors.pop(f"{part}/{old}")

    return change


def _noted(**told: Any) -> Change:
    def change(tensors: Tensors, notes: Notes) -> None:
        notes[NOTE] = json.dumps({**json.loads(notes[NOTE]), **told})

    return change


def _said(text: str) -> Change:
    return lambda tensors, notes: notes.update({NOTE: text})


def _all(make: Callable[[Tensor], Tensor]) -> Change:
    def change(tensors: Tensors, notes: Notes) -> None:
        for part in ("indices", "old", "new"):
            _replaced(part, make)(tensors, notes)

    return change


PATCHES: dict[str, Change] = {
    "an index out of range": _replaced("indices", lambda each: each + 10**9),
    "the largest index": _replaced("indices", lambda each: torch.full_like(each, 2**63 - 1)),
    "a negative index": _replaced("indices", lambda each: -1 - each),
    "another index": _replaced("indices", lambda each: (each + 1) % 7),
    "indices twice": _all(lambda each: torch.cat([each, each])),
    "indices as floats": _replaced("indices", lambda each: each.double()),
    "indices in rows": _all(lambda each: each[None]),
    "values of another length": _replaced("new", lambda each: torch.cat([each, each])),
    "values of another type": _replaced("new", lambda each: each.double()),
    "values in eight bits": _replaced("new", lambda each: each.to(torch.float8_e4m3fn)),
    "values that are complex": _replaced("new", lambda each: each.to(torch.complex64)),
    "values that are none": _replaced("new", lambda each: torch.full_like(each, torch.nan)),
    "infinite values": _replaced("new", lambda each: torch.full_like(each, -torch.inf)),
    "huge values": _replaced("new", lambda each: torch.full_like(each, 3e38)),
    "other values": _replaced("new", lambda each: each + 1),
    "no values": _all(lambda each: each[:0]),
    "a name that is not there": _renamed("nowhere.weight"),
    "a name with an escape": _renamed("\x1b[2J\nweight"),
    "a name of 10,000 characters": _renamed("x" * 10_000),
    "a name that leads out": _renamed("../../weight"),
    "an empty name": _renamed(""),
    "a part too many": lambda tensors, notes: tensors.update(more=torch.zeros(1)),
    "a part too few": lambda tensors, notes: tensors.pop(_first(tensors, "old")),
    "another parent": _noted(parent="0" * 64),
    "another child": _noted(child="0" * 64),
    "a parent of another type": _noted(parent=3),
    "a parent with an escape": _noted(parent="\x1b]0;x\x07" * 3),
    "a newer format": _noted(format=99),
    "a format with an escape": _noted(format="\x1b[2J\n" * 1000),
    "provenance of another type": _noted(provenance=[]),
    "no notes": _said("null"),
    "notes that are no JSON": _said("{"),
    "notes that are deep": _said("[" * 50_000 + "]" * 50_000),
    "notes with NaN": _said('{"format": NaN}'),
    "another kind of file": lambda tensors, notes: notes.pop(NOTE),
}


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def _noise(whole: bytes) -> bytes:
    chosen, changed = random.Random(0), bytearray(whole)
    for _ in range(20):
        changed[chosen.randrange(len(changed))] ^= 1 + chosen.randrange(255)
    return bytes(changed)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _sparse(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(2**41)


FILES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": _bytes(lambda whole: b""),
    "cut": _bytes(lambda whole: whole[: len(whole) // 2]),
    "noise": _bytes(_noise),
    "a header of 2**63 bytes": _bytes(lambda whole: struct.pack("<Q", 2**63) + whole[8:]),
    "text": _bytes(lambda whole: b"no tensors, and no short text" * 10),
    "of other tensors": _bytes(lambda whole: save({"a": torch.zeros(3)})),
    "pipe": _pipe,
    "folder": _folder,
    "sparse": _sparse,
}
# Of tensor files that a report or a run that goes on reads: what each entry may be changed to.
TENSORS: dict[str, Callable[[Tensor], Tensor | None]] = {
    "missing": lambda each: None,
    "shorter": lambda each: each[:-1] if each.dim() and len(each) else each[None],
    "flat": lambda each: each.flatten()[:1].squeeze(),
    "of another type": lambda each: each.to(torch.int32),
    "in half precision": lambda each: each.to(torch.float16),
    "negative": lambda each: (
        torch.full_like(each, -5) if each.dtype == torch.int64 else -each.float() - 9
    ),
    "huge": lambda each: (
        torch.full_like(each, 2**40 if each.dtype == torch.int64 else 1e38)
        if each.dtype in (torch.int64, torch.float32, torch.float64)
        else each[None]
    ),
    "not a number": lambda each: each * torch.nan,
}
GALLERY = ["index", "labels", "clean", "adversarial", "predicted", "gradients"]
EXAMPLES = [f"{kind}.{part}" for kind in ("repaired", "broken") for part in ("index", "image")]
VERDICT = ["correct", "under_R", "under_own", "cosine", "norm"]


def _read(path: Path) -> tuple[Tensors, Notes]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def cases() -> Iterator[Case]:
    """Explain by a patch, report and resume with tensors, and scratch elsewhere."""
    for name, change in PATCHES.items():
        # A patch that says what it does, and does it, is one.
        ends = EITHER if name in ("no values", "notes with NaN") else REFUSED
        yield Case(f"patch/{name}", _patched(change), ends=ends)
    yield Case("patch/another checksum", _patched(lambda tensors, notes: None, summed=False))
    for name, spoil in FILES.items():
        yield Case(f"patch/file {name}", _spoilt("repair", "patch.safetensors", spoil, _explained))
        yield Case(
            f"tensors/gallery/{name}", _spoilt("evolve", "gallery.safetensors", spoil, _reported)
        )
        yield Case(
            f"tensors/examples/{name}", _spoilt("repair", "examples.safetensors", spoil, _reported)
        )
        for file in ("evaluation/E-0", "nets/E-0", "nets/R", "nets/S"):
            yield Case(
                f"tensors/{file}/{name}",
                _spoilt("evolve", f"{file}.safetensors", spoil, _resumed),
                seconds=120,
                ends=EITHER if name == "noise" else REFUSED,
            )
    for entry, run, file, names in (
        ("gallery", "evolve", "gallery.safetensors", GALLERY),
        ("examples", "repair", "examples.safetensors", EXAMPLES),
    ):
        for name in names:
            for change_name, make in TENSORS.items():
                yield Case(
                    f"tensors/{entry}/{name}/{change_name}",
                    _tensor(run, file, name, make, _reported),
                    ends=EITHER,
                )
    for turn, name in enumerate(VERDICT):
        for change_name, make in list(TENSORS.items())[turn % 2 :: 2]:
            yield Case(
                f"tensors/verdict/{name}/{change_name}",
                _tensor("evolve", "evaluation/E-0.safetensors", name, make, _resumed),
                ends=EITHER,
                seconds=120,
            )
    for name, make_scratch in SCRATCH.items():
        yield Case(f"scratch/{name}", _scratched(make_scratch), says="--scratch")
    yield Case("scratch/laid in wait", _laid_in_wait, says="not this run's own folder")
    yield Case("scratch/elsewhere", _elsewhere, ends=(0,), after=_gone, seconds=120)


def _reported(place: Place) -> Sequence[str]:
    return ["report", "sent"]


def _resumed(place: Place) -> Sequence[str]:
    (place.here / "sent" / "summary.json").unlink()
    return ["evolve", "--resume", "sent"]


def _explained(place: Place) -> Sequence[str]:
    return ["explain", "--repair", "sent", "--which", "repaired", *FEW]


def _with_repaired(place: Place) -> Path:
    """A repair that says it repaired an image, whatever the made one did."""
    folder = place.copy("repair", "sent")
    told = json.loads((folder / "summary.json").read_text())
    told["repaired_indices"] = [0]
    (folder / "summary.json").write_text(json.dumps(told))
    return folder


def _patched(change: Change, *, summed: bool = True) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        from robustkit.repair.patch import checksum

        path = _with_repaired(place) / "patch.safetensors"
        tensors, notes = _read(path)
        change(tensors, notes)
        tensors = {name: each.contiguous() for name, each in tensors.items()}
        notes["sha256"] = checksum(tensors, notes.get(NOTE, "")) if summed else "0" * 64
        path.write_bytes(save(tensors, metadata=notes))
        return _explained(place)

    return prepare


def _spoilt(
    run: str,
    file: str,
    spoil: Callable[[Path], object],
    command: Callable[[Place], Sequence[str]],
) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        folder = _with_repaired(place) if run == "repair" else place.copy(run, "sent")
        spoil(folder / file)
        return command(place)

    return prepare


def _tensor(
    run: str,
    file: str,
    name: str,
    make: Callable[[Tensor], Tensor | None],
    command: Callable[[Place], Sequence[str]],
) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        path = place.copy(run, "sent") / file
        tensors, notes = _read(path)
        changed = make(tensors.pop(name))
        if changed is not None:
            tensors[name] = changed.contiguous()
        path.write_bytes(save(tensors, metadata=notes))
        return command(place)

    return prepare


def _unwritable(path: Path) -> None:
    path.mkdir(mode=0o500)


SCRATCH: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "a file": lambda path: path.write_text("a thesis"),
    "a pipe": os.mkfifo,
    "a dangling link": lambda path: path.symlink_to("nowhere"),
}
if os.geteuid() != 0:  # who may do everything may write everywhere
    SCRATCH["unwritable"] = _unwritable


def _scratched(make: Callable[[Path], object]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        make(place.here / "scratch")
        place.unfinished("evolve", "sent")
        return ["evolve", "--resume", "sent", "--scratch", "scratch"]

    return prepare


def _laid_in_wait(place: Place) -> Sequence[str]:
    """A link where the run would make its own folder, as in a folder for everybody's files."""
    from evolution.protocol.workspace import scratch_of

    folder = place.unfinished("evolve", "sent")
    (place.here / "tmp").mkdir()
    scratch_of(folder, place.here / "tmp").symlink_to(place.outside / "folder")
    return ["evolve", "--resume", "sent", "--scratch", "tmp"]


def _elsewhere(place: Place) -> Sequence[str]:
    place.unfinished("evolve", "sent")
    (place.here / "tmp").mkdir()
    (place.here / "tmp" / "of others").write_text("kept")
    return ["evolve", "--resume", "sent", "--scratch", "tmp"]


def _gone(place: Place, ending: Ending) -> str | None:
    left = [each.name for each in (place.here / "tmp").iterdir()]
    if left != ["of others"] or (place.here / "sent" / "scratch").exists():
        return f"scratch is left, or more is gone: {left}"
    return None
