"""Edited files of runs of train, attack, transfer and explain: drawn, or refused in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.hostile.case import EITHER, REFUSED, Case, Ending, Place
from tests.hostile.edited_runs import (
    BROKEN,
    Prepare,
    copied,
    finished,
    then,
    with_edit,
    with_file,
    with_summary_of,
)
from tests.hostile.edits import EDITS, NAMES, Edit, at, edited, nth, numbered_edits, renamed

# How many places there are in the summary of each made run.
PLACES = {
    "train": 17,
    "attack": 65,
    "transfer": 116,
    "explain": 258,
    "checkpoints": 82,
    "explain-transfer": 201,
}
FEW = ("train", "attack")  # kinds whose every place is edited twice
RENAMED: dict[str, tuple[tuple[str | int, ...], ...]] = {
    "attack": (("models", "model"), ("pixel_space", "models", "model")),
    "transfer": (
        ("nets", "late"),
        ("matrix", "late"),
        ("matrix", "late", "late"),
        ("mcnemar", "late", "late | early"),
        ("cosines", "late | early"),
        ("sets", "keys", "late"),
    ),
    "explain": (
        ("scores", "cav"),
        ("scores", "random"),
        ("scores", "cav", "sanity", "cascading", "net.head.1"),
    ),
    "checkpoints": (("changes", "cav"),),
}
SETTINGS = {"train": 35, "attack": 24, "transfer": 36, "explain": 38, "checkpoints": 47}
PICTURES = {"explain": "panel_000.png", "checkpoints": "strip_001_saliency.png"}
FILES = {**PICTURES, "transfer": "examples.safetensors", "train": "metrics.jsonl"}
HEADS: dict[str, dict[str, Any]] = {
    "another verb": {"verb": "juggle"},
    "verb of two lines": {"verb": "train\nattack\x1b[2J"},
    "newer format": {"format": 99},
    "format as text": {"format": "1"},
    "format beyond counting": {"format": 10**300},
}


def cases() -> Iterator[Case]:
    """Reports of edited runs, and whatever else reads them."""
    for kind, count in PLACES.items():
        yield Case(f"summary/{kind}/sound", _report(kind, lambda tree: tree), ends=(0,))
        yield Case(f"summary/{kind}/unknown key", _report(kind, _with_unknown), ends=(0,))
        for name, edit in numbered_edits(count, turns=2 if kind in FEW else 1):
            yield Case(f"summary/{kind}/{name}", _report(kind, edit), ends=EITHER, seconds=30)
        for path in RENAMED.get(kind, ()):
            for name, text in NAMES.items():
                prepare = _report(kind, _renamed(path, text))
                where = ".".join(map(str, path))
                yield Case(f"summary/{kind}/{where}/named {name}", prepare, ends=EITHER, seconds=30)
        for name, content in BROKEN.items():
            prepare = with_file(copied(kind), "summary.json", content)
            yield Case(f"summary/{kind}/whole/{name}", prepare)
        for name, head in HEADS.items():
            yield Case(f"summary/{kind}/head/{name}", _report(kind, _updated(head)))
        for other in PLACES:
            # Nothing drawn of a training's checkpoints is in one model's explanation, or back.
            if other != kind and {other, kind} != {"explain", "explain-transfer"}:
                prepare = with_summary_of(copied(kind), finished(other))
                yield Case(f"summary/{kind}/that of {other}", prepare)
    yield from _of_settings()
    yield from _of_files()
    yield from _of_readers()


def _of_settings() -> Iterator[Case]:
    for kind, count in SETTINGS.items():
        for name, edit in numbered_edits(count):
            yield Case(f"settings/{kind}/{name}", _configured(kind, edit), ends=EITHER)
        for name in ("drop", "null", "empty list", "huge integer", "deep", "escape"):
            key = ("config", "method" if kind in PICTURES else "data")
            prepare = _configured(kind, at(key, name))
            yield Case(f"settings/{kind}/{key[1]}/{name}", prepare, ends=EITHER)
        for name, command in (
            ("none", {}),
            ("null", {"command": None}),
            ("numbers", {"command": [1, 2]}),
            ("text", {"command": "robustkit"}),
        ):
            prepare = with_file(copied(kind), "env.json", json.dumps(command))
            yield Case(f"env/{kind}/command {name}", prepare)
        strange = {"command": ["robustkit"], "os": "\x1b[2J\x00", "cores": 10**300, "cpu": [[{}]]}
        prepare = with_file(copied(kind), "env.json", json.dumps(strange))
        yield Case(f"env/{kind}/strange", prepare, ends=(0,), after=_no_controls)


def _of_files() -> Iterator[Case]:
    for kind, name in FILES.items():
        # A training without metrics has an empty course.
        ends = EITHER if kind == "train" else REFUSED
        for how, change in _KINDS.items():
            yield Case(f"files/{kind}/{name}/{how}", _changed(kind, name, change), ends=ends)
    for number in range(9):
        for name in list(EDITS)[number % 2 :: 2]:
            prepare = _with_lines(nth(number, name))
            yield Case(f"metrics/train/{number}/{name}", prepare, ends=EITHER)
    for name, tensors in _examples().items():
        yield Case(f"examples/transfer/{name}", tensors)


def _of_readers() -> Iterator[Case]:
    quick = ["--method", "saliency", "--no-check", "--device", "cpu", "--out", "new"]
    attacked = ["explain", "--transfer", "sent", "--pair", "late:early", *quick]
    over = ["explain", "--run", "sent", "--index", "0", *quick]
    repaired = ["explain", "--repair", "sent", "--which", "repaired", *quick]
    again = ["repair", "--run", "sent", "--iterations", "1", "--device", "cpu", "--out", "new"]
    for name in ("drop", "text for it", "empty list", "huge integer", "deep"):
        for key in ("sources", "targets", "data", "seed", "attack", "eps", "cache", "gradients"):
            prepare = then(_configured("transfer", at(("config", key), name)), attacked)
            yield Case(f"read/transfer/{key}/{name}", prepare, ends=EITHER)
        for key in ("sets", "verb"):
            prepare = then(_report("transfer", at((key,), name)), attacked)
            yield Case(f"read/transfer/summary {key}/{name}", prepare, ends=EITHER)
        for key in ("data", "root"):
            for command, told in ((over, "explain"), (again, "repair")):
                prepare = then(_configured("train", at(("config", key), name)), command)
                yield Case(f"read/train/{told} {key}/{name}", prepare, ends=EITHER)
        prepare = then(_report("train", at(("best_epoch",), name)), again)
        yield Case(f"read/train/best_epoch/{name}", prepare, ends=EITHER)
        prepare = then(_with_lines(at(("val_acc",), name)), over)
        yield Case(f"read/train/val_acc/{name}", prepare, ends=EITHER)
        for key in ("model", "data", "root", "repair_on", "protocol"):
            prepare = then(_configured("repair", at(("config", key), name)), repaired)
            yield Case(f"read/repair/{key}/{name}", prepare, ends=EITHER)
        prepare = then(_report("repair", at(("repaired_indices",), name)), repaired)
        yield Case(f"read/repair/repaired_indices/{name}", prepare, ends=EITHER)
    code = "open('../outside/made-by-code', 'w')\n\ndef make():\n    pass\n"
    for kind, key, value, command in (
        ("transfer", "sources", ["late=evil.py:make"], attacked),
        ("repair", "model", "evil.py:make", repaired),
    ):
        prepare = then(_configured(kind, _set(("config", key), value)), command)
        yield Case(f"read/{kind}/code", _beside("evil.py", code, prepare), says="")
    elsewhere = _configured("transfer", _set(("config", "cache"), "../outside/cache"))
    yield Case("read/transfer/cache elsewhere", then(elsewhere, attacked), ends=EITHER)


def _report(kind: str, edit: Edit) -> Prepare:
    return with_edit(copied(kind), "summary.json", edit)


def _configured(kind: str, edit: Edit) -> Prepare:
    return with_edit(copied(kind), "config.yaml", edit)


def _with_lines(edit: Edit) -> Prepare:
    return with_edit(copied("train"), "metrics.jsonl", edit)


def _changed(kind: str, name: str, change: Callable[[Path, Place], None]) -> Prepare:
    def prepare(place: Place) -> Sequence[str]:
        file = place.copy(kind, "sent") / name
        file.unlink()
        change(file, place)
        return ["report", "sent"]

    return prepare


def _beside(name: str, content: str, prepare: Prepare) -> Prepare:
    def prepared(place: Place) -> Sequence[str]:
        place.write(name, content)
        return prepare(place)

    return prepared


def _renamed(path: tuple[str | int, ...], name: str) -> Edit:
    return lambda tree: renamed(tree, path, name)


def _updated(head: dict[str, Any]) -> Edit:
    return lambda tree: {**tree, **head}


def _set(path: tuple[str | int, ...], value: Any) -> Edit:
    return lambda tree: edited(tree, path, lambda _: value)


def _with_unknown(tree: Any) -> Any:
    """The tree with a key in every object that no version ever wrote."""
    if isinstance(tree, list):
        return [_with_unknown(each) for each in tree]
    if not isinstance(tree, dict) or _is_table(tree):
        return tree
    return {**{name: _with_unknown(value) for name, value in tree.items()}, "\x1b": "new"}


def _is_table(tree: dict[str, Any]) -> bool:
    """Whether an object's keys are names, of which a new one would lack what the others have."""
    values = list(tree.values())
    return bool(values) and (
        all(isinstance(each, dict | list) for each in values) or set(tree) == {"late | early"}
    )


def _no_controls(place: Place, ending: Ending) -> str | None:
    page = (place.here / "sent" / "report.html").read_text()
    found = {each for each in page if ord(each) < 32} - {"\n", "\t"}
    return f"control characters in the page: {sorted(found)}" if found else None


def _huge(path: Path, place: Place) -> None:
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.truncate(2**40)


def _drawing(path: Path, place: Place) -> None:
    path.write_text("<svg onload='alert(1)'/>\n")


_KINDS: dict[str, Callable[[Path, Place], None]] = {
    "missing": lambda path, place: None,
    "link": lambda path, place: path.symlink_to(place.outside / "precious.txt"),
    "dangling link": lambda path, place: path.symlink_to("nowhere"),
    "folder": lambda path, place: path.mkdir(),
    "pipe": lambda path, place: os.mkfifo(path),
    "huge": _huge,
    "empty": lambda path, place: path.touch(),
    "of another kind": _drawing,
}


def _examples() -> dict[str, Prepare]:
    import torch
    from safetensors.torch import load, save

    def changed(**tensors: Any) -> Prepare:
        def prepare(place: Place) -> Sequence[str]:
            file = place.copy("transfer", "sent") / "examples.safetensors"
            kept = load(file.read_bytes())
            names = tensors.pop("classes", "\n".join("0123456789"))
            for name, change in tensors.items():
                key = f"0.{name}"
                kept[key] = change(kept[key]).contiguous()
            told = None if names is None else {"classes": names}
            file.write_bytes(save(kept, metadata=told))
            return ["report", "sent"]

        return prepare

    return {
        "no classes": changed(classes=None),
        "one class": changed(classes="one", label=lambda label: label + 1),
        "label beyond": changed(label=lambda label: label + 10**9),
        "label below": changed(label=lambda label: label - 10**9),
        "labels of halves": changed(label=lambda label: label.double()),
        "more labels": changed(label=lambda label: torch.cat([label, label])),
        "no images": changed(clean=lambda clean: clean[:0]),
        "images of floats": changed(clean=lambda clean: clean.float()),
        "flat images": changed(clean=lambda clean: clean.flatten()),
        "a number": changed(clean=lambda clean: clean.flatten()[0]),
        "other images": changed(made=lambda made: made[:, :, :4]),
        "other targets": changed(misled=lambda misled: misled[:1]),
        "no truth": changed(misled=lambda misled: misled.long()),
        "two channels": changed(
            clean=lambda clean: clean.repeat(1, 2, 1, 1), made=lambda made: made.repeat(1, 2, 1, 1)
        ),
    }
