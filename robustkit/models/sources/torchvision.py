"""torchvision's classifiers, with the weights it publishes, a user's, or none."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.class_names import distinct
from robustkit.errors import ModelError, did_you_mean
from robustkit.geometry import Geometry, Size
from robustkit.models.fitting import make_fitting
from robustkit.models.layers import GreyToColour, chain
from robustkit.models.preprocessing import Preprocessing
from robustkit.models.sources.base import (
    SOURCES,
    Request,
    SourceNet,
    check_channels,
    exchange_head,
    make_anywhere,
    size_of,
)
from robustkit.models.weights import cached_download, fit_weights, read_weights
from robustkit.reading import Json

# Their auxiliary classifiers would make the output in train mode something else than logits.
_WITH_AUXILIARIES = ("googlenet", "inception_v3")
_AUXILIARY = ("auxlogits.", "aux1.", "aux2.")
_OPTIONS = ("transform_input", "image_size")  # what a card may tell of a net beside its name
_NONE = "none"


@SOURCES.register("torchvision")
def open_torchvision(request: Request) -> SourceNet:
    """Offer `torchvision:NAME?weights=DEFAULT|WEIGHTS|FILE`.

    Weights that torchvision publishes bring its own preprocessing (`transforms()`), categories and
    published accuracy; they are read from torch's cache, or fetched where that is allowed. A FILE
    is a user's state dict for this architecture: of 1,000 classes it is taken for ImageNet's, with
    the preprocessing of torchvision's default weights; of another number, for something trained on
    pictures as they come, normalised by ImageNet's statistics. Raises `ModelError`.
    """
    spec = request.spec
    spec.refuse_unknown("weights")
    _check_name(spec.name)
    wanted = spec.options.get("weights", _NONE)
    if wanted == _NONE:
        return _fresh(request)
    known = _published(spec.name)
    if wanted in known or ("/" not in wanted and not Path(wanted).suffix):
        if wanted not in known:
            raise ModelError(
                f"{spec.text}: torchvision has no weights '{wanted}' for {spec.name}, and there is "
                f"no such file{did_you_mean(wanted, known)}"
            )
        return _with_published(request, known[wanted])
    return _with_file(request, wanted, known.get("DEFAULT"))


def make_torchvision(
    name: str, num_classes: int, in_channels: int, size: Size, options: Mapping[str, Any]
) -> nn.Module:
    """Return torchvision's classifier `name` with fresh weights; grey images become colour.

    Raises `ModelError` for an unknown name, for images that are neither grey nor colour, and for
    images too small for the network.
    """
    _check_name(name)
    check_channels(f"torchvision:{name}", in_channels)

    def make(_: Size) -> nn.Module:
        net = _bare(name, num_classes, options)
        return net if in_channels == 3 else chain(("colour", GreyToColour()), ("net", net))

    return make_fitting(make, f"torchvision:{name}", num_classes, in_channels, size)


def _bare(name: str, num_classes: int, options: Mapping[str, Any]) -> nn.Module:
    from torchvision import models as torchvision_models  # slow to import, and seldom needed

    for option in options:
        if option not in _OPTIONS:
            raise ModelError(f"torchvision:{name}: unknown option '{option}' on its card")
    given = {"num_classes": num_classes, **options}
    if name in _WITH_AUXILIARIES:
        given |= {"aux_logits": False, "init_weights": False}

    def make() -> nn.Module:
        try:
            net: nn.Module = torchvision_models.get_model(name, weights=None, **given)
        except (TypeError, AssertionError) as error:
            raise ModelError(f"torchvision:{name}: cannot be made so ({error})") from None
        return net

    return make_anywhere(make)


def _fresh(request: Request) -> SourceNet:
    shape, count = request.wanted_shape(), request.wanted_classes()
    name = request.spec.name
    net = make_torchvision(name, count, shape[0], size_of(shape), {})
    return SourceNet(net, {"family": "torchvision", "name": name}, num_classes=count)


def _with_published(request: Request, weights: Any) -> SourceNet:
    spec = request.spec
    path = cached_download(weights.url, spec.text, download=request.download)
    from torchvision import models as torchvision_models

    with _handing_over(weights, read_weights(path)):
        net: Any = torchvision_models.get_model(spec.name, weights=weights)
    if spec.name in _WITH_AUXILIARIES:  # inception keeps what only its training needs
        net.aux_logits, net.AuxLogits = False, None
    options = _options(spec.name, weights)
    entry: Json = {"family": "torchvision", "name": spec.name}
    if options:
        entry["options"] = options
    classes = distinct(weights.meta["categories"])
    metrics = weights.meta.get("_metrics", {}).get("ImageNet-1K", {})
    published = None
    if "acc@1" in metrics:
        published = {"accuracy": metrics["acc@1"] / 100, "on": "ImageNet-1K"}
    return _headed(request, net, entry, options, classes, _preprocessing(weights), published)


def _with_file(request: Request, file: str, usual: Any) -> SourceNet:
    spec = request.spec
    state = read_weights(file)
    count = _logits_of(spec.name, state, file)
    # A file that has the name of published weights is taken for them.
    named = (
        value for value in _published(spec.name).values() if value.url.endswith(Path(file).name)
    )
    usual = next(named, usual)
    imagenet = usual is not None and count == len(usual.meta["categories"])
    options = _options(spec.name, usual) if imagenet else {}
    if spec.name in _WITH_AUXILIARIES:
        for tensor in [item for item in state if item.lower().startswith(_AUXILIARY)]:
            del state[tensor]
    net = _bare(spec.name, count, options)
    fit_weights(net, state, file)
    entry: Json = {"family": "torchvision", "name": spec.name}
    if options:
        entry["options"] = options
    if imagenet:
        classes = distinct(usual.meta["categories"])
        return _headed(request, net, entry, options, classes, _preprocessing(usual), None)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    preprocessing = Preprocessing(mean=mean, std=std)
    if request.num_classes not in (None, count):
        return _headed(request, net, entry, {}, tuple(map(str, range(count))), preprocessing, None)
    return SourceNet(net, entry, preprocessing, num_classes=count, trained=True)


def _headed(
    request: Request,
    net: nn.Module,
    entry: Mapping[str, Any],
    options: Mapping[str, Any],
    classes: tuple[str, ...],
    preprocessing: Preprocessing,
    published: Mapping[str, Any] | None,
) -> SourceNet:
    """Return the net with its own head or, to be trained on other classes, a new one."""
    if request.classes is None or request.classes == classes:
        return SourceNet(
            net, entry, preprocessing, classes, len(classes), trained=True, published=published
        )
    wanted = len(request.classes)
    name = request.spec.name
    new = exchange_head(
        lambda count: _bare(name, count, options),
        net.state_dict(),
        len(classes),
        wanted,
        request.spec.text,
    )
    note = f"new head: {len(classes):,} classes of the weights become the data's {wanted}"
    return SourceNet(new, entry, preprocessing, None, wanted, trained=True, notes=(note,))


def _preprocessing(weights: Any) -> Preprocessing:
    """Return torchvision's preprocessing for these weights."""
    preset = weights.transforms()
    side = preset.crop_size[0]
    interpolation = preset.interpolation.value
    geometry = Geometry((side, side), preset.resize_size[0], interpolation)
    return Preprocessing(
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        input_size=(side, side),
        interpolation=interpolation,
        geometry=geometry,
    )


def _options(name: str, weights: Any) -> Json:
    """Return the options of a net with these weights that one without them has not."""
    if name in _WITH_AUXILIARIES:
        return {"transform_input": True}
    least = weights.meta.get("min_size", (224, 224))[0]
    if name.startswith("vit_") and least != 224:
        return {"image_size": least}
    return {}


def _logits_of(name: str, state: Mapping[str, Tensor], file: str) -> int:
    """Return the number of classes of a state dict of this architecture, from its head."""
    with torch.device("meta"):
        one, other = (_bare(name, count, {}).state_dict() for count in (7, 8))
    head = [item for item in one if one[item].shape != other[item].shape]
    for item in head:
        if item in state and state[item].dim():
            return int(state[item].shape[0])
    raise ModelError(f"{file}: no weights of torchvision's {name}: '{head[0]}' is missing")


@contextmanager
def _handing_over(weights: Any, state: dict[str, Tensor]) -> Iterator[None]:
    """Have torchvision's own builder take `state` for the weights it would fetch and unpickle."""
    from torchvision.models import WeightsEnum

    original = WeightsEnum.get_state_dict

    def get_state_dict(self: Any, *args: Any, **kwargs: Any) -> Any:
        return state if self is weights else original(self, *args, **kwargs)

    WeightsEnum.get_state_dict = get_state_dict
    try:
        yield
    finally:
        WeightsEnum.get_state_dict = original


def _published(name: str) -> Mapping[str, Any]:
    """Return the weights that torchvision publishes for a classifier, by name, with DEFAULT."""
    from torchvision import models as torchvision_models

    weights = torchvision_models.get_model_weights(name)
    return dict(weights.__members__)


def _check_name(name: str) -> None:
    from torchvision import models as torchvision_models

    names = torchvision_models.list_models(module=torchvision_models)
    if name not in names:
        near = ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0.0))
        raise ModelError(f"torchvision has no classifier '{name}'; the nearest names are {near}")
