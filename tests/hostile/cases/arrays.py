"""Arrays in .npz and .npy files: headers that lie, objects, other types, bombs, odd files."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tests.hostile.case import EITHER, REFUSED, Case, Place
from tests.hostile.sent import (
    ODD,
    attack,
    grey,
    headed,
    labels,
    npy,
    npz,
    picture,
    train,
    transfer,
)

_HEADER = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}"


def _head(descr: str, shape: str) -> str:
    return _HEADER.format(descr, shape)


def _twice() -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, value in (("x_test", grey()), ("x_best", grey(3))):
            archive.writestr(f"{name}.npy", npy(value))
        archive.writestr("y_test.npy", npy(labels()))
    return written.getvalue().replace(b"x_best", b"x_test")


def _encrypted() -> bytes:
    content = bytearray(npz())
    content[6] |= 1
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1
    return bytes(content)


_OBJECTS = np.array([{"a": 1}] * 20, dtype=object)
_RECORD = np.zeros(20, dtype=[("a", "u1"), ("b", "f4")])
_DEEP = "(" * 4000 + ")" * 4000
WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "objects": (lambda: npz(x_test=_OBJECTS), "x_test"),
    "objects for labels": (lambda: npz(y_test=_OBJECTS), "y_test"),
    "records": (lambda: npz(x_test=_RECORD), "x_test"),
    "records for labels": (lambda: npz(y_test=_RECORD), "y_test"),
    "floats": (lambda: npz(x_test=grey() / 255), "uint8"),
    "half floats": (lambda: npz(x_test=(grey() / 255).astype("f2")), "uint8"),
    "complex": (lambda: npz(x_test=grey() * 1j), "uint8"),
    "texts": (lambda: npz(x_test=np.array(["a"] * 20)), "uint8"),
    "dates": (lambda: npz(x_test=np.array(["2020-01-01"] * 20, dtype="M8[D]")), "uint8"),
    "bytes": (lambda: npz(x_test=np.array([b"a"] * 20)), "uint8"),
    "16 bits": (lambda: npz(x_test=grey().astype("u2")), "uint8"),
    "truth": (lambda: npz(x_test=grey() > 9), "uint8"),
    "NaN": (lambda: npz(x_test=np.full((20, 16, 16), np.nan)), "uint8"),
    "NaN labels": (lambda: npz(y_test=np.full(20, np.nan)), "y_test"),
    "negative labels": (lambda: npz(y_test=-labels()), "y_test"),
    "huge labels": (lambda: npz(y_test=labels() + 10**15), ""),
    "unsigned labels beyond int64": (lambda: npz(y_test=np.full(20, 2**64 - 1, dtype="u8")), ""),
    "labels of two dimensions": (lambda: npz(y_test=labels()[:, None]), "y_test"),
    "fewer labels": (lambda: npz(y_test=labels(3)), "y_test"),
    "more labels": (lambda: npz(y_test=labels(30)), "y_test"),
    "no labels": (lambda: npz(y_test=None), "y_test"),
    "no pictures": (lambda: npz(x_test=None), "x_test"),
    "nothing": (lambda: npz(x_test=None, y_test=None), "x_test"),
    "no dimension": (lambda: npz(x_test=np.uint8(3)), "x_test"),
    "zero size": (lambda: npz(x_test=grey()[:0], y_test=labels(0)), "empty"),
    "zero width": (lambda: npz(x_test=grey()[:, :, :0]), ""),
    "five dimensions": (lambda: npz(x_test=grey()[:, None, None]), "x_test"),
    "two ways": (lambda: npz(x_test=np.zeros((20, 3, 16, 3), "u1")), "two ways"),
    "colour": (lambda: npz(x_test=np.zeros((20, 16, 16, 3), "u1")), ""),
    "members twice": (_twice, "twice"),
    "encrypted": (_encrypted, ""),
    "cut": (lambda: npz()[:-200], ""),
    "bit flipped": (lambda: npz(x_test=b"\x93NUMPZ" + npy(grey())[6:]), ""),
    "shape beyond what is there": (
        lambda: npz(x_test=headed(_head("|u1", "(1000000000000, 16, 16)"))),
        "x_test",
    ),
    "shape beyond all numbers": (
        lambda: npz(x_test=headed(_head("|u1", "(" + "9" * 50 + ", 16, 16)"))),
        "x_test",
    ),
    "shape of 4,000 digits": (
        lambda: npz(x_test=headed(_head("|u1", "(" + "9" * 4000 + ", 16, 16)"))),
        "x_test",
    ),
    "shape of 9,000 digits": (
        lambda: npz(x_test=headed(_head("|u1", "(" + "9" * 9000 + ", 16, 16)"))),
        "x_test",
    ),
    "negative shape": (lambda: npz(x_test=headed(_head("|u1", "(-20, 16, 16)"))), "x_test"),
    "shape of text": (lambda: npz(x_test=headed(_head("|u1", "('a',)"))), "x_test"),
    "header of code": (lambda: npz(x_test=headed("__import__('os').system('true')")), "x_test"),
    "header of brackets": (lambda: npz(x_test=headed(_DEEP)), "x_test"),
    "header of minus signs": (lambda: npz(x_test=headed("-" * 9000 + "1")), "x_test"),
    "header of 50 MB": (
        lambda: npz(x_test=headed("1" * 50_000_000, version=(2, 0))),
        "x_test",
    ),
    "header of other keys": (lambda: npz(x_test=headed("{'descr': '|u1'}")), "x_test"),
    "unknown type": (lambda: npz(x_test=headed(_head("|zz", "(20, 16, 16)"))), "x_test"),
    "type of 3,000 lists": (
        lambda: npz(x_test=headed("{'descr': " + "[" * 3000 + "]" * 3000 + ", 'shape': ()}")),
        "x_test",
    ),
    "header of version 3 with code": (
        lambda: npz(x_test=headed("{'descr': open('/etc/passwd')}", version=(3, 0))),
        "x_test",
    ),
    "version 9": (lambda: npz(x_test=headed(_head("|u1", "(1,)"), version=(9, 0))), "x_test"),
    "no array": (lambda: npz(x_test=b"hello"), "x_test"),
    "empty member": (lambda: npz(x_test=b""), "x_test"),
    "bomb": (
        lambda: npz(x_test=headed(_head("|u1", "(30, 16384, 16384)"), bytes(2**27) * 1)),
        "x_test",
    ),
    "bomb of a true size": (
        lambda: npz(x_test=headed(_head("|u1", "(2, 8192, 8192)"), bytes(2**27))),
        "",
    ),
    "class names in bytes": (lambda: npz(classes=np.array([b"a"] * 10)), "classes"),
    "class names with line breaks": (
        lambda: npz(classes=np.array([f"a\n{n}" for n in range(10)])),
        "class",
    ),
    "class names with escapes": (
        lambda: npz(classes=np.array([f"\x1b[2J{n}" for n in range(10)])),
        "class",
    ),
    "class names that are no UTF-8": (
        lambda: npz(classes=np.array([f"\udcff{n}" for n in range(10)])),
        "class",
    ),
    "class names twice": (lambda: npz(classes=np.array(["a"] * 10)), "class"),
    "too few class names": (lambda: npz(classes=np.array(["a", "b"])), ""),
    "no class names": (lambda: npz(classes=np.array([], dtype="U1")), "class"),
    "a million class names": (
        lambda: npz(classes=np.array([str(n) for n in range(10**6)])),
        "",
    ),
    "a picture": (lambda: picture(), "npz"),
    "text": (lambda: b"hello, world\n" * 9, "npz"),
    "a pickle": (lambda: b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94.", "npz"),
    "a bare array": (lambda: npy(grey()), "npz"),
    "nothing at all": (lambda: b"", "npz"),
    "a zip of text": (lambda: _zip({"a.txt": b"hello"}), "x_test"),
    "a zip that leads out": (lambda: _zip({"../../x_test.npy": npy(grey())}), "x_test"),
    "a zip of odd names": (lambda: _zip({"\x1b[2J\n.npy": npy(grey())}), "x_test"),
}
SOUND: dict[str, Callable[[], bytes]] = {
    "other size": lambda: npz(x_test=grey(20, 9)),
    "by columns": lambda: npz(x_test=np.asfortranarray(grey())),
    "big-endian labels": lambda: npz(y_test=labels().astype(">i8")),
    "small labels": lambda: npz(y_test=labels().astype("u1")),
    "header of version 3": lambda: npz(
        x_test=headed(_head("|u1", "(20, 16, 16)"), grey().tobytes(), (3, 0))
    ),
}


def _zip(members: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return written.getvalue()


def _adversarials(**changes: Any) -> bytes:
    """An adversarial set for 20 digits as another tool writes it."""
    arrays: dict[str, Any] = {"images": np.zeros((20, 1, 16, 16), "f4")} | changes
    return _zip(
        {
            f"{name}.npy": value if isinstance(value, bytes) else npy(value)
            for name, value in arrays.items()
            if value is not None
        }
    )


SETS: dict[str, tuple[Callable[[], bytes], str]] = {
    "other shape": (lambda: _adversarials(images=np.zeros((20, 1, 8, 8), "f4")), "shape"),
    "fewer": (lambda: _adversarials(images=np.zeros((3, 1, 16, 16), "f4")), "shape"),
    "NaN": (lambda: _adversarials(images=np.full((20, 1, 16, 16), np.nan, "f4")), "[0,1]"),
    "infinite": (lambda: _adversarials(images=np.full((20, 1, 16, 16), np.inf, "f4")), "[0,1]"),
    "out of range": (lambda: _adversarials(images=np.full((20, 1, 16, 16), 7, "f4")), "[0,1]"),
    "objects": (lambda: _adversarials(images=_OBJECTS), ""),
    "complex": (lambda: _adversarials(images=np.zeros((20, 1, 16, 16), "c8")), "uint8 or float"),
    "records": (lambda: _adversarials(images=_RECORD), ""),
    "other labels": (lambda: _adversarials(labels=labels() * 0 + 3), "labels"),
    "labels of text": (lambda: _adversarials(labels=np.array(["a"] * 20)), "labels"),
    "provenance of 5,000 digits": (lambda: _adversarials(provenance="9" * 5000), "provenance"),
    "provenance of brackets": (lambda: _adversarials(provenance="[" * 10**5), "provenance"),
    "provenance of NaN": (lambda: _adversarials(provenance="NaN"), "provenance"),
    "provenance of 1e999": (lambda: _adversarials(provenance="1e999"), "provenance"),
    "provenance of no text": (lambda: _adversarials(provenance=_RECORD), "provenance"),
    "provenance that is no UTF-8": (
        lambda: _adversarials(provenance=np.array('"\udcff"')),
        "provenance",
    ),
    "no images": (lambda: _adversarials(images=None, other=labels()), "images"),
    "names of line breaks": (lambda: _zip({"a\nb.npy": npy(1)}), "images"),
    "header of minus signs": (lambda: _adversarials(images=headed("-" * 9000 + "1")), ""),
    "header of brackets": (lambda: _adversarials(images=headed(_DEEP)), ""),
    "shape beyond what is there": (
        lambda: _adversarials(images=headed(_head("<f4", "(20, 1, 16, 99999999)"))),
        "",
    ),
    "cut": (lambda: _adversarials()[:-100], ""),
    "a picture": (lambda: picture(), "zip"),
}


def cases() -> Iterator[Case]:
    """Give sound and hostile files of arrays to commands that read them."""
    for name, (content, says) in WRONG.items():
        yield Case(f"npz/{name}", _given(content), says=says)
    for name, content in SOUND.items():
        yield Case(f"npz/sound/{name}", _given(content), ends=(0,))
    for name, make in ODD.items():
        yield Case(f"npz/file/{name}", _lying(make))
        yield Case(f"adversarials/file/{name}", _imported_file(make))
        yield Case(f"mnist/file/{name}", _idx(make))
        yield Case(f"cifar10/file/{name}", _binary(make))
        yield Case(f"cifar10c/labels/{name}", _corrupted("labels.npy", make))
        yield Case(f"cifar10c/pixels/{name}", _corrupted("fog.npy", make))
        yield Case(f"npz under the root/{name}", _under_root(make), ends=EITHER)
    for name, (content, says) in SETS.items():
        yield Case(f"adversarials/{name}", _imported(content), says=says)
    yield Case("adversarials/sound", _imported(_adversarials), ends=(0,))
    yield Case("npz/train/floats", _trained, ends=REFUSED, says="0..255")


def _given(content: Callable[[], bytes]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.write("sent.npz", content())
        return attack(place, "npz:sent.npz")

    return prepare


def _trained(place: Place) -> Sequence[str]:
    place.write("sent.npz", npz(x_train=grey() / 255, y_train=labels()))
    return train("npz:sent.npz")


def _lying(make: Callable[..., None]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        make(place.here / "sent.npz")
        return attack(place, "npz:sent.npz")

    return prepare


def _imported(content: Callable[[], bytes]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.write("sent.npz", content())
        return transfer(place, "--cache", "none", "--import", "sent.npz")

    return prepare


def _imported_file(make: Callable[..., None]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        make(place.here / "sent.npz")
        return transfer(place, "--cache", "none", "--import", "sent.npz")

    return prepare


def _idx(make: Callable[..., None]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        for part in ("train", "t10k"):
            for kind, content in (
                ("images-idx3", b"\0\0\x08\3" + b"\0\0\0\1" * 3 + b"a"),
                ("labels-idx1", b"\0\0\x08\1\0\0\0\1\0"),
            ):
                place.write(f"root/MNIST/raw/{part}-{kind}-ubyte", content)
        make(place.here / "root/MNIST/raw/t10k-images-idx3-ubyte")
        return attack(place, "mnist", "--root", "root")

    return prepare


def _binary(make: Callable[..., None]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.write("root/cifar-10-batches-bin/test_batch.bin", bytes(3073))
        make(place.here / "root/cifar-10-batches-bin/test_batch.bin")
        return attack(place, "cifar10", "--root", "root")

    return prepare


def _corrupted(name: str, make: Callable[..., None]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.write("root/CIFAR-10-C/labels.npy", npy(labels(10)))
        place.write("root/CIFAR-10-C/fog.npy", npy(np.zeros((10, 32, 32, 3), "u1")))
        make(place.here / "root/CIFAR-10-C" / name)
        return attack(place, "cifar10c?corruption=fog", "--root", "root")

    return prepare


def _under_root(make: Callable[..., None]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        (place.here / "root").mkdir()
        make(place.here / "root/mnist.npz")
        return attack(place, "mnist", "--root", "root")

    return prepare
