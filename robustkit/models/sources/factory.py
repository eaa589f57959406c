"""Users' own networks: what `package.module:factory` or `FILE.py:factory` returns."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from robustkit import extensions, usercode
from robustkit.compute import device_of
from robustkit.compute.seeds import isolated_rng
from robustkit.errors import ModelError, did_you_mean
from robustkit.geometry import Size
from robustkit.models.card import Card
from robustkit.models.classifier import Classifier
from robustkit.models.fitting import check_logits, dry_run
from robustkit.models.preprocessing import Preprocessing
from robustkit.models.sources.base import SOURCES, Request, SourceNet, size_of
from robustkit.models.weights import fit_weights, read_weights
from robustkit.reading import Json, typed_path

FACTORY = "factory"
_OFFERED = ("num_classes", "in_channels", "image_size")


@SOURCES.register(FACTORY)
def open_factory(request: Request) -> SourceNet:
    """Offer `package.module:factory?key=value&…` and `FILE.py:factory?…`.

    The function is called with the options, and with those of `num_classes`, `in_channels` and
    `image_size` that its signature has. Its module gets pictures in [0,1] of the pixel space and
    nothing else, unless it returns what `models.wrap` made. `weights=FILE` puts a state dict into
    it; whether it has weights already is its own affair.
    """
    spec = request.spec
    options = {name: value for name, value in spec.options.items() if name != "weights"}
    entry: Json = {"family": FACTORY, "factory": spec.name}
    if options:
        entry["options"] = options
    # A factory may well know its classes and sizes by itself.
    shape = request.shape or (3, 224, 224)
    net = call_factory(spec.name, options, request.num_classes, shape[0], size_of(shape))
    preprocessing, classes = Preprocessing(), None
    if isinstance(net, Classifier):
        preprocessing, classes = net.card.preprocessing, net.card.classes or None
        net = net.net
    wanted = request.num_classes if classes is None else len(classes)
    bare = preprocessing == Preprocessing()
    count = check_net(net, spec.text, wanted, *seen(preprocessing, shape), bare=bare)
    file = spec.options.get("weights")
    if file is not None:
        fit_weights(net, read_weights(file), file)
    return SourceNet(net, entry, preprocessing, classes, count, trained=True)


def make_factory(card: Card) -> nn.Module:
    """Return the net that a factory's card describes, with the weights its function gives it."""
    entry, shape, count = card.architecture, card.input_shape, len(card.classes)
    name, options = str(entry["factory"]), entry.get("options", {})
    if not isinstance(options, Mapping) or not all(isinstance(v, str) for v in options.values()):
        raise ModelError(f"model card: options of {name} must be texts by name, not {options!r}")
    returned = call_factory(name, options, count, shape[0], size_of(shape))
    net = returned.net if isinstance(returned, Classifier) else returned
    bare = card.preprocessing == Preprocessing()
    check_net(net, name, count, *seen(card.preprocessing, shape), bare=bare)
    return net


def seen(preprocessing: Preprocessing, shape: tuple[int, int, int]) -> tuple[int, Size]:
    """Return the channels and (height, width) that the net is given of pictures (C,H,W)."""
    return max(shape[0], len(preprocessing.mean)), preprocessing.input_size or size_of(shape)


def takes(spec: str, option: str) -> bool:
    """Return whether the function `spec` has a parameter called `option`; raises `ModelError`."""
    return option in inspect.signature(_find(spec)).parameters


def call_factory(
    spec: str, options: Mapping[str, str], count: int | None, channels: int, size: Size
) -> nn.Module:
    """Return the network that the function `spec` returns; raises `ModelError` otherwise."""
    factory = _find(spec)
    side = size[0] if size[0] == size[1] else size
    offered = {"num_classes": count, "in_channels": channels, "image_size": side}
    if count is None:
        del offered["num_classes"]
    with usercode.contained(spec, ModelError):
        given = _arguments(spec, factory, offered, options)
        net = factory(**given)
    if inspect.iscoroutine(net):
        net.close()
        raise ModelError(f"{spec}: is an async function, whose network is not awaited")
    if not isinstance(net, nn.Module):
        raise ModelError(f"{spec}: returns {type(net).__name__}, not a torch.nn.Module")
    return net


def check_net(
    net: nn.Module, spec: str, count: int | None, channels: int, size: Size, *, bare: bool = False
) -> int:
    """Return the number of logits that `net` gives for a picture (channels, *size).

    Raises `ModelError` where it raises, gives something else than finite float logits (N,K) with K
    as in `count`, or probabilities, of which attacks cannot take the gradients of a loss on logits;
    where no gradient leads to the picture; and where it is `bare`, given the pictures themselves,
    and writes into them.
    """
    takes = f"{spec}: its network cannot take images of {channels}x{size[0]}x{size[1]}"
    with usercode.contained(takes, ModelError):
        output = dry_run(net, (channels, *size))
        if count is not None:
            check_logits(output, spec, count)
        elif not isinstance(output, Tensor) or output.dim() != 2 or len(output) != 1:
            given = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ModelError(f"{spec}: gives {given} for one image, not logits (1, classes)")
        with isolated_rng(0):
            noise = torch.rand(2, channels, *size)
        logits = _see(net, noise, spec, bare=bare)
        check_outputs(torch.cat([output.cpu(), logits]), spec)
    return int(output.shape[1])


def check_outputs(outputs: Tensor, where: str) -> None:
    """Raise `ModelError` where `outputs` (N,K) are not finite floats, or are probabilities."""
    if not outputs.is_floating_point() or outputs.layout != torch.strided:
        kind = outputs.layout if outputs.is_floating_point() else outputs.dtype
        raise ModelError(
            f"{where}: gives {str(kind).removeprefix('torch.')} numbers, not float logits"
        )
    if not bool(torch.isfinite(outputs).all()):
        raise ModelError(f"{where}: its logits are not finite numbers")
    sums = outputs.sum(dim=1)
    if (
        outputs.shape[1] > 1
        and bool((outputs >= 0).all())
        and bool(((sums - 1).abs() < 1e-3).all())
    ):
        raise ModelError(
            f"{where}: gives probabilities, which sum to 1, not logits: leave out its softmax"
        )


def _see(net: nn.Module, pictures: Tensor, spec: str, *, bare: bool) -> Tensor:
    """Return the logits of `pictures`, on the CPU; check that a gradient leads to the pictures."""
    modes = {module: module.training for module in net.modules()}
    try:
        net.eval()
        with torch.enable_grad(), isolated_rng():
            leaf = pictures.to(device_of(net)).requires_grad_()
            shown = leaf.clone()
            logits: Tensor = net(shown)
            if logits.shape[:1] != pictures.shape[:1]:
                raise ModelError(
                    f"{spec}: gives {tuple(logits.shape)} for {len(pictures)} images, not a row of "
                    "logits for each"
                )
            check_outputs(logits.detach(), spec)
            if bare and not torch.equal(shown, leaf):
                raise ModelError(
                    f"{spec}: its network writes into the images it is given; let it work on "
                    "x.clone()"
                )
            if not logits.requires_grad or _gradient(logits, leaf) is None:
                raise ModelError(
                    f"{spec}: no gradient leads from its logits to the images: it detaches them, "
                    "or computes outside torch"
                )
            return logits.detach().cpu()
    finally:
        for module, mode in modes.items():
            module.training = mode


def _gradient(outputs: Tensor, pictures: Tensor) -> Tensor | None:
    gradient: Tensor | None = torch.autograd.grad(outputs.sum(), pictures, allow_unused=True)[0]
    return gradient


def _find(spec: str) -> Callable[..., object]:
    module_name, _, attribute = spec.rpartition(":")
    with usercode.contained(f"{spec}: cannot import '{module_name}'", ModelError):
        try:
            module = _file(spec, module_name) if module_name.endswith(".py") else None
            module = module or extensions.found(module_name)
        except (ImportError, SyntaxError) as error:
            reason = usercode.words(error)
            raise ModelError(f"{spec}: cannot import '{module_name}' ({reason})") from error
        factory: Callable[..., object] | None = getattr(module, attribute, None)
    if factory is None or not callable(factory):
        functions = [
            name
            for name, value in vars(module).items()
            if callable(value) and not name.startswith("_")
        ]
        hint = did_you_mean(attribute, functions)
        raise ModelError(f"{spec}: '{module_name}' has no function '{attribute}'{hint}")
    return factory


def _file(spec: str, name: str) -> ModuleType:
    """Return the module in a file of the user, whose folder is searched for its imports."""
    path = Path(os.path.realpath(typed_path(name, error=ModelError)))
    if not path.is_file():
        raise ModelError(f"{spec}: no such file: {name}")
    key = f"robustkit_factory_{path.stem}_{abs(hash(str(path)))}"
    if key in sys.modules:
        return sys.modules[key]
    usercode.belongs_to_user(key, path.name)
    module_spec = importlib.util.spec_from_file_location(key, path)
    if module_spec is None or module_spec.loader is None:
        raise ModelError(f"{spec}: {name} cannot be imported")
    module = importlib.util.module_from_spec(module_spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[key] = module
    try:
        module_spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[key]
        raise
    return module


def _arguments(
    spec: str,
    factory: Callable[..., object],
    offered: Mapping[str, Any],
    options: Mapping[str, str],
) -> dict[str, object]:
    """Return the arguments of the function: the user's options, and those of ours that it has."""
    parameters: Mapping[str, inspect.Parameter] = inspect.signature(factory).parameters
    if inspect.isclass(factory) and factory.__init__ is nn.Module.__init__:
        parameters = {}  # the signature it inherits takes anything and refuses it
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    given: dict[str, object] = {}
    for name, text in options.items():
        if name not in parameters and not takes_any:
            raise ModelError(f"{spec}: takes no argument '{name}'{did_you_mean(name, parameters)}")
        kind = parameters[name].annotation if name in parameters else None
        given[name] = text if kind in (str, "str") else _value(text)
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for parameter in parameters.values():
        needed = parameter.default is parameter.empty and parameter.kind not in variadic
        if not needed or parameter.name in given:
            continue
        if parameter.name in _OFFERED and parameter.name not in offered:
            raise ModelError(
                f"{spec}: needs '{parameter.name}', which no data tells here: write "
                f"{spec}?{parameter.name}=10"
            )
        if parameter.name not in offered or parameter.kind is parameter.POSITIONAL_ONLY:
            raise ModelError(
                f"{spec}: needs the argument '{parameter.name}'; a factory is called with "
                "num_classes, in_channels and image_size by name, and with options as in "
                f"{spec}?{parameter.name}=VALUE"
            )
    accepted = offered if takes_any else {n: v for n, v in offered.items() if n in parameters}
    return {**accepted, **given}


def _value(text: str) -> object:
    """Return the text of an option as the plain value that it spells."""
    named = {"true": True, "false": False, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
