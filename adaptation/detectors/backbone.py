"""Any classifier of this house as the backbone of a detector."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from robustkit import explain, models
from robustkit.errors import ModelError, did_you_mean
from robustkit.models import Classifier
from robustkit.models.card import Card

COARSEST, FINEST = 4, 32  # sides of maps that are of use to a tiny detector
CHANNELS = (1, 3)  # of images that a backbone may have been trained on


class Tapped(nn.Module):
    """A classifier's net up to its last tapped block, and as many more levels as are wanting.

    Gives maps as "0", "1", …, finest first. `taps` are names of modules of the net. One that takes
    images of 1 channel (`channels`) is given the mean of the three.
    """

    def __init__(
        self, net: nn.Module, taps: Sequence[str], side: int, levels: int, channels: int = 3
    ) -> None:
        super().__init__()
        wanted = {name: str(number) for number, name in enumerate(taps)}
        self.net = create_feature_extractor(net, wanted)
        self.grey = channels == 1
        _keep_out_of_files(self.net, net)
        with torch.no_grad():
            maps = self.net(torch.zeros(1, channels, side, side))
        self.out_channels = [each.shape[1] for each in maps.values()]
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
        """Maps by level of normalised colour images (N,3,H,W)."""
        # All three were normalised alike, so this is the normalised mean.
        maps = OrderedDict(self.net(x.mean(dim=1, keepdim=True) if self.grey else x))
        for level in self.extra:
            maps[str(len(maps))] = level(next(reversed(maps.values())))
        return maps


def _keep_out_of_files(cut: nn.Module, net: nn.Module) -> None:
    """What is no part of the state of `net` is none of what was cut out of it.

    Under torch 2.11 the cut forgets which buffers were not persistent.
    """
    state, buffers = net.state_dict(), dict(net.named_buffers())
    for name, buffer in list(cut.named_buffers()):
        if name in buffers and name not in state:
            owner, _, own = name.rpartition(".")
            cut.get_submodule(owner).register_buffer(own, buffer, persistent=False)


def tapped(card: Card, taps: Sequence[str], side: int, levels: int) -> tuple[Tapped, list[str]]:
    """A fresh backbone of the architecture on a classifier's `card`, and the names of its taps.

    Without `taps` the last blocks of its stages are taken whose maps have between 4 and 32 pixels a
    side. Raises `ModelError` for a module that is not there, and for a net that cannot be cut.
    """
    net = at_side(card, side).net
    chosen = list(taps) or automatic_taps(card, side, levels)
    known = [name for name, _ in net.named_modules() if name]
    for name in chosen:
        if name not in known:
            raise ModelError(f"no block '{name}' in the backbone{did_you_mean(name, known)}")
    try:
        return Tapped(net, chosen, side, levels, card.input_shape[0]), chosen
    except (ValueError, TypeError, RuntimeError, AttributeError, StopIteration) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"this classifier cannot be a backbone: {reason}") from None


def automatic_taps(card: Card, side: int, levels: int) -> list[str]:
    """The last blocks of the stages, by name, whose maps are of use; at most `levels`.

    `side` is the images', in pixels. Raises `ModelError` where no block's maps are of use.
    """
    model = at_side(card, side)
    known = {name for name, _ in model.net.named_modules()}
    with explain.trace(model.eval(), torch.zeros(1, *model.card.input_shape)) as trace:
        maps = {name.removeprefix("net."): each for name, each in trace.layers.items()}
    found = [
        name
        for name, each in maps.items()
        if name in known and each.dim() == 4 and COARSEST <= each.shape[2] <= FINEST
    ]
    if not found:
        raise ModelError(
            f"this classifier has no blocks with maps of {COARSEST} to {FINEST} pixels on images "
            f"of {side}; name some: backbone_taps=block,block"
        )
    return found[-levels:]


def at_side(card: Card, side: int) -> Classifier:
    """A fresh classifier of this architecture for images of `side` pixels, grey or in colour."""
    channels = card.input_shape[0]
    if channels not in CHANNELS:
        raise ModelError(
            f"a detector's images have 3 channels, of which a backbone sees all or the mean; this "
            f"classifier's have {channels}"
        )
    moved = Card.trained_on(
        architecture=card.architecture,
        classes=card.classes,
        input_shape=(channels, side, side),
        mean=card.mean,
        std=card.std,
    )
    return models.rebuild(moved, seed=0)


def take_weights(body: Tapped, model: Classifier) -> None:
    """Copy what the backbone has of a trained classifier's weights into `body`, in place."""
    own, given = body.net.state_dict(), model.net.state_dict()
    # Constants of the architecture are no weights of the classifier.
    constant = {name: own[name] for name in own if name.startswith("_tensor_constant")}
    body.net.load_state_dict({name: given[name] for name in own if name not in constant} | constant)
