"""Paths and sizes as people mistype them, in every option that names data, models and folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tests.hostile.case import EITHER, REFUSED, Case, Place
from tests.hostile.sent import attack, detect, detector, pictures, train, transfer

TYPED: dict[str, str] = {
    "5,000 letters": "a" * 5000,
    "5,000 letters in folders": "a/" * 2500,
    "a name of 300 letters": "a" * 300,
    "an unknown user": "~nobody-of-this-name/x",
    "an unknown user alone": "~nobody-of-this-name",
    "nothing": "",
    "a dot": ".",
    "the root": "/",
    "a device": "/dev/zero",
    "a file for a folder": "/etc/hostname/x",
    "memory": "/proc/self/mem",
    "a folder": "/tmp",
}
BARE = ("npz:", "folder:", "images:", "imagenet:", "voc:", "coco:", "shapes:", "cifar10:", "")
SPECS: dict[str, str] = {
    "a size of a million": "folder:sent?size=1000000",
    "a size of 19 digits": f"folder:sent?size={10**18}",
    "a size of 5,000 digits": f"folder:sent?size={'9' * 5000}",
    "a size of nought": "folder:sent?size=0",
    "a negative size": "folder:sent?size=-5",
    "a size of another script": "folder:sent?size=\u0663\u0663",
    "a resize of a million": "folder:sent?size=8&resize=1000000",
    "an unknown interpolation": "folder:sent?size=8&interpolation=magic",
    "an option twice": "folder:sent?size=8&size=8",
    "options of 5,000 letters": "folder:sent?" + "a" * 5000,
    "5,000 question marks": "folder:sent" + "?" * 5000,
    "options for digits": "digits?size=10",
    "a path for digits": "digits:/etc",
    "an unknown source of 5,000 letters": "a" * 5000 + ":x",
    "a file of labels of 5,000 letters": "images:sent?labels=" + "a" * 5000,
    "a file of labels of a user": "images:sent?labels=~nobody-of-this-name/x.csv",
    "a column of 5,000 letters": "images:sent?labels=labels.csv&column=" + "a" * 5000,
    "a severity of 5,000 digits": "cifar10c?severity=" + "9" * 5000,
    "5,000 colons": ":" * 5000,
}
DETECTED: dict[str, str] = {
    "10 thousand million shapes": "shapes:photo:10000000000",
    "shapes of 5,000 digits": "shapes:photo:" + "9" * 5000,
    "a million million pixels": "shapes:photo:1?side=1000000000000",
    "a texture of 1/0": "shapes:photo:1?texture=1/0",
    "a texture of 1e999": "shapes:photo:1?texture=1e999",
    "a texture of NaN": "shapes:photo:1?texture=nan",
    "a seed of 5,000 digits": "shapes:photo:1?seed=" + "9" * 5000,
    "no shapes": "shapes:photo:0",
    "a split that leads up": "voc:sent:../../x",
    "a split of 5,000 letters": "voc:.:" + "a" * 5000,
    "a plus alone": "voc:+:test",
    "5,000 pluses": "voc:" + "a+" * 2500 + "a:test",
}
SIZES: dict[str, tuple[str, ...]] = {
    "test size of 10^15": ("--test-size", str(10**15)),
    "test size of 5,000 digits": ("--test-size", "9" * 5000),
    "test size of nought": ("--test-size", "0"),
    "test size of -1": ("--test-size", "-1"),
    "batch of 10^12": ("--batch-size", str(10**12)),
    "batch of 5,000 digits": ("--batch-size", "9" * 5000),
    "batch of nought": ("--batch-size", "0"),
    "seed of 5,000 digits": ("--seed", "9" * 5000),
    "seed of 10^30": ("--seed", str(10**30)),
}
WIDTHS: dict[str, str] = {
    "width of 10^9": "vgg3?width=1000000000",
    "width of 10^12": "vgg3?width=1000000000000",
    "width of 10^18": "vgg3?width=999999999999999999",
    "width of 5,000 digits": "vgg3?width=" + "9" * 5000,
    "width of nought": "vgg3?width=0",
    "a blank option": "vgg3?",
    "options of 5,000 letters": "vgg3?" + "a" * 5000,
}
TRAINED: dict[str, tuple[str, ...]] = {
    "train size of 10^15": ("--train-size", str(10**15)),
    "views of 10^12": ("--views", str(10**12), "--augment", "crop"),
    "batch of 10^12": ("--batch-size", str(10**12)),
    "epochs of 5,000 digits": ("--epochs", "9" * 5000),
}


def cases() -> Iterator[Case]:
    """Mistype paths and sizes."""
    for name, text in TYPED.items():
        for kind in ("npz", "folder", "imagenet"):
            yield Case(f"path/--data {kind}/{name}", _data(f"{kind}:{text}"))
        yield Case(f"path/--data images/{name}", _data(f"images:{text}?labels=a.csv"))
        yield Case(f"path/--data bare/{name}", _data(text))
        yield Case(f"path/--data voc/{name}", _detect(f"voc:{text}:test"))
        yield Case(f"path/--data coco/{name}", _detect(f"coco:.:{text}"))
        yield Case(f"path/--root/{name}", _root(text))
        yield Case(f"path/--model/{name}", _model(text))
        yield Case(f"path/--model file/{name}", _model(f"{text}/model.safetensors"))
        yield Case(f"path/--weights/{name}", _weights(text))
        yield Case(f"path/--model of a function/{name}", _model(f"{text}.py:make"))
        yield Case(f"path/--sources/{name}", _sources(text))
        yield Case(f"path/--import/{name}", _imports(text))
        yield Case(f"path/--image/{name}", _image(text))
        # A folder is a fine place to keep things in.
        yield Case(f"path/--cache/{name}", _cache(text), ends=EITHER)
        yield Case(f"path/--out/{name}", _out(text), ends=EITHER)
        yield Case(f"path/detect --model/{name}", _detector(text))
        yield Case(f"path/--reference/{name}", _reference(text))
    for text in BARE:
        yield Case(f"spec/bare '{text}'", _data(text))
        yield Case(f"spec/detect bare '{text}'", _detect(text))
    for name, text in SPECS.items():
        yield Case(f"spec/{name}", _spec(text))
    for name, text in DETECTED.items():
        yield Case(f"spec/detect/{name}", _detect(text))
    for name, more in SIZES.items():
        ends = EITHER if name == "batch of 10^12" else REFUSED
        yield Case(f"size/{name}", _sized(more), ends=ends)
    for name, text in WIDTHS.items():
        yield Case(f"size/{name}", _wide(text), ends=EITHER if "blank" in name else REFUSED)
    for name, more in TRAINED.items():
        yield Case(f"size/train/{name}", _trained(more), ends=EITHER if "batch" in name else (2,))


Prepare = Callable[[Place], Sequence[str]]


def _data(text: str) -> Prepare:
    return lambda place: attack(place, text)


def _detect(text: str) -> Prepare:
    return lambda place: detect(place, text)


def _root(text: str) -> Prepare:
    return lambda place: attack(place, "mnist", "--root", text)


def _model(text: str) -> Prepare:
    return lambda place: attack(place, "digits", model=text)


def _weights(text: str) -> Prepare:
    return lambda place: attack(place, "digits", "--weights", text, model="vgg3?width=8")


def _sources(text: str) -> Prepare:
    def prepare(place: Place) -> Sequence[str]:
        command = list(transfer(place, "--cache", "none"))
        command[command.index("--sources") + 1] = text
        return command

    return prepare


def _imports(text: str) -> Prepare:
    return lambda place: transfer(place, "--cache", "none", "--import", text)


def _cache(text: str) -> Prepare:
    # Nothing is kept of a run that is refused for another reason: folders may be anybody's.
    return lambda place: transfer(place, "--cache", text, "--loss", "no-such-loss")


def _out(text: str) -> Prepare:
    def prepare(place: Place) -> Sequence[str]:
        command = list(attack(place, "digits", "--test-size", "10"))
        command[command.index("--out") + 1] = text
        return command

    return prepare


def _image(text: str) -> Prepare:
    def prepare(place: Place) -> Sequence[str]:
        net = str(place.run("train") / "model.safetensors")
        flags = ["--method", "saliency", "--no-check", "--device", "cpu", "--out", "out"]
        return ["explain", "--model", net, "--image", text, *flags]

    return prepare


def _detector(text: str) -> Prepare:
    def prepare(place: Place) -> Sequence[str]:
        command = list(detect(place, "shapes:photo:8?side=64"))
        command[command.index(str(detector(place)))] = text
        return command

    return prepare


def _reference(text: str) -> Prepare:
    def prepare(place: Place) -> Sequence[str]:
        flags = ["--data", "digits", "--device", "cpu", "--out", "out"]
        return ["evolve", "--reference", f"{text}.safetensors", *flags]

    return prepare


def _spec(text: str) -> Prepare:
    def prepare(place: Place) -> Sequence[str]:
        pictures(place)
        return attack(place, text)

    return prepare


def _sized(more: Sequence[str]) -> Prepare:
    return lambda place: attack(place, "digits", *more)


def _wide(text: str) -> Prepare:
    def prepare(place: Place) -> Sequence[str]:
        command = list(train("digits"))
        command[command.index("--model") + 1] = text
        return command

    return prepare


def _trained(more: Sequence[str]) -> Prepare:
    return lambda place: train("digits", *more)
