"""Model files: cards that say absurd things, state dicts of odd tensors, files that want code."""

from __future__ import annotations

import io
import json
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load as unpack
from safetensors.torch import save as pack

from robustkit.models import Card
from robustkit.models.files import _digest
from tests.hostile.case import EITHER, Case, Place
from tests.hostile.sent import ODD, attack, detect, detector

State = dict[str, Any]


def _card(place: Place) -> tuple[dict[str, torch.Tensor], str]:
    path = place.run("train") / "model.safetensors"
    with safe_open(path, framework="pt") as file:
        text = file.metadata()["robustkit"]
    return unpack(path.read_bytes()), text


def _summed(tensors: dict[str, torch.Tensor], text: str) -> bytes:
    """A model file whose checksum is right, as far as its card can be read."""
    try:
        told = _digest(tensors, Card.from_json(text))
    except Exception:
        told = "0" * 64
    return pack(tensors, metadata={"robustkit": text, "sha256": told})


def _changed(**changes: Any) -> Callable[[str], str]:
    return lambda text: json.dumps(json.loads(text) | changes)


def _within(key: str, **changes: Any) -> Callable[[str], str]:
    def change(text: str) -> str:
        told = json.loads(text)
        told[key] = told[key] | changes
        return json.dumps(told)

    return change


def _block(**changes: Any) -> dict[str, Any]:
    block = {
        "kind": "conv",
        "channels": 16,
        "kernel": 3,
        "stride": 1,
        "norm": "batch",
        "activation": "relu",
        "pool": "avg",
        "inputs": [0],
        "merge": "add",
    }
    return block | changes


def _blueprint(*blocks: Any, head: Any = None) -> Callable[[str], str]:
    head = {"pool": "avg", "hidden": 0, "activation": "relu"} if head is None else head
    plan = {"blocks": list(blocks), "head": head}
    return _changed(architecture={"family": "blueprint", "blueprint": plan})


CARDS: dict[str, Callable[[str], str]] = {
    "a format of 5,000 digits": lambda text: text.replace('"format": 2', '"format": ' + "9" * 5000),
    "a size of 5,000 digits": lambda text: text.replace("[1, 16, 16]", f"[1, 16, {'9' * 5000}]"),
    "100,000 brackets": lambda text: "[" * 100_000,
    "100,000 brackets inside": lambda text: text.replace(
        '"provenance": {', '"provenance": {"a": ' + "[" * 100_000 + "]" * 100_000 + ", ", 1
    ),
    "NaN": lambda text: text.replace("[1, 16, 16]", "[1, 16, NaN]"),
    "1e999": lambda text: text.replace("[1, 16, 16]", "[1, 16, 1e999]"),
    "half a character": lambda text: text.replace('"0"', '"\\ud800"'),
    "nothing": lambda text: "",
    "a list": lambda text: "[]",
    "a newer format": _changed(format=9),
    "a format of text": _changed(format="2"),
    "a format of truth": _changed(format=True),
    "another key": _changed(surprise=1),
    "classes of numbers": _changed(classes=list(range(10))),
    "classes of escapes": _changed(classes=[f"\x1b[2J{n}" for n in range(10)]),
    "classes of line breaks": _changed(classes=[f"a\nb{n}" for n in range(10)]),
    "a class twice": _changed(classes=["a"] * 10),
    "one class": _changed(classes=["a"]),
    "nine classes": _changed(classes=list("abcdefghi")),
    "classes of a dict": _changed(classes={}),
    "a shape of four": _changed(input_shape=[1, 1, 16, 16]),
    "a shape of nought": _changed(input_shape=[1, 0, 16]),
    "a shape of a million": _changed(input_shape=[1, 10**6, 10**6]),
    "a shape of text": _changed(input_shape=["1", "16", "16"]),
    "a shape of truth": _changed(input_shape=[True, 16, 16]),
    "an architecture of text": _changed(architecture="vgg3"),
    "an architecture of nothing": _changed(architecture={}),
    "an unknown family": _changed(architecture={"family": "\x1b[2J"}),
    "a family of a list": _changed(architecture={"family": []}),
    "a family that runs code": _changed(architecture={"family": "factory", "factory": "os:system"}),
    "a family of modules": _changed(architecture={"family": "wrapped"}),
    "a detector": _changed(architecture={"family": "detector"}),
    "torchvision's of any name": _changed(architecture={"family": "torchvision", "name": "x" * 99}),
    "torchvision's of options": _changed(
        architecture={"family": "torchvision", "name": "resnet18", "options": {"width": 10**9}}
    ),
    "robustbench's of any name": _changed(
        architecture={
            "family": "robustbench",
            "name": "x",
            "dataset": "../..",
            "threat_model": "Linf",
        }
    ),
    "a width of 10^12": _within("architecture", options={"width": 10**12}),
    "a width of text": _within("architecture", options={"width": "8"}),
    "a width of half": _within("architecture", options={"width": 0.5}),
    "a width of -1": _within("architecture", options={"width": -1}),
    "options of a list": _within("architecture", options=[]),
    "a mean of text": _within("preprocessing", mean=["a"]),
    "a mean of 400 digits": _within("preprocessing", mean=[10**400]),
    "a mean of truth": _within("preprocessing", mean=[True]),
    "three means": _within("preprocessing", mean=[0.1] * 3),
    "a std of nought": _within("preprocessing", std=[0]),
    "an input size of 10^6": _within("preprocessing", input_size=[10**6, 10**6]),
    "an input size of text": _within("preprocessing", input_size="16"),
    "an unknown interpolation": _within("preprocessing", interpolation="\x1b[2J"),
    "an interpolation of a list": _within("preprocessing", interpolation=[]),
    "an order of a list": _within("preprocessing", channel_order=["rgb"]),
    "a geometry of a list": _within("preprocessing", geometry=[]),
    "a geometry of a million": _within(
        "preprocessing",
        geometry={"size": [10**6, 10**6], "resize": None, "interpolation": "bilinear"},
    ),
    "provenance of a list": _changed(provenance=[]),
    "published by a list": _within("provenance", published=[]),
    "published by text": _within("provenance", published={"accuracy": "high", "on": "digits"}),
    "published without accuracy": _within("provenance", published={"on": "digits"}),
    "published of 1e300": _within("provenance", published={"accuracy": 1e300, "on": "digits"}),
    "published on a list": _within("provenance", published={"accuracy": 0.9, "on": []}),
    "a parent of a number": _changed(parent=3),
    "a blueprint of nothing": _blueprint(),
    "a blueprint of text": _blueprint("conv"),
    "a blueprint of 4,096 channels and no weights": _blueprint(_block(channels=4096)),
    "a blueprint of 10^9 channels": _blueprint(_block(channels=10**9)),
    "a blueprint of an unknown kind": _blueprint(_block(kind="\x1b[2J")),
    "a blueprint of a kind of a list": _blueprint(_block(kind=[])),
    "a blueprint that feeds itself": _blueprint(_block(inputs=[1])),
    "a blueprint fed by 10^30": _blueprint(_block(inputs=[10**30])),
    "a blueprint fed by nothing": _blueprint(_block(inputs=[])),
    "a blueprint of 2,000 blocks": _blueprint(
        *(_block(channels=4096, inputs=[n]) for n in range(2000))
    ),
    "a blueprint of 12 strides": _blueprint(*(_block(stride=2, inputs=[n]) for n in range(12))),
    "a blueprint of 20 doublings": _blueprint(
        *(_block(merge="concat", channels=4096, inputs=list(range(n + 1))) for n in range(20))
    ),
    "a blueprint of a head of 10^9": _blueprint(
        _block(), head={"pool": "avg", "hidden": 10**9, "activation": "relu"}
    ),
    "a blueprint of a head of text": _blueprint(_block(), head="linear"),
}


def _saved(held: Any) -> bytes:
    written = io.BytesIO()
    torch.save(held, written)
    return written.getvalue()


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("made-by-a-pickle", "w"))


def _each(change: Callable[[torch.Tensor], Any]) -> Callable[[State], bytes]:
    """A state dict with the weights of its first convolution changed."""

    def saved(state: State) -> bytes:
        name = next(name for name, tensor in state.items() if tensor.dim() == 4)
        return _saved({**state, name: change(state[name])})

    return saved


def _versions(told: Any) -> Callable[[State], bytes]:
    def saved(state: State) -> bytes:
        held = OrderedDict(state)
        held._metadata = told  # type: ignore[attr-defined]
        return _saved(held)

    return saved


def _quantised(tensor: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings(action="ignore"):  # torch means to give them up
        return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


def _bomb(state: State) -> bytes:
    """A file whose weights unfold to a hundred times their size."""
    written = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(_saved(state))) as sound,
        zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in sound.namelist():
            content = sound.read(name)
            archive.writestr(name, bytes(2**28) if name.endswith("data/0") else content)
    return written.getvalue()


STATES: dict[str, Callable[[State], bytes]] = {
    "sparse": _each(lambda tensor: tensor.to_sparse()),
    "meta": _each(lambda tensor: tensor.to("meta")),
    "quantised": _each(_quantised),
    "complex": _each(lambda tensor: tensor + 1j),
    "truth": _each(lambda tensor: tensor > 0),
    "whole": _each(lambda tensor: tensor.to(torch.int8)),
    "of zero size": _each(lambda tensor: tensor[:0]),
    "of another shape": _each(lambda tensor: tensor[None]),
    "of a huge shape": _each(lambda tensor: torch.zeros(1).expand(10**9, 10**9)),
    "of NaN": _each(lambda tensor: tensor * float("nan")),
    "a number": _each(lambda tensor: 3),
    "nested": lambda state: _saved({"state_dict": {"model": {"state_dict": state}}}),
    "a list": lambda state: _saved(list(state.values())),
    "a tensor": lambda state: _saved(next(iter(state.values()))),
    "nothing": lambda state: _saved({}),
    "None": lambda state: _saved(None),
    "keys of numbers": lambda state: _saved(dict(enumerate(state.values()))),
    "keys of escapes": lambda state: _saved(
        {f"\x1b[2J{name}": each for name, each in state.items()}
    ),
    "a key missing": lambda state: _saved(dict(list(state.items())[1:])),
    "a key too many": lambda state: _saved({**state, "more\nlines": torch.zeros(1)}),
    "itself inside": lambda state: _saved(_circle()),
    "cut": lambda state: _saved(state)[:-700],
    "bits flipped": lambda state: _saved(state).replace(b"PK\x01\x02", b"PK\x01\x03"),
    "code": lambda state: _saved({"a": _Code()}),
    "a pickle of code": lambda state: pickle.dumps({"a": _Code()}),
    "a pickle of brackets": lambda state: b"\x80\x04" + b"]" * 100_000 + b".",
    "an old file of code": lambda state: _old({"a": _Code()}),
    "a picture": lambda state: b"\x89PNG\r\n\x1a\n" + bytes(100),
    "a text": lambda state: b"weights\n",
    "a zip of nothing": lambda state: b"PK\x05\x06" + bytes(18),
    "a zip that unfolds": _bomb,
}
STATES_READ: dict[str, Callable[[State], bytes]] = {
    "not contiguous": _each(lambda tensor: tensor.transpose(0, -1).contiguous().transpose(0, -1)),
    "of one number": _each(lambda tensor: torch.zeros(1).expand(tensor.shape)),
    "of half precision": _each(lambda tensor: tensor.half()),
    "of double precision": _each(lambda tensor: tensor.double()),
    "parameters": _each(lambda tensor: torch.nn.Parameter(tensor)),
    "versions of numbers": _versions({"": 5, "0": {"version": 1}}),
    "versions of text": _versions({"": {"version": "x"}, "1": {"version": []}}),
    "versions of a list": _versions([1, 2]),
    "under state_dict": lambda state: _saved({"state_dict": state, "epoch": 3}),
    "of a parallel net": lambda state: _saved({f"module.{n}": each for n, each in state.items()}),
}


def _circle() -> dict[str, Any]:
    held: dict[str, Any] = {}
    held["state_dict"] = held
    return held


def _old(held: Any) -> bytes:
    written = io.BytesIO()
    torch.save(held, written, _use_new_zipfile_serialization=False)
    return written.getvalue()


def _headed(header: bytes, length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header


FILES: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "a header of all bytes": lambda: _headed(b"{}", 2**64 - 1),
    "a header of 90 MB that is not there": lambda: _headed(b"{}", 90_000_000),
    "a header of brackets": lambda: _headed(b"[" * 100_000),
    "a header of 5,000 digits": lambda: _headed(b'{"a": ' + b"9" * 5000 + b"}"),
    "a header of NaN": lambda: _headed(b'{"a": NaN}'),
    "a header that is no UTF-8": lambda: _headed(b"\xff" * 100),
    "no card": lambda: pack({"a": torch.zeros(3)}),
    "a card and no weights": lambda: pack({}, metadata={"robustkit": "{}", "sha256": ""}),
    "a tensor of all numbers": lambda: (
        _headed(
            json.dumps(
                {"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}
            ).encode()
        )
        + bytes(4)
    ),
    "tensors over each other": lambda: (
        _headed(
            json.dumps(
                {name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in "ab"}
            ).encode()
        )
        + bytes(4)
    ),
    "a tensor of another type": lambda: (
        _headed(json.dumps({"a": {"dtype": "ZZ", "shape": [1], "data_offsets": [0, 4]}}).encode())
        + bytes(4)
    ),
    "text": lambda: b"no weights here, only words\n",
}


def cases() -> Iterator[Case]:
    """Give model files to commands that attack and detect."""
    for name, change in CARDS.items():
        # Some fit after all, and of some nothing is looked at.
        yield Case(f"card/{name}", _carded(change), ends=_ends(name))
    for name, make in STATES.items():
        says = "finite" if "NaN" in name else "sent.pth"
        yield Case(f"state/{name}", _stated(make), says=says, after=_nothing_made)
    for name, make in STATES_READ.items():
        yield Case(f"state/read/{name}", _stated(make), ends=(0,))
    for name, content in FILES.items():
        yield Case(f"model file/{name}", _file(content), says="sent.safetensors")
        yield Case(f"weights file/{name}", _weights(content), says="sent.safetensors")
    for name, lay in ODD.items():
        yield Case(f"model file/file/{name}", _lying(lay))
        yield Case(f"weights file/file/{name}", _lying_weights(lay, "sent.safetensors"))
        yield Case(f"state/file/{name}", _lying_weights(lay, "sent.pth"))
        yield Case(f"detector/file/{name}", _lying_detector(lay))
    for name, change in CARDS.items():
        if "provenance" in name or "architecture" in name or "class" in name or "shape" in name:
            yield Case(f"detector/card/{name}", _detector(change), ends=EITHER)


def _ends(name: str) -> tuple[int, ...]:
    fine = ("published", "a class twice", "truth", "parent", "half a character", "a geometry")
    return EITHER if any(word in name for word in fine) else (2,)


def _nothing_made(place: Place, _: object) -> str | None:
    return "code was run" if (place.here / "made-by-a-pickle").exists() else None


def _carded(change: Callable[[str], str]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        tensors, text = _card(place)
        file = place.write("sent.safetensors", _summed(tensors, change(text)))
        return attack(place, "digits", "--test-size", "20", model=file.name)

    return prepare


def _stated(make: Callable[[State], bytes]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        tensors, _ = _card(place)
        place.write("sent.pth", make(tensors))
        flags = ["--test-size", "20", "--weights", "sent.pth"]
        return attack(place, "digits", *flags, model="vgg3?width=8")

    return prepare


def _file(content: Callable[[], bytes]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.write("sent.safetensors", content())
        return attack(place, "digits", model="sent.safetensors")

    return prepare


def _weights(content: Callable[[], bytes]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.write("sent.safetensors", content())
        return attack(place, "digits", "--weights", "sent.safetensors", model="vgg3?width=8")

    return prepare


def _lying(lay: Callable[..., None]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        lay(place.here / "sent.safetensors")
        return attack(place, "digits", model="sent.safetensors")

    return prepare


def _lying_weights(lay: Callable[..., None], name: str) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        lay(place.here / name)
        return attack(place, "digits", "--weights", name, model="vgg3?width=8")

    return prepare


def _detect(place: Place) -> Sequence[str]:
    command = list(detect(place, "shapes:photo:8?side=64"))
    command[command.index(str(detector(place)))] = "sent.safetensors"
    return command


def _lying_detector(lay: Callable[..., None]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        lay(place.here / "sent.safetensors")
        return _detect(place)

    return prepare


def _detector(change: Callable[[str], str]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        path = detector(place)
        with safe_open(path, framework="pt") as file:
            text = file.metadata()["robustkit"]
        place.write("sent.safetensors", _summed(unpack(path.read_bytes()), change(text)))
        return _detect(place)

    return prepare
