"""Any classifier as the backbone of a detector."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from adaptation.detectors.norms import BATCH, FROZEN, GROUP, group_norms, hold_norms
from robustkit import explain, models
from robustkit.compute.seeds import isolated_rng
from robustkit.errors import ExplainError, ModelError, did_you_mean
from robustkit.models import Classifier
from robustkit.models.card import Card
from robustkit.reading import Json

COARSEST, FINEST = 4, 32  # sides of maps that are of use to a tiny detector
CHANNELS = (1, 3)  # of images that a backbone may have been trained on
# Families whose nets are built anew for the detector's images; of all others the net itself is cut.
RESIZED = ("zoo", "blueprint", "torchvision")
HOOKS = "hooks"
LARGEST, MOST = 4096, 2**16  # pixels of a side, and classes, that a card may tell of
_REFUSALS = (ValueError, TypeError, RuntimeError, AttributeError, StopIteration)


class Tapped(nn.Module):
    """A classifier's net up to its last tapped block, with levels added until there are enough.

    Gives maps as "0", "1", …, finest first. `taps` are names of modules of the net, which is cut
    behind them; if it is `hooked`, it stays whole and is left behind its last tap. One that takes
    images of 1 channel (`channels`) is given the mean of the three. With the `norm` "frozen" the
    net stays in evaluation mode and its batch norms are not trained, with "group" they are
    replaced.
    """

    def __init__(
        self,
        net: nn.Module,
        taps: Sequence[str],
        side: int,
        levels: int,
        channels: int = 3,
        hooked: bool = False,
        norm: str = BATCH,
    ) -> None:
        super().__init__()
        keys = {name: str(number) for number, name in enumerate(taps)}
        if norm == GROUP:
            group_norms(net)
        elif norm == FROZEN:
            hold_norms(net)
        self.taps, self.norm = tuple(taps), norm
        self.hooked = keys if hooked else None
        self.net = net if hooked else create_feature_extractor(net, keys)
        self.grey = channels == 1
        if not hooked:
            _keep_out_of_files(self.net, net)
        with torch.no_grad():
            maps = self._maps(torch.zeros(1, channels, side, side))
        for name, key in keys.items():
            if maps[key].dim() != 4:
                raise ValueError(f"block '{name}' gives {tuple(maps[key].shape)}, not (N,C,h,w)")
            if min(maps[key].shape[2:]) < 2:
                raise ValueError(
                    f"block '{name}' gives maps of {tuple(maps[key].shape[2:])} pixels on images "
                    f"of {side}: its stride is as large as the image"
                )
        self.out_channels = [features.shape[1] for features in maps.values()]
        extra = []
        while len(self.out_channels) < levels:
            channels = self.out_channels[-1]
            extra.append(
                nn.Sequential(
                    nn.Conv2d(channels, channels, 3, 2, 1, bias=False),
                    nn.GroupNorm(1, channels),
                    nn.ReLU(),
                )
            )
            self.out_channels.append(channels)
        self.extra = nn.ModuleList(extra)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Return maps by level of normalised colour images (N,3,H,W)."""
        # All three were normalised alike, so this is the normalised mean.
        maps = self._maps(x.mean(dim=1, keepdim=True) if self.grey else x)
        for level in self.extra:
            maps[str(len(maps))] = level(next(reversed(maps.values())))
        return maps

    def train(self, mode: bool = True) -> Tapped:
        """Set the mode, in which a net with frozen norms does not take part."""
        super().train(mode)
        if self.norm == FROZEN:
            self.net.eval()
        return self

    def _maps(self, x: Tensor) -> OrderedDict[str, Tensor]:
        if self.hooked is None:
            return OrderedDict(self.net(x))
        return _read(self.net, self.hooked, x)

    def stages(self) -> list[list[nn.Parameter]]:
        """Return the net's parameters up to its first tap, up to its second, and so on."""
        stages: list[list[nn.Parameter]] = [[] for _ in self.taps]
        names = [name for name, _ in self.net.named_parameters()]
        ends = [
            max((i for i, name in enumerate(names) if name.startswith(f"{tap}.")), default=-1)
            for tap in self.taps
        ]
        for i, parameter in enumerate(self.net.parameters()):
            stage = next((stage for stage, end in enumerate(ends) if i <= end), len(ends) - 1)
            stages[stage].append(parameter)
        return stages


class _AllReadError(Exception):
    """All taps have been read: the rest of the net need not run."""


def _read(net: nn.Module, keys: Mapping[str, str], x: Tensor) -> OrderedDict[str, Tensor]:
    """Return the outputs of the modules `wanted`, under their keys, of their first call each."""
    outputs: dict[str, Tensor] = {}

    def keeping(key: str) -> Any:
        def keep(_: nn.Module, __: object, output: Tensor) -> None:
            outputs.setdefault(key, output)
            if len(outputs) == len(keys):
                raise _AllReadError

        return keep

    handles = [
        net.get_submodule(name).register_forward_hook(keeping(key)) for name, key in keys.items()
    ]
    try:
        net(x)
    except _AllReadError:
        pass
    finally:
        for handle in handles:
            handle.remove()
    unread = [name for name, key in keys.items() if not isinstance(outputs.get(key), Tensor)]
    if unread:
        raise ValueError(f"block '{unread[0]}' gives no tensor, or is not run")
    return OrderedDict((key, outputs[key]) for key in keys.values())


@dataclass(frozen=True, eq=False)
class Cut:
    """A classifier whose own net is cut, and how: at which `taps`, and whether by hooks.

    `notes` are lines for the user.
    """

    model: Classifier
    taps: tuple[str, ...]
    hooked: bool
    norm: str = BATCH
    notes: tuple[str, ...] = ()

    def described(self) -> Json:
        """Return what a card holds to build the backbone again."""
        card = self.model.card
        entry: Json = {"classes": len(card.classes), "size": list(card.input_shape[1:])}
        if self.hooked:
            entry["read"] = HOOKS
        return {"backbone": dict(card.architecture), "taps": list(self.taps), "made": entry}

    def body(self, side: int, levels: int) -> Tapped:
        """Return the backbone on a copy of the classifier's net, its extra levels freshly drawn."""
        channels = channels_of(self.model.card)
        net = copy.deepcopy(self.model.net)
        return Tapped(net, self.taps, side, levels, channels, self.hooked, self.norm)


def cut(model: Classifier, taps: Sequence[str], side: int, levels: int, norm: str = BATCH) -> Cut:
    """Return how the net of a classifier becomes a backbone for images of `side` pixels.

    It is cut at the modules `taps`, by default at the last blocks of its stages whose maps have
    between 4 and 32 pixels a side, along its graph as torch.fx traces it. A net that cannot be
    traced is read by hooks on those modules, and `notes` say why. Raises `ModelError` for a module
    that is not there, and for a net that cannot be read either way.
    """
    channels = channels_of(model.card)
    _check_channels(channels)
    if taps:
        chosen = tuple(taps)
        _check_taps(model.net, chosen)
    else:
        chosen = tuple(_last_blocks(_moved(model, side), side, levels))
    with isolated_rng(0):
        try:
            Tapped(copy.deepcopy(model.net), chosen, side, levels, channels, norm=norm)
        except _REFUSALS as error:
            reason = _first_line(error)
        else:
            return Cut(model, chosen, hooked=False, norm=norm)
        try:
            Tapped(copy.deepcopy(model.net), chosen, side, levels, channels, True, norm)
        except _REFUSALS as error:
            raise ModelError(
                f"this classifier cannot be a backbone: {_first_line(error)}"
            ) from None
    note = f"backbone: read by hooks at {', '.join(chosen)}, since torch.fx cannot cut it: {reason}"
    return Cut(model, chosen, hooked=True, norm=norm, notes=(note,))


def cut_again(
    entry: Mapping[str, Any], card: Card, side: int, levels: int, norm: str = BATCH
) -> Tapped:
    """Return the backbone that `Cut.described` describes, with fresh weights.

    Raises `ModelError` for what cannot be built again.
    """
    classifier, channels = entry["made"], entry.get("channels", 3)
    net = models.rebuild(
        _card(
            entry["backbone"],
            tuple(map(str, range(classifier["classes"]))),
            (channels, *classifier["size"]),
            card.mean[:channels],
            card.std[:channels],
        ),
        seed=0,
    ).net
    _check_taps(net, entry["taps"])
    try:
        hooked = classifier.get("read") == HOOKS
        return Tapped(net, entry["taps"], side, levels, channels, hooked, norm)
    except _REFUSALS as error:
        raise ModelError(f"its backbone cannot be built again: {_first_line(error)}") from None


def check_made(described: object) -> None:
    """Raise `ModelError` unless `described` is what `Cut.described` writes."""
    if not isinstance(described, Mapping):
        raise ModelError(f"a detector's card with a backbone made of {described!r}")
    size, classes = described.get("size"), described.get("classes")
    fits = (
        described.keys() - {"read"} == {"classes", "size"}
        and described.get("read", HOOKS) == HOOKS
        and isinstance(size, list | tuple)
        and len(size) == 2
        and all(type(side) is int and 1 <= side <= LARGEST for side in size)
        and type(classes) is int
        and 1 <= classes <= MOST
    )
    if not fits:
        raise ModelError(f"a detector's card with a backbone made of {dict(described)}")


def check_order(card: Card) -> None:
    """Raise `ModelError` for a classifier that wants blue first: detectors here give red first."""
    if card.preprocessing.channel_order != "rgb":
        raise ModelError(
            f"a backbone that takes its channels as {card.preprocessing.channel_order}; detectors "
            "give them as rgb"
        )


def _card(
    architecture: Mapping[str, Any],
    classes: tuple[str, ...],
    input_shape: tuple[int, int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Card:
    return Card.trained_on(
        architecture=architecture,
        classes=classes,
        input_shape=input_shape,
        mean=mean,
        std=std,
    )


def _last_blocks(model: Classifier, side: int, levels: int) -> list[str]:
    """Return the taps of `automatic_taps`, moved to the ends of blocks where there are enough.

    A block may begin with a stride, so that the stage before it would end in the middle of it.
    """
    stages = _automatic(model, side, levels)
    sizes = _outputs(model.net, torch.zeros(1, *model.card.input_shape))
    last = {
        height: name
        for name, height in sizes.items()
        if COARSEST <= height <= FINEST and _is_block(model.net.get_submodule(name))
    }
    blocks = [last[height] for height in sorted(last, reverse=True)][-levels:]
    return blocks if len(blocks) >= len(stages) else stages


def _is_block(module: nn.Module) -> bool:
    """Return whether two or more parts of the module have weights of their own."""
    parts = [part for part in module.modules() if part is not module]
    return sum(any(True for _ in part.parameters(recurse=False)) for part in parts) >= 2


def _outputs(net: nn.Module, x: Tensor) -> dict[str, int]:
    """Return the heights of the maps of modules that run once, in the order in which they end."""
    runs: dict[str, list[int]] = {}

    def watching(name: str) -> Any:
        def watch(_: nn.Module, __: object, output: object) -> None:
            height = output.shape[2] if isinstance(output, Tensor) and output.dim() == 4 else 0
            runs.setdefault(name, []).append(height)

        return watch

    handles = [
        module.register_forward_hook(watching(name)) for name, module in net.named_modules() if name
    ]
    try:
        with torch.no_grad(), isolated_rng():
            net(x)
    finally:
        for handle in handles:
            handle.remove()
    return {name: heights[0] for name, heights in runs.items() if len(heights) == 1}


def _moved(model: Classifier, side: int) -> Classifier:
    """Return a copy of `model` that takes images of `side` pixels as they are."""
    card = model.card
    shape = (card.input_shape[0], side, side)
    moved = _card(card.architecture, card.classes, shape, card.mean, card.std)
    return Classifier(copy.deepcopy(model.net), moved)


def _check_channels(channels: int) -> None:
    if channels not in CHANNELS:
        raise ModelError(
            f"a detector's images have 3 channels, of which a backbone sees all or the mean; this "
            f"classifier's have {channels}"
        )


def _check_taps(net: nn.Module, taps: Sequence[str]) -> None:
    known = [name for name, _ in net.named_modules() if name]
    for name in taps:
        if name not in known:
            raise ModelError(f"no block '{name}' in the backbone{_near(name, known)}")


def _near(name: str, known: Sequence[str]) -> str:
    """Return the hint of `did_you_mean`; of a net with many modules only the outer ones
    are listed.
    """
    if len(known) <= 60:
        return did_you_mean(name, known)
    hint = did_you_mean(name, known).partition(" (known:")[0]
    return f"{hint} (known: {', '.join(module for module in known if module.count('.') < 2)})"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _keep_out_of_files(cut: nn.Module, net: nn.Module) -> None:
    """Make buffers of `cut` non-persistent where they are so in `net`.

    Under torch 2.11 the cut forgets which buffers were not persistent.
    """
    state, buffers = net.state_dict(), dict(net.named_buffers())
    for name, buffer in list(cut.named_buffers()):
        if name in buffers and name not in state:
            owner, _, attribute = name.rpartition(".")
            cut.get_submodule(owner).register_buffer(attribute, buffer, persistent=False)


def tapped(
    card: Card, taps: Sequence[str], side: int, levels: int, norm: str = BATCH
) -> tuple[Tapped, list[str]]:
    """Return a fresh backbone of the architecture on `card`, and the names of its taps.

    Without `taps` the last blocks of its stages are taken whose maps have between 4 and 32 pixels a
    side. Raises `ModelError` for a module that is not there, and for a net that cannot be cut.
    """
    net = at_side(card, side).net
    chosen = list(taps) or automatic_taps(card, side, levels)
    _check_taps(net, chosen)
    try:
        return Tapped(net, chosen, side, levels, card.input_shape[0], norm=norm), chosen
    except _REFUSALS as error:
        raise ModelError(f"this classifier cannot be a backbone: {_first_line(error)}") from None


def automatic_taps(card: Card, side: int, levels: int) -> list[str]:
    """Return the names of at most `levels` blocks: the last of each stage whose maps are usable.

    `side` is the images', in pixels. Raises `ModelError` where no block's maps are of use.
    """
    return _automatic(at_side(card, side), side, levels)


def _automatic(model: Classifier, side: int, levels: int) -> list[str]:
    known = {name for name, _ in model.net.named_modules()}
    black = torch.zeros(1, *model.card.input_shape)
    try:
        # Untraced first: a net made for one size fails here, by its own fault.
        with torch.no_grad():
            model.eval()(black)
    except _REFUSALS as error:
        raise ModelError(
            f"this classifier cannot be a backbone for images of {side} pixels: "
            f"{_first_line(error)}"
        ) from None
    try:
        with explain.trace(model, black) as trace:
            maps = {name.removeprefix("net."): output for name, output in trace.layers.items()}
    except ExplainError as error:
        raise ModelError(
            f"this classifier's blocks cannot be found ({error}); name some with --taps"
        ) from None
    usable = [
        name
        for name, output in maps.items()
        if name in known and output.dim() == 4 and COARSEST <= output.shape[2] <= FINEST
    ]
    if not usable:
        raise ModelError(
            f"this classifier has no blocks with maps of {COARSEST} to {FINEST} pixels on images "
            f"of {side}; name some: --taps block,block"
        )
    return usable[-levels:]


def channels_of(card: Card) -> int:
    """Return the number of channels that a classifier's net takes, 3 for grey images shown so."""
    return max(card.input_shape[0], len(card.preprocessing.mean))


def at_side(card: Card, side: int) -> Classifier:
    """Return a fresh classifier of this architecture for images of `side` pixels."""
    channels = channels_of(card)
    _check_channels(channels)
    shape = (channels, side, side)
    moved = _card(card.architecture, card.classes, shape, card.mean, card.std)
    return models.rebuild(moved, seed=0)


def take_weights(body: Tapped, model: Classifier) -> None:
    """Copy the trained classifier's weights into the backbone `body`, in place."""
    state, trained = body.net.state_dict(), model.net.state_dict()
    # Constants of the architecture are no weights of the classifier.
    constant = {name: state[name] for name in state if name.startswith("_tensor_constant")}
    body.net.load_state_dict(
        {name: trained[name] for name in state if name not in constant} | constant
    )
