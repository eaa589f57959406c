"""The blocks of a blueprint as modules, one class or function per kind.

All maps are square. A stride of 2 gives sides of ceil(side / 2), so that maps of side 1 stay as
they are and no blueprint fails on small images. Activations are never in place: the misalignment
penalty differentiates twice.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustkit.models.blueprint.spec import BLOCKS, Block, Blueprint, Head, Kind, Maps, Wiring, wire
from robustkit.models.layers import GlobalAverage, average, initialise

ACTIVATION_MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}
_MAX_GROUPS = 8
_MIN_GROUP_VALUES = 8


def block_module(wiring: Wiring) -> nn.Module:
    """Return the module that takes `wiring.joined` to `wiring.out`."""
    return BLOCKS[wiring.block.kind].make(wiring)


class Residual(nn.Module):
    """act(two convolutions + skip); the skip is a 1x1 convolution where the shape changes."""

    def __init__(self, wiring: Wiring) -> None:
        super().__init__()
        block, source, out = wiring.block, wiring.joined, wiring.out
        self.branch = nn.Sequential(
            *_conv(block, source.channels, out),
            _same(block, out.channels, out.channels, block.kernel, stride=1),
            norm(block.norm, out),
        )
        self.skip: nn.Module = nn.Identity()
        if source != out:
            self.skip = nn.Conv2d(source.channels, out.channels, 1, stride=block.stride, bias=False)
        self.activation = activation(block.activation)

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both ways, activated."""
        y: Tensor = self.activation(self.branch(x) + self.skip(x))
        return y


class Dense(nn.Module):
    """The input, average-pooled by the stride, and `block.channels` new maps beside it."""

    def __init__(self, wiring: Wiring) -> None:
        super().__init__()
        block, source, out = wiring.block, wiring.joined, wiring.out
        self.shrink = shrink(source.side, out.side)
        self.branch = _conv(block, source.channels, Maps(block.channels, out.side))

    def forward(self, x: Tensor) -> Tensor:
        """Old maps first, new maps after them."""
        return torch.cat([self.shrink(x), self.branch(x)], dim=1)


class Inception(nn.Module):
    """Parallel convolutions with kernels 1, k and k + 2 that share the channels out evenly.

    The first branches get what does not divide; with fewer than three channels, the last branches
    fall away.
    """

    def __init__(self, wiring: Wiring) -> None:
        super().__init__()
        block, in_channels, out = wiring.block, wiring.joined.channels, wiring.out
        share, rest = divmod(out.channels, 3)
        widths = [share + (branch < rest) for branch in range(3)]
        self.branches = nn.ModuleList(
            _same(block, in_channels, width, kernel, stride=block.stride)
            for width, kernel in zip(widths, (1, block.kernel, block.kernel + 2), strict=True)
            if width
        )
        self.finish = nn.Sequential(norm(block.norm, out), activation(block.activation))

    def forward(self, x: Tensor) -> Tensor:
        """All branches' maps, normalised and activated together."""
        y: Tensor = self.finish(torch.cat([branch(x) for branch in self.branches], dim=1))
        return y


def activation(name: str) -> nn.Module:
    """Return a fresh activation module by its gene's name."""
    return ACTIVATION_MODULES[name]()


def _conv(block: Block, in_channels: int, out: Maps) -> nn.Sequential:
    return nn.Sequential(
        _same(block, in_channels, out.channels, block.kernel, stride=block.stride),
        norm(block.norm, out),
        activation(block.activation),
    )


def _separable(wiring: Wiring) -> nn.Sequential:
    block, in_channels, out = wiring.block, wiring.joined.channels, wiring.out
    depthwise = nn.Conv2d(
        in_channels,
        in_channels,
        block.kernel,
        stride=block.stride,
        padding=block.kernel // 2,
        groups=in_channels,
        bias=False,
    )
    pointwise = _same(block, in_channels, out.channels, 1, stride=1)
    return nn.Sequential(depthwise, pointwise, norm(block.norm, out), activation(block.activation))


def _same(block: Block, in_channels: int, channels: int, kernel: int, *, stride: int) -> nn.Conv2d:
    """Return a convolution with same padding; no bias where a normalisation would undo it."""
    return nn.Conv2d(
        in_channels,
        channels,
        kernel,
        stride=stride,
        padding=kernel // 2,
        bias=block.norm == "none",
    )


def norm(name: str, maps: Maps) -> nn.Module:
    """Return a fresh normalisation of `maps` by its gene's name."""
    if name == "batch":
        return nn.BatchNorm2d(maps.channels)
    if name == "group" and maps.channels * maps.side**2 > 1:
        return nn.GroupNorm(_groups(maps), maps.channels)
    return nn.Identity()


def _groups(maps: Maps) -> int:
    """Return the largest number of groups up to 8 that divides the channels.

    A group of very few values would be normalised to a constant, so on tiny maps the groups grow.
    """
    for groups in range(min(_MAX_GROUPS, maps.channels), 1, -1):
        values = maps.channels // groups * maps.side**2
        if maps.channels % groups == 0 and values >= _MIN_GROUP_VALUES:
            return groups
    return 1


def _pool(wiring: Wiring) -> nn.Module:
    block, source = wiring.block, wiring.joined
    reach = block.kernel // 2
    if block.pool == "max":
        return nn.MaxPool2d(block.kernel, block.stride, reach)
    centres = range(0, source.side, block.stride)
    # Padding takes no part in an average.
    windows = [range(max(at - reach, 0), min(at + reach + 1, source.side)) for at in centres]
    return average(source.side, windows)


def shrink(side: int, smaller: int) -> nn.Module:
    """Return average pooling from one side to another, by windows as even as possible."""
    windows = [range(at * side // smaller, -(-(at + 1) * side // smaller)) for at in range(smaller)]
    return average(side, windows)


def _as_many(block: Block, joined: Maps) -> int:
    return joined.channels


BLOCKS.enter("conv", Kind(lambda w: _conv(w.block, w.joined.channels, w.out)))
BLOCKS.enter("separable", Kind(_separable))
BLOCKS.enter("residual", Kind(Residual))
BLOCKS.enter("dense", Kind(Dense, lambda block, joined: joined.channels + block.channels))
BLOCKS.enter("inception", Kind(Inception))
BLOCKS.enter("pool", Kind(_pool, _as_many, learned=False, genes=("kernel", "pool")))
BLOCKS.enter(
    "identity",
    Kind(lambda w: shrink(w.joined.side, w.out.side), _as_many, learned=False, genes=()),
)


class BlueprintNet(nn.Module):
    """The network that `blueprint` describes, for images (N, in_channels, image_size, image_size).

    `nodes` holds the live blocks by their number in the blueprint, `joins` the places where
    several of them meet, `head` the rest.
    """

    def __init__(
        self, blueprint: Blueprint, num_classes: int, in_channels: int, image_size: int
    ) -> None:
        super().__init__()
        self.wirings = wire(blueprint, in_channels, image_size)
        self.joins = nn.ModuleDict()
        self.nodes = nn.ModuleDict()
        for wiring in self.wirings:
            if len(wiring.sources) > 1:
                self.joins[str(wiring.node)] = Join(wiring)
            self.nodes[str(wiring.node)] = block_module(wiring)
        self.head = head_module(blueprint.head, self.wirings[-1].out, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes)."""
        maps = {0: x}
        for wiring in self.wirings:
            name = str(wiring.node)
            sources = [maps[source] for source in wiring.block.inputs]
            joined = self.joins[name](sources) if name in self.joins else sources[0]
            x = maps[wiring.node] = self.nodes[name](joined)
        logits: Tensor = self.head(x)
        return logits


class Join(nn.Module):
    """Several maps become one: average-pooled to the smallest side, then added or concatenated.

    Before an addition, maps with fewer channels than the widest pass a 1x1 convolution.
    """

    def __init__(self, wiring: Wiring) -> None:
        super().__init__()
        self.concat = wiring.block.merge == "concat"
        self.adapters = nn.ModuleList(
            nn.Sequential(*_fit(source, wiring.joined, self.concat)) for source in wiring.sources
        )

    def forward(self, sources: list[Tensor]) -> Tensor:
        """The joined maps."""
        pairs = zip(self.adapters, sources, strict=True)
        fitted: list[Tensor] = [adapter(source) for adapter, source in pairs]
        if self.concat:
            return torch.cat(fitted, dim=1)
        total = fitted[0]
        for item in fitted[1:]:
            total = total + item
        return total


def _fit(source: Maps, joined: Maps, concat: bool) -> list[nn.Module]:
    steps: list[nn.Module] = []
    if source.side != joined.side:
        steps.append(shrink(source.side, joined.side))
    if not concat and source.channels != joined.channels:
        steps.append(nn.Conv2d(source.channels, joined.channels, 1, bias=False))
    return steps


def head_module(head: Head, maps: Maps, num_classes: int) -> nn.Sequential:
    """Return the module that takes the last block's maps to logits (N, num_classes)."""
    flat = head.pool == "flatten"
    steps: list[nn.Module] = [nn.Flatten() if flat else GlobalAverage()]
    width = maps.channels * (maps.side**2 if flat else 1)
    if head.hidden:
        steps += [nn.Linear(width, head.hidden), activation(head.activation)]
        width = head.hidden
    steps.append(nn.Linear(width, num_classes))
    return nn.Sequential(*steps)
