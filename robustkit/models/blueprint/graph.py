"""A blueprint as a network: its nodes joined, and a head on the last one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustkit.models.blueprint.modules import activation, block_module, shrink
from robustkit.models.blueprint.shapes import Maps, Wiring, wire
from robustkit.models.blueprint.spec import Blueprint, Head
from robustkit.models.initial import initialise
from robustkit.models.layers import GlobalAverage


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
        self.head = _head(blueprint.head, self.wirings[-1].out, num_classes)
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
        for each in fitted[1:]:
            total = total + each
        return total


def _fit(source: Maps, joined: Maps, concat: bool) -> list[nn.Module]:
    steps: list[nn.Module] = []
    if source.side != joined.side:
        steps.append(shrink(source.side, joined.side))
    if not concat and source.channels != joined.channels:
        steps.append(nn.Conv2d(source.channels, joined.channels, 1, bias=False))
    return steps


def _head(head: Head, maps: Maps, num_classes: int) -> nn.Sequential:
    flat = head.pool == "flatten"
    steps: list[nn.Module] = [nn.Flatten() if flat else GlobalAverage()]
    width = maps.channels * (maps.side**2 if flat else 1)
    if head.hidden:
        steps += [nn.Linear(width, head.hidden), activation(head.activation)]
        width = head.hidden
    steps.append(nn.Linear(width, num_classes))
    return nn.Sequential(*steps)
