"""Particle swarm optimisation; several independent swarms move at once, as tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from robustkit.compute import torch_generator
from robustkit.errors import ConfigError, did_you_mean

TOPOLOGIES = ("global", "ring")
STARTS = ("siblings", "current", "graded")
GRADES = 2  # decades between the widest and the narrowest particle of a graded start


@dataclass(frozen=True, kw_only=True)
class SwarmConfig:
    """The swarm's design (Kennedy & Eberhart 1995; constriction: Clerc & Kennedy 2002).

    `phi` is φ1 = φ2, and χ = 2 / |2 - φ - √(φ² - 4φ)| of φ = `phi_sum`, by default both together.
    The source prints φ = φ1 = φ2 = 4.1, with which the swarm diverges unless its speed is clamped:
    `paper_literal` is that, with `clamp` as in Arachne's implementation. `topology` says whose best
    place draws a particle: anyone's, or that of its two neighbours on a ring. Particles start at
    draws from N(mean, std) of each weight's siblings, the weights of its layer, or, "current",
    around the weight itself with `spread` times that std, or, "graded", so too, but each particle
    closer than the one before, down to a hundredth of `spread`. A swarm stops when `patience`
    iterations brought nothing better.
    """

    particles: int = 100
    iterations: int = 100
    patience: int = 10
    phi: float = 2.05
    phi_sum: float | None = None
    clamp: bool = False
    topology: str = "global"
    start: str = "siblings"
    spread: float = 1.0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("topology", self.topology, TOPOLOGIES),
            ("start", self.start, STARTS),
        ):
            if value not in known:
                raise ConfigError(f"unknown {name} '{value}'{did_you_mean(value, known)}")
        for name in ("particles", "iterations", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.spread < math.inf:
            raise ConfigError(f"spread must not be negative, not {self.spread:g}")
        total = 2 * self.phi if self.phi_sum is None else self.phi_sum
        if not (0 < self.phi < math.inf and 4 < total < math.inf):
            raise ConfigError(f"phi: φ must be above 4 for a constriction, not {total:g}")

    @property
    def chi(self) -> float:
        """The constriction χ, 0.7298 for φ = 4.1."""
        total = 2 * self.phi if self.phi_sum is None else self.phi_sum
        return 2 / (total - 2 + math.sqrt(total**2 - 4 * total))


CONSTRICTED = SwarmConfig()
PAPER_LITERAL = SwarmConfig(phi=4.1, phi_sum=4.1, clamp=True)
PRESETS = {"constricted": CONSTRICTED, "paper-literal": PAPER_LITERAL}


@dataclass(frozen=True, eq=False)
class Siblings:
    """Mean, standard deviation and range (max - min) of each weight's layer, float32 (D,)."""

    mean: Tensor
    std: Tensor
    extent: Tensor


@dataclass(frozen=True, eq=False)
class Swarms:
    """S swarms of P particles in D dimensions, between two iterations.

    `position`, `velocity`, `best` (S,P,D); `best_fitness` (S,P), -inf before a first evaluation;
    `stagnant` int64 (S,): iterations since a swarm's leader was last bettered; `done` bool (S,);
    `iteration` int64 (S,): evaluations of each swarm. `random` holds S generator states uint8.
    """

    position: Tensor
    velocity: Tensor
    best: Tensor
    best_fitness: Tensor
    stagnant: Tensor
    iteration: Tensor
    done: Tensor
    random: Tensor

    def leaders(self) -> tuple[Tensor, Tensor]:
        """Return each swarm's best position so far (S,D) and its fitness (S,)."""
        fitness, who = self.best_fitness.max(dim=1)
        return self.best[torch.arange(len(who)), who], fitness

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name: what a resumed search needs."""
        return dict(vars(self))


def start_swarms(
    current: Tensor, siblings: Siblings, config: SwarmConfig, seeds: Sequence[int]
) -> Swarms:
    """Return swarms at their first positions, at rest; `current` (D,) are the model's weights.

    A swarm depends on its own seed alone, not on those beside it.
    """
    positions, states = [], []
    for seed in seeds:
        generator = torch_generator("swarm", seed)
        noise = torch.randn(config.particles, len(current), generator=generator)
        centre = siblings.mean if config.start == "siblings" else current
        positions.append(centre + _spreads(config) * siblings.std * noise)
        states.append(generator.get_state())
    position = torch.stack(positions)
    count = len(seeds)
    return Swarms(
        position=position,
        velocity=torch.zeros_like(position),
        best=position.clone(),
        best_fitness=torch.full(position.shape[:2], -torch.inf, dtype=torch.float64),
        stagnant=torch.zeros(count, dtype=torch.int64),
        iteration=torch.zeros(count, dtype=torch.int64),
        done=torch.zeros(count, dtype=torch.bool),
        random=torch.stack(states),
    )


def _spreads(config: SwarmConfig) -> Tensor:
    """Return how far from its centre each particle starts, in standard deviations, (P,1)."""
    decades = torch.linspace(0, GRADES, config.particles)[:, None]
    if config.start != "graded":
        decades = torch.zeros_like(decades)
    return config.spread * 10**-decades


def step(
    swarms: Swarms,
    evaluate: Callable[[Tensor, Sequence[int]], Tensor],
    siblings: Siblings,
    config: SwarmConfig,
) -> Swarms:
    """Return the swarms after one iteration of all that are not done: evaluate and move.

    `evaluate(positions, live)` gives the fitness float64 (A,P) of positions (A,P,D) of the swarms
    `live`; NaN counts as -inf.
    """
    live = torch.nonzero(~swarms.done).squeeze(1)
    fitness = evaluate(swarms.position[live], live.tolist()).nan_to_num(nan=-math.inf)
    before = swarms.best_fitness[live]
    better = fitness > before
    best = torch.where(better[..., None], swarms.position[live], swarms.best[live])
    best_fitness = torch.where(better, fitness, before)
    improved = best_fitness.max(dim=1).values > before.max(dim=1).values
    stagnant = torch.where(improved, 0, swarms.stagnant[live] + 1)
    iteration = swarms.iteration[live] + 1
    position, velocity, random = _move(swarms, live, best, best_fitness, siblings, config)
    done = (stagnant >= config.patience) | (iteration >= config.iterations)
    changed = {
        "position": position,
        "velocity": velocity,
        "best": best,
        "best_fitness": best_fitness,
        "stagnant": stagnant,
        "iteration": iteration,
        "done": done,
        "random": random,
    }
    return replace(swarms, **{name: _put(swarms, name, live, new) for name, new in changed.items()})


def _put(swarms: Swarms, name: str, live: Tensor, new: Tensor) -> Tensor:
    old: Tensor = getattr(swarms, name)
    return new if len(live) == len(old) else old.index_copy(0, live, new)


def _move(
    swarms: Swarms,
    live: Tensor,
    best: Tensor,
    best_fitness: Tensor,
    siblings: Siblings,
    config: SwarmConfig,
) -> tuple[Tensor, Tensor, Tensor]:
    """Move by equations 1 and 2: v ← χ(v + U(φ1)(p_l - x) + U(φ2)(p_g - x)), x ← x + v.

    The draws are one per dimension. Returns places, velocities and generator states.
    """
    position, velocity = swarms.position[live], swarms.velocity[live]
    own: list[Tensor] = []
    others: list[Tensor] = []
    states = []
    for row in live.tolist():
        generator = torch.Generator()
        generator.set_state(swarms.random[row].clone())  # a view is misread
        for drawn in (own, others):
            drawn.append(config.phi * torch.rand(position.shape[1:], generator=generator))
        states.append(generator.get_state())
    drawing = _drawing(best, best_fitness, config.topology)
    velocity = config.chi * (
        velocity + torch.stack(own) * (best - position) + torch.stack(others) * (drawing - position)
    )
    if config.clamp:
        size = velocity.abs().clamp(siblings.extent / 5, 5 * siblings.extent)
        velocity = torch.copysign(size, velocity)
    return position + velocity, velocity, torch.stack(states)


def _drawing(best: Tensor, fitness: Tensor, topology: str) -> Tensor:
    """Return the position p_g that draws each particle: (A,P,D), or (A,1,D) for all alike."""
    rows = torch.arange(len(best))
    if topology == "global":
        return best[rows, fitness.argmax(dim=1)][:, None]
    count = fitness.shape[1]
    around = (torch.arange(count)[:, None] + torch.tensor([0, -1, 1])) % count
    winner = fitness[:, around].argmax(dim=2)
    return best[rows[:, None], around[torch.arange(count), winner]]


def preset(name: str, **changes: Any) -> SwarmConfig:
    """Return the design called `name` with `changes`; raise `ConfigError` for an unknown name."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset '{name}'{did_you_mean(name, PRESETS)}")
    return replace(PRESETS[name], **changes)
