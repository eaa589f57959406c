"""Detectors' files and states of trainings from strangers, and runs that go on in their folders."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from robustkit.errors import ModelError
from robustkit.models.card import Card
from robustkit.models.files import _digest
from robustkit.runs import Entry, Ledger
from tests.hostile.case import EITHER, REFUSED, Case, Place
from tests.hostile.edits import edits, spelt
from tests.hostile.warm import warm

MODEL = "source-0.safetensors"
STATE = "checkpoint/adversarial-0.safetensors"
DETECT = ["--data", "shapes:photo:8?side=64", "--attack-images", "2", "--attack-steps", "1"]
SHIFT = [
    *("--source", "shapes:photo:12?side=64", "--target", "shapes:clipart:12?side=64"),
    *("--draws", "2"),
]
CARD: dict[str, Any] = {
    "architecture": {
        "family": "detector",
        "name": "tiny_ssd",
        "options": {"side": 64, "width": 16},
    },
    "classes": ["disc", "square", "triangle", "star", "cross", "ring"],
    "format": 2,
    "input_shape": [3, 64, 64],
    "parent": None,
    "preprocessing": {
        "channel_order": "rgb",
        "geometry": None,
        "input_size": [64, 64],
        "interpolation": None,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    },
    "provenance": {"recipe": "source", "notes": ["a note"]},
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "a name of nobody": {"name": "huge_ssd"},
    "torchvision's": {"name": "torchvision:ssd300_vgg16", "options": {}},
    "torchvision's of nobody": {"name": "torchvision:x", "options": {}},
    "wide": {"options": {"side": 64, "width": 512}},
    "a start": {"start": {"weights": "x"}},
    "a backbone that is none": {"backbone": {"family": "x"}, "taps": []},
    "a backbone without taps": {"backbone": {"family": "vgg"}},
    "a backbone of code": {"backbone": {"family": "factory", "factory": "os:system"}, "taps": []},
    "made of nothing": {"made": {}},
    "made of lists": {"made": [[[]]], "backbone": {"family": "vgg"}, "taps": ["x"]},
    "channels": {"channels": 10**9},
}

Tensors = dict[str, Tensor]
EditState = Callable[[Tensors, dict[str, Any]], None]


def _write(path: Path, card: str, tensors: Tensors) -> None:
    """A model file with the checksum that goes with it."""
    try:
        told = _digest(tensors, Card.from_json(card))
    except (ModelError, ValueError, TypeError):
        told = "0" * 64
    save_file(tensors, path, metadata={"robustkit": card, "sha256": told})


def _model(place: Place, card: str | None, change: Callable[[Tensors], None]) -> str:
    source = place.run("adapt") / MODEL
    with safe_open(source, framework="pt") as file:
        saved = file.metadata()["robustkit"]
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(tensors)
    _write(place.here / "m.safetensors", saved if card is None else card, tensors)
    return "m.safetensors"


def _as_it_is(tensors: Tensors) -> None:
    """Nothing is changed."""


def _used(
    verb: str, card: str | None = None, change: Callable[[Tensors], None] = _as_it_is
) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        warm("detect", "shift", "adapt")
        model = _model(place, card, change)
        if verb == "adapt":
            return ["adapt", "--backbone", model, *SHIFT[:4], "--steps", "1", "--seeds", "1"]
        return [verb, "--model", model, *(DETECT if verb == "detect" else SHIFT)]

    return prepare


def _first(tensors: Tensors) -> str:
    return sorted(tensors)[0]


def _drop(tensors: Tensors) -> None:
    del tensors[_first(tensors)]


def _more(tensors: Tensors) -> None:
    tensors["more"] = torch.zeros(1)


def _shape(tensors: Tensors) -> None:
    tensors[_first(tensors)] = torch.zeros(2, 3, 5)


def _kind(tensors: Tensors) -> None:
    name = _first(tensors)
    tensors[name] = tensors[name].to(torch.int64)


def _none(tensors: Tensors) -> None:
    tensors.clear()


def _nan(tensors: Tensors) -> None:
    for name, value in tensors.items():
        if value.is_floating_point():
            tensors[name] = torch.full_like(value, torch.nan)


TENSORS = {
    "one less": _drop,
    "one more": _more,
    "a shape": _shape,
    "whole numbers": _kind,
    "nothing": _none,
}


def _weights(content: bytes | None) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        warm("detect")
        if content is None:
            (place.here / "w.pt").mkdir()
        else:
            place.write("w.pt", content)
        return ["detect", "--model", "torchvision:ssd300_vgg16", "--weights", "w.pt", *DETECT]

    return prepare


def _unfinished(place: Place) -> Path:
    """An adaptation that was killed in its last training."""
    warm("adapt")
    folder = place.unfinished("adapt", "sent")
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as ledger, ledger:
        ledger.execute("DELETE FROM trials WHERE id = 'adversarial/0'")
    return folder


def _state(change: EditState) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        folder = _unfinished(place)
        with safe_open(folder / STATE, framework="pt") as file:
            notes = json.loads(file.metadata()["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        change(tensors, notes)
        text = notes if isinstance(notes, str) else json.dumps(notes)
        save_file(tensors, folder / STATE, metadata={"training": notes.get("text", text)})
        return ["adapt", "--resume", "sent"]

    return prepare


def _noted(**values: Any) -> EditState:
    def change(tensors: Tensors, notes: dict[str, Any]) -> None:
        notes |= values
        for name in [name for name, value in values.items() if value is ...]:
            del notes[name]

    return change


def _moment(change: Callable[[Tensors, str], None]) -> EditState:
    def edit(tensors: Tensors, notes: dict[str, Any]) -> None:
        change(tensors, next(name for name in sorted(tensors) if name.endswith("exp_avg")))

    return edit


def _renamed(to: str) -> Callable[[Tensors, str], None]:
    def change(tensors: Tensors, name: str) -> None:
        tensors[to] = tensors.pop(name)

    return change


def _gone(tensors: Tensors, name: str) -> None:
    del tensors[name]


def _small(tensors: Tensors, name: str) -> None:
    tensors[name] = torch.zeros(1)


def _perturbed(tensors: Tensors, notes: dict[str, Any]) -> None:
    tensors["tensor/delta/7"] = torch.zeros(3)


STATES: dict[str, EditState] = {
    "no step": _noted(step=...),
    "step is a text": _noted(step="6"),
    "step is negative": _noted(step=-1, losses=[]),
    "step is beyond": _noted(step=10**6, losses=[1.0] * 3),
    "losses are texts": _noted(losses=["x"] * 6),
    "losses are lists": _noted(losses=[[]] * 6),
    "losses are null": _noted(losses=None),
    "of nothing": _noted(of=None),
    "notes are a list": _noted(text="[]"),
    "notes are brackets": _noted(text="[" * 100_000),
    "notes are NaN": _noted(text='{"step": NaN}'),
    "a moment is gone": _moment(_gone),
    "a moment is small": _moment(_small),
    "a moment of nobody": _moment(_renamed("optimizer/99999/exp_avg")),
    "a moment of no number": _moment(_renamed("optimizer/x/exp_avg")),
    "a moment of another name": _moment(_renamed("optimizer/0/x")),
    "a perturbation": _perturbed,
}


def _damaged(content: bytes) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        (_unfinished(place) / STATE).write_bytes(content)
        return ["adapt", "--resume", "sent"]

    return prepare


def _result(text: str) -> Callable[[Place], Sequence[str]]:
    """What a training that is done has left in the ledger."""

    def prepare(place: Place) -> Sequence[str]:
        warm("adapt")
        folder = place.unfinished("adapt", "sent")
        with closing(sqlite3.connect(folder / "ledger.sqlite")) as ledger, ledger:
            ledger.execute("UPDATE trials SET result = ? WHERE id = 'source/0'", [text])
        return ["adapt", "--resume", "sent"]

    return prepare


def _study(place: Place, name: str) -> Path:
    """A study that has begun, at the scale of a rehearsal."""
    warm("reproduce", "evolve")
    folder = place.here / "sent"
    folder.mkdir()
    config: dict[str, Any] = {
        "name": name,
        "scale": "smoke",
        "weights": None,
        "images": None,
        "seed": 0,
    }
    config |= {"executor": "inline", "workers": 1, "ray_address": None, "cpus_per_trial": 1.0}
    config |= {"gpus_per_trial": 0.0, "device": "cpu"}
    saved = {"format": 1, "verb": "reproduce", "config": config}
    (folder / "config.yaml").write_text(yaml.safe_dump(saved))
    (folder / "env.json").write_text("{}")
    return folder


def _searched(
    result: Any, identity: str = "nsga2/generational/4/0"
) -> Callable[..., Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        folder = _study(place, "asynchronous-bias")
        with Ledger.create(folder / "ledger.sqlite") as ledger:
            told = {"payload": {}, "outcome": "Ok", "result": result}
            ledger.record(Entry(id=identity, stage="study", key=identity, **told))
        return ["reproduce", "--resume", "sent"]

    return prepare


RESULTS: dict[str, Any] = {
    "nothing": None,
    "an empty one": {},
    "texts": {"bred": "1", "spread": "2"},
    "zero": {"bred": 0, "spread": 2},
    "lists": {"bred": [], "spread": []},
}


def _inner(change: Callable[[Path, Place], None]) -> Callable[[Place], Sequence[str]]:
    """A finished run in the folder of a study, which takes over its summary."""

    def prepare(place: Place) -> Sequence[str]:
        folder = _study(place, "misalignment")
        shutil.copytree(place.run("evolve"), folder / "plain")
        change(folder / "plain", place)
        return ["reproduce", "--resume", "sent"]

    return prepare


def _of_train(path: Path, place: Place) -> None:
    shutil.rmtree(path)
    shutil.copytree(place.run("train"), path)


def _a_file(path: Path, place: Place) -> None:
    shutil.rmtree(path)
    path.write_text("x")


def _empty(path: Path, place: Place) -> None:
    shutil.rmtree(path)
    path.mkdir()
    (path / "x").write_text("x")


def _linked(path: Path, place: Place) -> None:
    shutil.rmtree(path)
    path.symlink_to(place.outside / "folder")


def _dangling(path: Path, place: Place) -> None:
    shutil.rmtree(path)
    path.symlink_to(place.outside / "folder" / "made-by-nobody")


def _pipe(path: Path, place: Place) -> None:
    (path / "summary.json").unlink()
    os.mkfifo(path / "summary.json")


def _summary(text: str) -> Callable[[Path, Place], None]:
    def change(path: Path, place: Place) -> None:
        (path / "summary.json").write_text(text)

    return change


def _without(*keys: str) -> Callable[[Path, Place], None]:
    """The summary without an entry, which the study looks at."""

    def change(path: Path, place: Place) -> None:
        told = json.loads((path / "summary.json").read_text())
        held = told
        for key in keys[:-1]:
            held = held[key]
        del held[keys[-1]]
        (path / "summary.json").write_text(json.dumps(told))

    return change


INNER: dict[str, Callable[[Path, Place], None]] = {
    "a run of train": _of_train,
    "a file": _a_file,
    "a folder of something else": _empty,
    "a link": _linked,
    "a dangling link": _dangling,
    "a pipe for its summary": _pipe,
    "no JSON": _summary("{"),
    "an empty summary": _summary("{}"),
    "nets are a list": _summary('{"nets": []}'),
    **{
        f"without {'.'.join(keys)}": _without(*keys)
        for keys in (
            ("nets",),
            ("gap",),
            ("data_digest",),
            ("seconds",),
            ("nets", "R"),
            ("nets", "E"),
            ("nets", "R2", "clean_acc_by_seed"),
            ("nets", "E0", "transfer_from_R", "headline"),
            ("gap", "points"),
        )
    },
}


def cases() -> Iterator[Case]:
    """Files of detectors, states, ledgers, and runs inside of runs."""
    for number, (name, edit) in enumerate(edits(CARD, 60)):
        verb = ("detect", "shift", "adapt")[number % 3]
        ends = REFUSED if verb == "adapt" else EITHER
        yield Case(f"{verb}/model/card/{name}", _used(verb, spelt(edit(CARD))), ends)
    for name, changes in ARCHITECTURES.items():
        card = json.dumps({**CARD, "architecture": {**CARD["architecture"], **changes}})
        yield Case(f"detect/model/architecture/{name}", _used("detect", card))
    many = json.dumps({**CARD, "classes": [str(number) for number in range(300_000)]})
    yield Case("detect/model/many classes", _used("detect", many))
    for name, change in TENSORS.items():
        for verb in ("detect", "shift"):
            yield Case(f"{verb}/model/tensors/{name}", _used(verb, None, change))
    yield Case("detect/model/tensors/NaN", _used("detect", None, _nan), EITHER)
    yield Case("shift/model/tensors/NaN", _used("shift", None, _nan))
    contents = {"nothing": b"", "noise": bytes(range(256)) * 8, "a folder": None}
    contents |= {"code": b"cos\nsystem\n(S'touch made-by-a-model'\ntR."}
    for name, content in contents.items():
        yield Case(f"detect/weights/{name}", _weights(content))
    for name, state in STATES.items():
        yield Case(f"resume/adapt/state/{name}", _state(state))
    for name, damage in {"nothing": b"", "noise": bytes(range(256)), "zeros": bytes(5000)}.items():
        yield Case(f"resume/adapt/state/{name}", _damaged(damage))
    for text in ("null", "[]", "{}", '{"source": 3}', "[" * 1000, '{"source": NaN}', "3"):
        yield Case(f"resume/adapt/result/{text[:20]}", _result(text))
    for name, result in RESULTS.items():
        yield Case(f"resume/study/result/{name}", _searched(result))
    for name, damaged in INNER.items():
        yield Case(f"resume/study/inner/{name}", _inner(damaged))
