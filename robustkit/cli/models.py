"""The options that name models, and the models they name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from robustkit import models
from robustkit.cli.parser import CommandParser
from robustkit.data import ImageSet, Splits, channel_stats
from robustkit.errors import ConfigError, DataError, ModelError
from robustkit.models import ZOO, Classifier
from robustkit.models.classifier import matched, takes_grey
from robustkit.models.resolve import parse
from robustkit.models.sources.factory import FACTORY


def add_model_options(parser: CommandParser) -> None:
    """Add `--weights`, `--trust`, and which images the models are evaluated on."""
    group = parser.add_argument_group("images and nets")
    group.add_argument(
        "--weights",
        nargs="+",
        metavar="FILE",
        default=[],
        help="state dicts for those models that name no weights, in their order; none: its own",
    )
    add_trust_option(group)
    group.add_argument(
        "--split", default=None, help="test, val or train; none: the first that the data has"
    )
    group.add_argument(
        "--test-size",
        type=int | None,
        metavar="N",
        help="evaluate on N images, classes kept even where there are enough",
    )
    add_batch_option(group)


def add_trust_option(group: Any) -> None:
    """Add `--trust`: functions that a model file may name and loading may run."""
    group.add_argument(
        "--trust",
        nargs="+",
        metavar="FACTORY",
        default=[],
        help="package.module:factory that makes the net of a model file, and may be run",
    )


def add_batch_option(group: Any) -> None:
    """Add `--batch-size`."""
    group.add_argument(
        "--batch-size",
        default="auto",
        metavar="N",
        help="images at a time, or auto: as many as fit, halved where memory runs out",
    )


def batch_size_of(settings: Mapping[str, Any]) -> int | None:
    """Return the value of `--batch-size`, None for auto; raises `ConfigError` for other text."""
    text = str(settings.get("batch_size", "auto"))
    if text == "auto":
        return None
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise ConfigError(f"--batch-size must be auto or a whole number from 1 on, not '{text}'")
    return int(text)


def name_models(specs: Sequence[str]) -> dict[str, str]:
    """Return specs by name: the NAME of "NAME=SPEC", else a file's stem, else the spec itself.

    Files of one stem are told apart by their folders. Raises `ConfigError` for a name given twice.
    """
    named: dict[str, str] = {}
    for given in specs:
        name, equals, spec = given.partition("=")
        # A file whose name has an "=" is a file.
        explicit = bool(equals) and not Path(given).exists() and not {"/", "?", ":"} & set(name)
        if explicit and not (name and spec):
            raise ConfigError(f"'{given}': expected NAME=MODEL")
        if not explicit:
            spec = given
            is_file = spec.endswith((".safetensors", ".npz")) and "?" not in spec
            name = Path(spec).stem if is_file else spec
            if name in named and is_file:
                name = str(Path(spec).with_suffix(""))
        if name in named:
            raise ConfigError(f"two models called '{name}': write NAME={spec} to tell them apart")
        named[name] = spec
    return named


def resolve_net(
    spec: str,
    splits: Splits,
    *,
    seed: int,
    weights: str | None = None,
    download: bool = False,
    trust: Sequence[str] = (),
) -> Classifier:
    """Return the classifier that `spec` names, to be trained on `splits`.

    Models without a preprocessing of their own normalise by the training split's statistics. Raises
    `ModelError` as `robustkit.models.resolve`, and `DataError` for images that are not square where
    the model takes square ones: before there is a run folder, not in the first step.
    """
    channels, height, width = splits.train.shape
    if height != width and spec.partition("?")[0] in ZOO:
        raise DataError(
            f"{splits.name}: images are {width}x{height} pixels, and networks take square ones; "
            f"crop them or, in a folder of images, add '?size={min(height, width)}' to its path"
        )
    mean, std = channel_stats(splits.train)
    return models.resolve(
        spec,
        num_classes=splits.train.num_classes,
        in_channels=channels,
        image_size=(height, width),
        classes=splits.train.classes,
        mean=mean,
        std=std,
        weights=weights,
        seed=seed,
        download=download,
        trust=trust,
    )


def fit_to_images(net: Classifier, images: ImageSet, spec: str, data: str) -> Classifier:
    """Return a trained net in the pixel space of the images, its classes in their order.

    `spec` and `data` name both in errors. Raises `ModelError` for other classes, and for colours
    where the net takes grey.
    """
    net = matched(net, images.classes, spec, data)
    channels = net.card.input_shape[0]
    grey = images.shape[0] == 1 and takes_grey(net.card.preprocessing)
    if channels not in (0, images.shape[0]) and not grey:
        raise ModelError(
            f"{spec}: the model takes images of shape {net.card.input_shape}, the data has "
            f"{images.shape}"
        )
    return models.resizing(net, images.shape[1:])


def check_code(specs: Iterable[str], trust: Sequence[str], where: Path) -> None:
    """Raise `ModelError` where a run's model is made by a function that is not trusted.

    `where` is the run's folder. Functions that the user types are run; those of a folder are not.
    """
    for spec in specs:
        parsed = parse(spec)
        if parsed.scheme == FACTORY and parsed.name not in trust:
            raise ModelError(
                f"{where}: its model {spec} is made by a function, which loading would run; if you "
                f"trust it, say so: --trust {parsed.name}"
            )
