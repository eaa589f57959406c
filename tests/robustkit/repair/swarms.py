"""Swarms among made-up siblings, and hills to climb."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from robustkit.repair import SwarmConfig, Swarms, preset
from robustkit.repair.swarm import Siblings, start_swarms, step

Rows = list[list[float]]
Evaluate = Callable[[Tensor, Sequence[int]], Tensor]
DIMENSIONS = 5


def siblings(dimensions: int = DIMENSIONS, seed: int = 0) -> Siblings:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(dimensions, generator=generator)
    std, extent = (0.1 + torch.rand(dimensions, generator=generator) for _ in range(2))
    return Siblings(mean, std, 4 * extent)


def started(config: SwarmConfig, seeds: Sequence[int], dimensions: int = DIMENSIONS) -> Swarms:
    return start_swarms(torch.zeros(dimensions), siblings(dimensions), config, seeds)


def moving(config: SwarmConfig, seeds: Sequence[int], dimensions: int = DIMENSIONS) -> Swarms:
    """Swarms in full flight: velocities, bests and fitnesses of no particular meaning."""
    begun = started(config, seeds, dimensions)
    generator = torch.Generator().manual_seed(sum(seeds))
    shape = begun.position.shape
    return replace(
        begun,
        velocity=torch.randn(shape, generator=generator),
        best=torch.randn(shape, generator=generator),
        best_fitness=torch.randn(shape[:2], generator=generator, dtype=torch.float64),
    )


def constant(fitness: Tensor) -> Evaluate:
    return lambda places, which: fitness[list(which)]


def hill(places: Tensor, which: Sequence[int]) -> Tensor:
    """Each swarm climbs towards a place of its own."""
    targets = torch.tensor([0.3 * number for number in which])[:, None, None]
    return -(places - targets).double().square().sum(dim=2)


DESIGNS = {
    "constricted": SwarmConfig(),
    "paper-literal": preset("paper-literal"),
    "clamped": SwarmConfig(clamp=True),
    "unclamped paper": preset("paper-literal", clamp=False),
}


def run(swarms: Swarms, evaluate: Evaluate, config: SwarmConfig) -> list[Swarms]:
    states = [swarms]
    while not bool(states[-1].done.all()):
        assert len(states) < 500
        states.append(step(states[-1], evaluate, siblings(), config))
    return states
