"""What every source of models is asked for, and what it brings."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from robustkit.errors import ModelError, did_you_mean
from robustkit.geometry import Size
from robustkit.models.preprocessing import Preprocessing
from robustkit.models.weights import versioned
from robustkit.registry import Registry


@dataclass(frozen=True)
class Spec:
    """What a user types for a model: `text` whole, the `name` behind the scheme, the options."""

    text: str
    scheme: str
    name: str
    options: Mapping[str, str]

    def refuse_unknown(self, *known: str) -> None:
        """Raise `ModelError` for an option that is none of `known`."""
        for option in self.options:
            if option not in known:
                raise ModelError(
                    f"{self.text}: unknown option '{option}'{did_you_mean(option, known)}"
                )


@dataclass(frozen=True)
class Request:
    """What the model is wanted for.

    `classes` are those of the data it is to be trained on, None for a model that is used as it is;
    `shape` is (C,H,W) of the pixel space, None where it is not known yet; `download` allows weights
    to be fetched.
    """

    spec: Spec
    classes: tuple[str, ...] | None = None
    num_classes: int | None = None
    shape: tuple[int, int, int] | None = None
    download: bool = False

    def wanted_classes(self) -> int:
        """Return the number of logits of an untrained net; raises `ModelError` if unknown."""
        if self.num_classes is None:
            raise ModelError(
                f"{self.spec.text}: how many classes? it has no weights that tell; give it data, "
                "or a model file"
            )
        return self.num_classes

    def wanted_shape(self, default: tuple[int, int, int] | None = None) -> tuple[int, int, int]:
        """Return (C,H,W) of the pictures; raises `ModelError` if unknown."""
        shape = self.shape or default
        if shape is None:
            raise ModelError(
                f"{self.spec.text}: of which size are its pictures? give it data, or input_size"
            )
        return shape


@dataclass(frozen=True, eq=False)
class SourceNet:
    """What a source brings.

    `net` takes what `preprocessing` makes of pictures and gives logits (N,K); `architecture` is the
    card's entry that builds it again without weights. `preprocessing` None: none of its own, the
    data's statistics are right. `classes` None: the names are unknown. `trained`: it has weights
    that somebody trained. `published` tells the accuracy that was published with the weights, a
    fraction, as `accuracy`, and on what, as `on`. `notes` are lines for the user.
    """

    net: nn.Module
    architecture: Mapping[str, Any]
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None
    num_classes: int | None = None
    trained: bool = False
    published: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)


Opener = Callable[[Request], SourceNet]
SOURCES: Registry[Opener] = Registry("source of models", ModelError)


def exchange_head(
    make: Callable[[int], nn.Module],
    state: Mapping[str, Tensor],
    own: int,
    wanted: int,
    where: str,
) -> nn.Module:
    """Return `make(wanted)` with all of `state`, the weights of `make(own)`, except the head's.

    The head is what depends on the number of classes: its tensors start fresh, all others are
    copied to the bit. Raises `ModelError` where nothing or everything depends on it.
    """
    net = make(wanted)
    with torch.device("meta"):
        shapes = [
            {name: item.shape for name, item in make(count).state_dict().items()}
            for count in (own, own + 1)
        ]
    head = {name for name in shapes[0] if shapes[0][name] != shapes[1].get(name)}
    if not head or head == set(shapes[0]):
        raise ModelError(f"{where}: cannot tell its head, so it cannot get a new one")
    kept = {name: tensor for name, tensor in state.items() if name not in head}
    missing, unexpected = net.load_state_dict(versioned(net, kept), strict=False)
    if unexpected or set(missing) - head:
        odd = min([*unexpected, *(set(missing) - head)])
        raise ModelError(f"{where}: its weights do not fit the architecture: '{odd}'")
    return net


def need_package(name: str) -> None:
    """Raise `ModelError` with the line that installs it, unless the extra package is there."""
    if importlib.util.find_spec(name) is None:
        raise ModelError(f"{name}: needs the package {name}: pip install 'robustkit[{name}]'")


def import_quietly(name: str) -> Any:
    """Return the module `name`, without the warnings that its own imports give."""
    with warnings.catch_warnings(action="ignore"):
        return importlib.import_module(name)


class _RatesOnCpu(TorchFunctionMode):
    """Leaves `torch.linspace` on the CPU: rates of dropping paths are read as they are made."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is torch.linspace:
            given.setdefault("device", "cpu")
        return func(*args, **given)


def make_anywhere(make: Callable[[], nn.Module], *, may_move: bool = True) -> nn.Module:
    """Return `make()`, also where it is only to be described, on the device "meta".

    Many libraries compute with small tensors while they build a net, which "meta" cannot; the few
    nets that even so cannot be built there are built on the CPU and moved, if they `may_move`.
    """
    if torch.empty(0).device.type != "meta":
        return make()
    try:
        with _RatesOnCpu():
            return make()
    except (NotImplementedError, RuntimeError, TypeError):
        if not may_move:
            raise
        with torch.device("cpu"):
            return make().to("meta")


def check_channels(where: str, channels: int) -> None:
    """Raise `ModelError` unless pictures of so many channels can be shown to a colour net."""
    if channels not in (1, 3):
        raise ModelError(f"{where} takes images of 1 or 3 channels, not {channels}")


def size_of(shape: Sequence[int]) -> Size:
    """Return (height, width) of a shape (C,H,W)."""
    return shape[1], shape[2]
