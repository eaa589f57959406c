"""Files that strangers send, and the commands that read them."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.hostile.case import Place

ENDLESS = Path("/dev/zero")


def attack(place: Place, data: str, *more: str, model: Path | str | None = None) -> Sequence[str]:
    """The cheapest evaluation of a model of handwritten digits on `data`."""
    net = str(place.run("train") / "model.safetensors" if model is None else model)
    flags = ["--attack", "fgsm", "--eps", "0.1", "--probe", "10", "--device", "cpu", "--out", "out"]
    return ["attack", "--model", net, "--data", data, *flags, *more]


def transfer(place: Place, *more: str) -> Sequence[str]:
    """The cheapest evaluation of one model's adversarials on itself."""
    net = str(place.run("train") / "model.safetensors")
    flags = ["--attack", "fgsm", "--eps", "0.1", "--test-size", "20", "--device", "cpu"]
    nets = ["--sources", f"a={net}", "--targets", f"b={net}", "--gradients", "2"]
    return ["transfer", *nets, "--data", "digits", *flags, "--out", "out", *more]


def train(data: str, *more: str) -> Sequence[str]:
    """The cheapest training on `data`."""
    flags = ["--model", "vgg3?width=2", "--epochs", "1", "--device", "cpu", "--out", "out"]
    return ["train", "--data", data, *flags, *more]


def detect(place: Place, data: str) -> Sequence[str]:
    """The cheapest evaluation of a detector on `data`."""
    flags = ["--attack-images", "1", "--attack-steps", "1", "--device", "cpu", "--out", "out"]
    return ["detect", "--model", str(detector(place)), "--data", data, *flags]


def detector(place: Place) -> Path:
    """A detector of the classes of rendered shapes."""
    return place.run("adapt") / "source-0.safetensors"


def grey(count: int = 20, side: int = 16) -> np.ndarray[Any, Any]:
    """Grey pictures uint8 (N,H,W)."""
    return np.arange(count * side * side, dtype=np.int64).reshape(count, side, side).astype("u1")


def labels(count: int = 20) -> np.ndarray[Any, Any]:
    """A label for each, of ten classes."""
    return np.arange(count) % 10


def npz(**changes: Any) -> bytes:
    """A sound file of handwritten digits to be tested on, but for what `changes`; None: left out.

    What is given as bytes is the member itself, header and all.
    """
    arrays: dict[str, Any] = {"x_test": grey(), "y_test": labels()} | changes
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in arrays.items():
            if value is not None:
                archive.writestr(f"{name}.npy", value if isinstance(value, bytes) else npy(value))
    return written.getvalue()


def npy(value: Any) -> bytes:
    """An array as a file of its own; objects are pickled."""
    written = io.BytesIO()
    np.save(written, np.asarray(value), allow_pickle=True)
    return written.getvalue()


def headed(header: str, content: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """A file of an array with a header of one's own."""
    text = header.encode("utf-8") + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + content


def picture(kind: str = "PNG", size: tuple[int, int] = (16, 16), mode: str = "L") -> bytes:
    """A sound picture."""
    written = io.BytesIO()
    Image.new(mode, size).save(written, kind)
    return written.getvalue()


def pictures(place: Place, count: int = 20, folder: str = "sent") -> Path:
    """A folder of sound pictures with the file of their labels; returns the folder."""
    rows = ["file,label"]
    for number in range(count):
        place.write(f"{folder}/{number:02}.png", picture())
        rows.append(f"{number:02}.png,{number % 10}")
    return place.write(f"{folder}/labels.csv", "\n".join(rows) + "\n").parent


def classes(place: Place, folder: str = "sent") -> Path:
    """A folder of sound pictures in a folder for each of two classes."""
    for name in ("cat", "dog"):
        for number in range(20):
            place.write(f"{folder}/{name}/{number:02}.png", picture())
    return place.here / folder


def voc(place: Place, annotation: str | bytes, image: bytes | None = None) -> str:
    """A folder in VOC layout with one picture; returns its spec."""
    place.write("sent/ImageSets/Main/test.txt", "a\n")
    place.write("sent/JPEGImages/a.jpg", image or picture("JPEG", (64, 64), "RGB"))
    place.write("sent/Annotations/a.xml", annotation)
    place.write("sent/classes.txt", "circle\nsquare\ntriangle\n")
    return "voc:sent:test"


def boxed(
    name: str = "circle", box: Sequence[object] = (1, 1, 20, 20), more: str = "", head: str = ""
) -> str:
    """An annotation with one object."""
    edges = "".join(
        f"<{edge}>{value}</{edge}>"
        for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    inner = f"<object><name>{name}</name><bndbox>{edges}</bndbox></object>"
    return f"{head}<annotation>{inner}{more}</annotation>"


def coco(place: Place, text: str | None = None, **changes: Any) -> str:
    """A COCO file and its one picture; returns their spec."""
    content: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "circle"}, {"id": 2, "name": "square"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 20, 20]}],
    } | changes
    place.write("sent/a.png", picture("PNG", (64, 64), "RGB"))
    place.write("coco.json", json.dumps(content) if text is None else text)
    return "coco:sent:coco.json"


def fifo(path: Path) -> None:
    """A pipe that nobody writes into, in the place of a file."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def device(path: Path) -> None:
    """A link to a device that never ends."""
    path.unlink(missing_ok=True)
    path.symlink_to(ENDLESS)


def nowhere(path: Path) -> None:
    """A link to nothing."""
    path.unlink(missing_ok=True)
    path.symlink_to("there-is-no-such-file")


def circle(path: Path) -> None:
    """A link to itself."""
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)


def folder_there(path: Path) -> None:
    """A folder of the file's name."""
    path.unlink(missing_ok=True)
    path.mkdir()


def unix_socket(path: Path) -> None:
    """A socket."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path may have a hundred characters
    try:
        made.bind(path.name)
    finally:
        os.chdir(here)
        made.close()


def huge(path: Path) -> None:
    """A file of a terabyte that takes no room."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(2**40)


def nothing(path: Path) -> None:
    """An empty file."""
    path.write_bytes(b"")


def link_to_pipe(path: Path) -> None:
    """A link to a pipe."""
    path.unlink(missing_ok=True)
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


ODD: dict[str, Callable[[Path], None]] = {
    "pipe": fifo,
    "device": device,
    "link to nowhere": nowhere,
    "link to itself": circle,
    "folder": folder_there,
    "socket": unix_socket,
    "terabyte": huge,
    "empty": nothing,
    "link to a pipe": link_to_pipe,
}
"""What may lie where a file is looked for."""
