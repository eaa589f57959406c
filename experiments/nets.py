"""The networks that options name, made for the images they are to see."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from robustkit import models
from robustkit.data import ImageSet, Splits, channel_stats
from robustkit.errors import DataError, ModelError
from robustkit.models import ZOO, Classifier
from robustkit.models.classifier import takes_grey
from robustkit.models.matching import matched
from robustkit.models.sources.factory import FACTORY
from robustkit.models.specs import parse

KEPT = 2**28  # bytes of weights kept in memory; beyond, nets are loaded again when they are used


def resolve_net(
    spec: str,
    splits: Splits,
    *,
    seed: int,
    weights: str | None = None,
    download: bool = False,
    trust: Sequence[str] = (),
) -> Classifier:
    """The classifier that `spec` names, to be trained on `splits`.

    Nets without a preprocessing of their own normalise as the training split says. Raises
    `ModelError` as `robustkit.models.resolve`, and `DataError` for images that are not square where
    the net takes square ones: before there is a run folder, not in the first step.
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


def fitted(net: Classifier, images: ImageSet, spec: str, data: str) -> Classifier:
    """A trained net in the pixel space of the images, its classes in their order.

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
    """Raise `ModelError` where a run names a function of somebody's as a model, and none trusts it.

    `where` is the run's folder: what a user types himself is his to run, a folder runs no code.
    """
    for spec in specs:
        parsed = parse(spec)
        if parsed.scheme == FACTORY and parsed.name not in trust:
            raise ModelError(
                f"{where}: its model {spec} is made by a function, which loading would run; if you "
                f"trust it, say so: --trust {parsed.name}"
            )


class Nets(Mapping[str, Classifier]):
    """Models by name, loaded when they are asked for.

    Those asked for last stay in memory while their weights take at most `kept` bytes together, so
    that memory does not grow with their number.
    """

    def __init__(
        self, loaders: Mapping[str, Callable[[], Classifier]], *, kept: int = KEPT
    ) -> None:
        self._loaders, self._kept = dict(loaders), kept
        self._loaded: OrderedDict[str, Classifier] = OrderedDict()

    def __getitem__(self, name: str) -> Classifier:
        if name not in self._loaded:
            self._loaded[name] = self._loaders[name]()
        self._loaded.move_to_end(name)
        while len(self._loaded) > 1 and sum(map(_bytes, self._loaded.values())) > self._kept:
            self._loaded.popitem(last=False)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)

    def only(self, names: Sequence[str]) -> Nets:
        """Some of the models, by the same loaders."""
        return Nets({name: self._loaders[name] for name in names}, kept=self._kept)


def _bytes(net: Classifier) -> int:
    return sum(each.nbytes for each in net.net.state_dict().values())
