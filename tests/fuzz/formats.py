"""Every kind of file that is read: a sound one, hostile variants of it, and what reads it."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load as unpack
from safetensors.torch import save as pack

from evolution import command as evolve
from evolution.protocol.config import EvolveConfig
from robustkit import data, models
from robustkit.cli.context import settings
from robustkit.cli.parser import CommandParser, config_from, plain
from robustkit.data.detection import read_coco
from robustkit.data.detection.voc import read_annotation
from robustkit.jobs import executor_of
from robustkit.models import Blueprint
from robustkit.models.files import _digest
from robustkit.repair.patch import Patch, checksum, difference
from robustkit.runs import Entry, Ledger, RunFolder
from tests.fuzz.mutations import absurd_json, damaged

CLASSES = ("dog", "person")


@dataclass(frozen=True)
class Format:
    """`variant(rng)` is a hostile file's content; `read(path)` reads a file of this kind."""

    name: str
    suffix: str
    sound: bytes
    variant: Callable[[Random], bytes]
    read: Callable[[Path], object]


def formats(folder: Path) -> Iterator[Format]:
    """All kinds; what they need besides the file itself is made in `folder`."""
    yield _blueprints()
    yield _models(folder)
    yield _configs(folder)
    yield _annotations(folder)
    yield _coco(folder)
    yield _npz(folder)
    yield _patches(folder)
    yield _ledgers(folder)


def _net() -> models.Classifier:
    blueprint = Blueprint.from_dict(_blueprint())
    card = models.Card.trained_on(
        architecture={"family": "blueprint", "blueprint": blueprint.to_dict()},
        classes=("a", "b", "c"),
        input_shape=(1, 8, 8),
        mean=(0.5,),
        std=(0.5,),
    )
    return models.rebuild(card, seed=0)


def _blueprint() -> dict[str, Any]:
    blocks = (models.Block(channels=8), models.Block(kind="residual", channels=8))
    return Blueprint(blocks=blocks, head=models.Head()).to_dict()


def _either(sound: bytes, whole: Callable[[Random], bytes]) -> Callable[[Random], bytes]:
    """Half of the variants are damaged bytes, half are whole files that say absurd things."""
    return lambda rng: damaged(sound, rng) if rng.random() < 0.5 else whole(rng)


def _blueprints() -> Format:
    text = _net().card.to_json()

    def read(path: Path) -> object:
        card = models.Card.from_json(path.read_text(encoding="utf-8", errors="replace"))
        return models.cost(models.rebuild(card, seed=0), card.input_shape)

    whole = lambda rng: absurd_json(text, rng).encode()  # noqa: E731
    return Format("blueprint", ".json", text.encode(), _either(text.encode(), whole), read)


def _models(folder: Path) -> Format:
    net, path = _net(), folder / "sound.safetensors"
    models.save(net, path)
    sound = path.read_bytes()

    def whole(rng: Random) -> bytes:
        tensors, text = unpack(sound), absurd_json(net.card.to_json(), rng)
        try:
            told = _digest(tensors, models.Card.from_json(text))
        except Exception:
            told = hashlib.sha256().hexdigest()
        return pack(tensors, metadata={"robustkit": text, "sha256": told})

    return Format("model", ".safetensors", sound, _either(sound, whole), models.load)


def _configs(folder: Path) -> Format:
    parser = CommandParser("evolve")
    evolve.add_arguments(parser)
    given = parser.parse([])
    assert given is not None
    config = settings("evolve", given) | plain(EvolveConfig())
    sound = yaml.safe_dump({"format": 1, "verb": "evolve", "config": config}).encode()
    run = folder / "run"
    run.mkdir()
    (run / "env.json").write_text("{}")

    def read(path: Path) -> object:
        (run / "config.yaml").write_bytes(path.read_bytes())
        RunFolder.open(run, command="evolve")
        given = parser.parse(["--resume", str(run)])
        assert given is not None
        found = settings("evolve", given)
        return config_from(EvolveConfig, found), executor_of(found)

    def whole(rng: Random) -> bytes:
        saved = json.dumps({"format": 1, "verb": "evolve", "config": config})
        return yaml.safe_dump(json.loads(absurd_json(saved, rng))).encode()

    return Format("config", ".yaml", sound, _either(sound, whole), read)


def _annotations(folder: Path) -> Format:
    image = folder / "000001.jpg"
    Image.new("RGB", (50, 40)).save(image)
    boxes = ((1, 1, 20, 40), (8.5, 12, 50, 40), (3, 3, 4, 5))
    objects = "".join(
        f"<object><name>{CLASSES[n % 2]}</name><difficult>{n % 2}</difficult><bndbox>"
        f"<xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for n, (a, b, c, d) in enumerate(boxes)
    )
    sound = f"<annotation><filename>000001.jpg</filename>{objects}</annotation>".encode()

    def whole(rng: Random) -> bytes:
        text = sound.decode()
        for _ in range(rng.choice((1, 2))):
            start = text.index(">", rng.randrange(len(text) - 20)) + 1
            end = text.find("<", start)
            value = rng.choice(("", "nan", "-1", "1e400", "9" * 30, "0", "é", "inf", "dog", "7"))
            text = text[:start] + value + text[end:]
        return text.encode()

    read = lambda path: read_annotation(path, image, CLASSES)  # noqa: E731
    return Format("annotation", ".xml", sound, _either(sound, whole), read)


def _coco(folder: Path) -> Format:
    Image.new("RGB", (30, 20)).save(folder / "a.png")
    text = json.dumps(
        {
            "images": [{"id": 3, "file_name": "a.png", "width": 30, "height": 20}],
            "categories": [{"id": 9, "name": "zebra"}, {"id": 2, "name": "ant"}],
            "annotations": [
                {"id": 1, "image_id": 3, "category_id": 9, "bbox": [1, 2, 3.5, 4], "iscrowd": 1},
                {"id": 2, "image_id": 3, "category_id": 2, "bbox": [0, 0, 30, 20], "area": 55.5},
            ],
        }
    )
    whole = lambda rng: absurd_json(text, rng).encode()  # noqa: E731
    read = lambda path: read_coco(folder, path)  # noqa: E731
    return Format("coco", ".json", text.encode(), _either(text.encode(), whole), read)


def _npz(folder: Path) -> Format:
    arrays: dict[str, Any] = {
        "x_train": np.arange(12, dtype=np.uint8)[:, None, None] + np.zeros((1, 6, 6), np.uint8),
        "y_train": np.arange(12) % 3,
        "x_test": np.zeros((6, 6, 6), np.uint8),
        "y_test": np.arange(6) % 3,
    }

    def packed(**changes: Any) -> bytes:
        written = io.BytesIO()
        kept = {name: value for name, value in {**arrays, **changes}.items() if value is not None}
        np.savez(written, **kept)
        return written.getvalue()

    def whole(rng: Random) -> bytes:
        name = rng.choice(sorted(arrays))
        value = arrays[name]
        odd = (
            *(None, value.astype(np.float64), value[:0], value.reshape(-1), value[None], -value),
            *(np.array(3), np.array(["a", "b"]), value.astype(np.uint16), value[:1], value * 7),
        )
        return packed(**{name: rng.choice(odd)})

    def read(path: Path) -> object:
        return data.load(f"npz:{path}")

    return Format("npz", ".npz", packed(), _either(packed(), whole), read)


def _patches(folder: Path) -> Format:
    net, changed = _net(), _net()
    name, parameter = next(iter(changed.net.named_parameters()))
    with torch.no_grad():
        parameter.view(-1)[:2] += 1
    path = folder / "sound-patch.safetensors"
    difference(net, changed, method="m").save(path)
    sound = path.read_bytes()
    tensors = unpack(sound)
    with safe_open(path, framework="pt") as file:
        text = file.metadata()["robustkit-patch"]

    def whole(rng: Random) -> bytes:
        told = absurd_json(text, rng) if rng.random() < 0.5 else text
        odd = dict(tensors)
        key = rng.choice(sorted(odd))
        if rng.random() < 0.7:
            choices = (
                *(torch.tensor([-5, 10**9]), torch.zeros(3), torch.zeros(2, 2), torch.zeros(0)),
                *(torch.tensor([0, 0]), torch.tensor([float("nan"), 1.0])),
            )
            odd[key] = rng.choice(choices)
        else:
            odd[rng.choice(("new/x", "old/", "zz", f"new/{name}2"))] = odd.pop(key)
        return pack(odd, metadata={"robustkit-patch": told, "sha256": checksum(odd, told)})

    def read(path: Path) -> object:
        return Patch.load(path).apply(net)

    return Format("patch", ".safetensors", sound, _either(sound, whole), read)


def _ledgers(folder: Path) -> Format:
    path = folder / "sound.sqlite"
    with Ledger.create(path) as ledger:
        for number in range(6):
            payload = {"number": number, "text": "x" * 300}
            ledger.record(
                Entry(id=f"t{number}", stage="evolve", key="k", payload=payload, outcome="Ok")
            )
    sound = path.read_bytes()

    def whole(rng: Random) -> bytes:
        changed = folder / "changed.sqlite"
        changed.write_bytes(sound)
        connection = sqlite3.connect(changed)
        row = asdict(Entry(id="t9", stage="evolve", key="k", payload={}, outcome="Ok"))
        column = rng.choice(["payload", "result", "outcome", "seconds", "arm", "id", "reason"])
        values = ("{", "[]", "1", "nan", "", None, b"\xff\xfe", 10**12, '{"a": NaN}', row["id"])
        try:
            with connection:
                statement = f"UPDATE trials SET {column} = ? WHERE id = ?"
                connection.execute(statement, (rng.choice(values), f"t{rng.randrange(6)}"))
        except (sqlite3.Error, OverflowError):
            pass
        finally:
            connection.close()
        return changed.read_bytes()

    def read(path: Path) -> object:
        with Ledger.open(path) as ledger:
            return ledger.trials(), ledger.in_order(), ledger.counts()

    return Format("ledger", ".sqlite", sound, _either(sound, whole), read)
