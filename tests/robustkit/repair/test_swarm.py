"""A step of a swarm, against its equations particle by particle; designs and starts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustkit.errors import ConfigError
from robustkit.repair import PRESETS, SwarmConfig, Swarms, preset
from robustkit.repair.swarm import Siblings, start_swarms, step
from tests.robustkit.repair.nets import bits
from tests.robustkit.repair.swarms import (
    DESIGNS,
    DIMENSIONS,
    Rows,
    constant,
    hill,
    moving,
    run,
    siblings,
    started,
)


@dataclass
class Slow:
    """One swarm in plain python."""

    place: Rows
    velocity: Rows
    best: Rows
    fitness: list[float]
    draws: torch.Generator

    @classmethod
    def of(cls, swarms: Swarms, row: int) -> Slow:
        draws = torch.Generator()
        draws.set_state(swarms.random[row].clone())
        return cls(
            swarms.position[row].tolist(),
            swarms.velocity[row].tolist(),
            swarms.best[row].tolist(),
            swarms.best_fitness[row].tolist(),
            draws,
        )

    def step(self, seen: list[float], around: Siblings, config: SwarmConfig) -> None:
        count, dimensions = len(self.place), len(self.place[0])
        for i, fitness in enumerate(seen):
            if not math.isnan(fitness) and fitness > self.fitness[i]:
                self.fitness[i], self.best[i] = fitness, list(self.place[i])
        own, others = (
            [[float(torch.rand((), generator=self.draws)) for _ in range(dimensions)] for _ in seen]
            for _ in range(2)
        )
        phi = 2.05 if config.phi_sum is None else 4.1
        chi = 2 / abs(2 - 4.1 - math.sqrt(4.1**2 - 4 * 4.1))
        drawing = [self.best[self.leader(i, count, config.topology)] for i in range(count)]
        for i in range(count):
            for d in range(dimensions):
                x, v = self.place[i][d], self.velocity[i][d]
                v = chi * (
                    v
                    + phi * own[i][d] * (self.best[i][d] - x)
                    + phi * others[i][d] * (drawing[i][d] - x)
                )
                if config.clamp:
                    extent = float(around.extent[d])
                    v = math.copysign(min(max(abs(v), extent / 5), 5 * extent), v)
                self.place[i][d], self.velocity[i][d] = x + v, v

    def leader(self, i: int, count: int, topology: str) -> int:
        """The particle whose best place draws particle i; of equals the first."""
        known = range(count) if topology == "global" else [i, (i - 1) % count, (i + 1) % count]
        winner = known[0]
        for each in known:
            if self.fitness[each] > self.fitness[winner]:
                winner = each
        return winner


def close(found: Tensor, expected: Rows | list[float]) -> None:
    wanted = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found.double(), wanted, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("topology", ["global", "ring"])
@pytest.mark.parametrize("design", DESIGNS)
@settings(max_examples=12)
@given(
    particles=st.integers(1, 7),
    dimensions=st.integers(1, 5),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_a_step_is_its_equations(
    design: str, topology: str, particles: int, dimensions: int, seed: int, data: st.DataObject
) -> None:
    config = replace(DESIGNS[design], topology=topology, particles=particles)
    around = siblings(dimensions, seed)
    swarms = moving(config, [seed, seed + 1], dimensions)
    slow = [Slow.of(swarms, row) for row in range(2)]
    fitnesses = st.floats(-3, 3) | st.integers(-1, 1).map(float) | st.just(math.nan)
    seen = data.draw(
        st.lists(
            st.lists(fitnesses, min_size=particles, max_size=particles), min_size=2, max_size=2
        )
    )
    after = step(swarms, constant(torch.tensor(seen, dtype=torch.float64)), around, config)
    for row, one in enumerate(slow):
        before = max(one.fitness)
        one.step(seen[row], around, config)
        close(after.position[row], one.place)
        close(after.velocity[row], one.velocity)
        close(after.best[row], one.best)
        assert after.best_fitness[row].tolist() == one.fitness
        assert bits(after.random[row]) == bits(one.draws.get_state())
        place, fitness = (each[row] for each in after.leaders())
        assert float(fitness) == max(one.fitness)
        close(place, one.best[one.fitness.index(max(one.fitness))])
        assert int(after.stagnant[row]) == (0 if max(one.fitness) > before else 1)
        assert int(after.iteration[row]) == 1


def test_several_steps_of_a_clamped_ring_are_their_equations() -> None:
    config = preset("paper-literal", topology="ring", particles=6)
    around = siblings()
    swarms = started(config, [4])
    for _ in range(6):
        slow = Slow.of(swarms, 0)
        seen = hill(swarms.position, [0])[0].tolist()
        slow.step(seen, around, config)
        swarms = step(swarms, hill, around, config)
        close(swarms.position[0], slow.place)
        assert swarms.best_fitness[0].tolist() == slow.fitness


def test_both_presets_have_the_same_constriction() -> None:
    assert set(PRESETS) == {"constricted", "paper-literal"}
    for design in PRESETS.values():
        assert design.chi == pytest.approx(0.7298, abs=5e-5)
    assert (PRESETS["constricted"].phi, PRESETS["paper-literal"].phi) == (2.05, 4.1)
    assert (PRESETS["constricted"].clamp, PRESETS["paper-literal"].clamp) == (False, True)


@pytest.mark.parametrize("total", [4.0001, 4.1, 5.0, 20.0])
def test_the_constriction_is_its_formula(total: float) -> None:
    expected = 2 / abs(2 - total - math.sqrt(total**2 - 4 * total))
    assert SwarmConfig(phi=total / 2).chi == pytest.approx(expected)
    assert SwarmConfig(phi=1.0, phi_sum=total).chi == pytest.approx(expected)


def test_a_constricted_swarm_converges_and_the_printed_one_only_if_clamped() -> None:
    speeds = {}
    for name in DESIGNS:
        config = replace(DESIGNS[name], particles=20, iterations=200, patience=200)
        swarms = run(started(config, [0]), hill, config)[-1]
        speeds[name] = float(swarms.velocity.abs().max())
        if name == "constricted":
            assert float(swarms.leaders()[1]) > -1e-9
    assert speeds["constricted"] < 0.05
    assert speeds["paper-literal"] <= 5 * float(siblings().extent.max()) * (1 + 1e-6)
    assert not speeds["unclamped paper"] < 1e6


def test_a_preset_may_be_changed() -> None:
    made = preset("paper-literal", particles=7, patience=3)
    assert (made.particles, made.patience, made.phi, made.clamp) == (7, 3, 4.1, True)
    with pytest.raises(ConfigError, match="unknown preset 'paper'; did you mean 'paper-literal'"):
        preset("paper")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"topology": "star"}, "unknown topology 'star'"),
        ({"topology": "rings"}, "did you mean 'ring'"),
        ({"start": "here"}, "unknown start 'here'"),
        ({"particles": 0}, "particles must be at least 1, not 0"),
        ({"iterations": 0}, "iterations must be at least 1, not 0"),
        ({"patience": 0}, "patience must be at least 1, not 0"),
        ({"spread": -0.1}, "spread must not be negative, not -0.1"),
        ({"spread": math.nan}, "spread must not be negative, not nan"),
        ({"spread": math.inf}, "spread"),
        ({"phi": 2.0}, "φ must be above 4 for a constriction, not 4"),
        ({"phi": 1.0}, "not 2"),
        ({"phi_sum": 3.9}, "not 3.9"),
        ({"phi": -4.1, "phi_sum": 4.1}, "phi"),
        ({"phi": math.nan}, "phi"),
        ({"phi": math.inf}, "phi"),
    ],
)
def test_a_design_is_checked(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SwarmConfig(**changed)


def test_particles_start_among_their_siblings() -> None:
    config, around = SwarmConfig(particles=20_000), siblings()
    begun = started(config, [0])
    off = (begun.position[0] - around.mean) / around.std
    assert float(off.mean(dim=0).abs().max()) < 0.03
    assert float((off.std(dim=0) - 1).abs().max()) < 0.03
    assert not begun.velocity.any()
    assert bool((begun.best_fitness == -math.inf).all())


@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0])
def test_particles_may_start_around_the_weights_as_they_are(spread: float) -> None:
    config = SwarmConfig(particles=20_000, start="current", spread=spread)
    current, around = 100 * torch.arange(DIMENSIONS), siblings()
    begun = start_swarms(current.float(), around, config, [0])
    off = (begun.position[0] - current) / around.std
    assert float(off.mean(dim=0).abs().max()) <= 0.03 * spread
    assert float((off.std(dim=0) - spread).abs().max()) <= 0.03 * spread


def test_a_graded_start_comes_ever_closer() -> None:
    """With 101 particles the spread falls by a factor of 10^(1/50) from one to the next."""
    config = SwarmConfig(particles=101, start="graded", spread=0.5)
    current, around = torch.linspace(-1, 1, 3000), siblings(3000)
    begun = start_swarms(current, around, config, [0])
    off = ((begun.position[0] - current) / around.std).double().std(dim=1)
    for particle in (0, 50, 100):
        assert float(off[particle]) == pytest.approx(0.5 * 10 ** -(particle / 50), rel=0.05)


def test_a_start_depends_on_its_own_seed_alone() -> None:
    config = SwarmConfig(particles=6)
    torch.manual_seed(1)
    together = started(config, [5, 6, 7])
    torch.manual_seed(2)
    state = torch.get_rng_state()
    for row, seed in enumerate([5, 6, 7]):
        alone = started(config, [seed])
        assert bits(alone.position[0]) == bits(together.position[row])
        assert bits(alone.random[0]) == bits(together.random[row])
    assert torch.equal(torch.get_rng_state(), state)
    assert len({bits(each) for each in together.position}) == 3
