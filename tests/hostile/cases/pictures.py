"""Pictures, and the folders and lists that name them: bombs, odd kinds, odd files, odd names."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from tests.hostile.case import EITHER, Case, Ending, Place
from tests.hostile.sent import (
    ODD,
    attack,
    boxed,
    classes,
    coco,
    detect,
    picture,
    pictures,
    train,
    voc,
)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def png(width: int, height: int, rows: bytes = b"", *, depth: int = 8, kind: int = 0) -> bytes:
    """A PNG that says it has this size, whatever it holds."""
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", head)
        + _chunk(b"IDAT", zlib.compress(rows))
        + _chunk(b"IEND", b"")
    )


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    written = io.BytesIO()
    image.save(written, kind, **options)
    return written.getvalue()


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _saved(Image.new("L", (16, 16)), "JPEG", exif=exif)


def _bad_exif() -> bytes:
    whole = _turned()
    at = whole.index(b"Exif\0\0") + 6
    return whole[: at + 8] + b"\xff" * 12 + whole[at + 20 :]


def _transparent() -> bytes:
    image = Image.new("P", (16, 16))
    image.putpalette([value for grey in range(256) for value in (grey,) * 3])
    return _saved(image, "PNG", transparency=bytes(range(256)))


def _animated() -> bytes:
    frames = [Image.new("L", (16, 16), shade) for shade in (0, 90, 200)]
    return _saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


_TEXT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n"
_TIFF = b"II*\0\x08\0\0\0" + b"\xff" * 200
REFUSED_KINDS: dict[str, Callable[[], bytes]] = {
    "bomb of 100 million pixels": lambda: png(10_000, 10_000),
    "bomb of 170 million pixels": lambda: png(13_000, 13_000),
    "bomb of 10 thousand million pixels": lambda: png(100_000, 100_000),
    "bomb of all pixels": lambda: png(2**31 - 1, 2**31 - 1),
    "no pixels": lambda: png(0, 0),
    "no rows": lambda: png(16, 16),
    "16 bits": lambda: _saved(Image.new("I;16", (16, 16)), "PNG"),
    "floats": lambda: _saved(Image.new("F", (16, 16)), "TIFF"),
    "cut": lambda: _saved(Image.effect_noise((16, 16), 90), "PNG")[:-150],
    "cut in the header": lambda: picture()[:20],
    "cut JPEG": lambda: _saved(Image.effect_noise((16, 16), 90), "JPEG")[:-90],
    "text": lambda: b"no picture\n",
    "empty": lambda: b"",
    "PostScript": lambda: _TEXT,
    "a TIFF of nonsense": lambda: _TIFF,
    "a GIF of nonsense": lambda: b"GIF89a" + b"\xff" * 50,
    "a BMP of nonsense": lambda: b"BM" + b"\xff" * 90,
    "a WebP of nonsense": lambda: b"RIFF\xff\xff\xff\xffWEBPVP8 " + b"\xff" * 50,
    "a PPM of 5,000 digits": lambda: b"P6\n" + b"9" * 5000 + b" 1\n255\n",
    "a PPM of a negative size": lambda: b"P6\n-5 -5\n255\n",
}
READ_KINDS: dict[str, Callable[[], bytes]] = {
    "CMYK": lambda: _saved(Image.new("CMYK", (16, 16)), "JPEG"),
    "palette": lambda: _saved(Image.new("P", (16, 16)), "PNG"),
    "palette with transparency": _transparent,
    "animated": _animated,
    "turned by EXIF": _turned,
    "corrupt EXIF": _bad_exif,
    "one bit": lambda: _saved(Image.new("1", (16, 16)), "PNG"),
    "grey and alpha": lambda: _saved(Image.new("LA", (16, 16)), "PNG"),
    "another suffix": lambda: picture("JPEG"),
    "a WebP": lambda: picture("WEBP", mode="RGB"),
}
NAMES: dict[str, bytes] = {
    "no UTF-8": b"\xff\xfe",
    "a line break": b"a\nb",
    "an escape": b"\x1b[2J",
    "a turned letter": "a\u202eb".encode(),
    "a bell": b"\x07",
}


def cases() -> Iterator[Case]:
    """Give pictures to commands that classify, train, explain and detect."""
    for name, content in REFUSED_KINDS.items():
        yield Case(f"picture/{name}", _listed(content), says="05.png")
        yield Case(f"picture/detect/{name}", _found(content), ends=EITHER)
    for name, content in READ_KINDS.items():
        # Colour beside grey makes all of them colour, which a grey net does not take.
        yield Case(f"picture/read/{name}", _trained_on(content), ends=EITHER)
        yield Case(f"picture/explain/{name}", _explained(content), ends=EITHER)
    for name, make in (ODD | {"nothing": _nothing}).items():
        yield Case(f"picture/file/images/{name}", _lying_in(pictures, "05.png", make))
        yield Case(f"picture/file/folder/{name}", _lying_in_folder(make), ends=EITHER)
        yield Case(f"picture/file/explain/{name}", _shown(make))
        yield Case(f"picture/file/voc/{name}", _lying_in_voc("JPEGImages/a.jpg", make))
        yield Case(f"picture/file/coco/{name}", _lying_in_coco(make))
    for name, called in NAMES.items():
        yield Case(f"name/class folder/{name}", _named(called, folder=True), says="UTF-8")
        yield Case(f"name/picture/{name}", _named(called, folder=False), says="UTF-8")
        yield Case(f"name/imagenet folder/{name}", _wnid(called))
    yield Case("name/folder of links round", _round, ends=(0,), after=_is_quiet)
    yield Case("name/folder of linked pictures", _linked, ends=(0,))
    yield Case("name/class folder that is a link", _linked_class, ends=(0,))
    yield Case("name/400 folders deep", _deep, ends=EITHER)
    for name, content in (("bomb", lambda: png(13_000, 13_000)), ("transparent", _transparent)):
        yield Case(f"picture/folder/{name}", _trained_on(content), ends=EITHER)


def _nothing(path: Path) -> None:
    path.unlink(missing_ok=True)


def _is_quiet(_: Place, ending: Ending) -> str | None:
    return ending.err and f"stderr: {ending.err}"


def _listed(content: Callable[[], bytes]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        pictures(place)
        place.write("sent/05.png", content())
        return attack(place, "images:sent?labels=labels.csv")

    return prepare


def _trained_on(content: Callable[[], bytes]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        classes(place)
        place.write("sent/dog/05.png", content())
        return train("folder:sent")

    return prepare


def _found(content: Callable[[], bytes]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        return detect(place, voc(place, "<annotation/>", content() or b"\n"))

    return prepare


def _explain(place: Place, file: str) -> Sequence[str]:
    net = str(place.run("train") / "model.safetensors")
    flags = ["--method", "saliency", "--no-check", "--device", "cpu", "--out", "out"]
    return ["explain", "--model", net, "--image", file, *flags]


def _explained(content: Callable[[], bytes]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.write("sent.png", content())
        return _explain(place, "sent.png")

    return prepare


def _shown(make: Callable[[Path], None]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        make(place.here / "sent.png")
        return _explain(place, "sent.png")

    return prepare


def _lying_in(
    fill: Callable[[Place], Path], name: str, make: Callable[[Path], None]
) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        make(fill(place) / name)
        return attack(place, "images:sent?labels=labels.csv")

    return prepare


def _lying_in_folder(make: Callable[[Path], None]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        make(classes(place) / "dog" / "05.png")
        return train("folder:sent")

    return prepare


def _lying_in_voc(name: str, make: Callable[[Path], None]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        spec = voc(place, boxed())
        make(place.here / "sent" / name)
        return detect(place, spec)

    return prepare


def _lying_in_coco(make: Callable[[Path], None]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        spec = coco(place)
        make(place.here / "sent/a.png")
        return detect(place, spec)

    return prepare


def _named(called: bytes, *, folder: bool) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        there, name = classes(place), os.fsdecode(called)
        if folder:
            (there / "dog").rename(there / name)
        else:
            (there / "dog" / "05.png").rename(there / "dog" / f"{name}.png")
        return train("folder:sent")

    return prepare


def _wnid(called: bytes) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.write("sent/n01440764/a.png", picture())
        (place.here / "sent/n01440764").rename(place.here / "sent" / os.fsdecode(called))
        return attack(place, "imagenet:sent")

    return prepare


def _round(place: Place) -> Sequence[str]:
    folder = classes(place)
    (folder / "dog" / "up").symlink_to("..")
    (folder / "dog" / "self").symlink_to("self")
    (folder / "dog" / "here").symlink_to(".")
    return train("folder:sent")


def _linked(place: Place) -> Sequence[str]:
    folder = classes(place)
    for file in sorted((folder / "dog").iterdir()):
        target = place.here / "elsewhere" / file.name
        target.parent.mkdir(exist_ok=True)
        file.rename(target)
        file.symlink_to(target)
    return train("folder:sent")


def _linked_class(place: Place) -> Sequence[str]:
    folder = classes(place)
    (folder / "dog").rename(place.here / "elsewhere")
    (folder / "dog").symlink_to("../elsewhere")
    return train("folder:sent")


def _deep(place: Place) -> Sequence[str]:
    folder = classes(place) / "dog"
    here = Path.cwd()
    os.chdir(folder)
    try:
        for _ in range(400):
            Path("deep").mkdir()
            os.chdir("deep")
        Path("a.png").write_bytes(picture())
    finally:
        os.chdir(here)
    return train("folder:sent")
