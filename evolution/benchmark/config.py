"""Every setting of a search on the benchmark, checked where it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from evolution.benchmark.measure import (
    ARCHITECTURES,
    CLASSES,
    INPUT_SHAPE,
    REFERENCES,
    RUNGS,
    SPACE,
)
from evolution.genotype import Genotype
from evolution.halving import rungs
from evolution.objectives import Objective, bounded_below, parse_objectives
from evolution.presets import preset_genotypes
from evolution.space import SearchSpace
from evolution.strategies import STRATEGIES, SearchSettings
from robustkit.cli.parser import config_from
from robustkit.errors import ConfigError
from robustkit.settings import check_at_least, check_choice

MODES = ("generational", "steady")
PACKAGE = "package"
"""The name of the table that comes with the package."""

MEASURES = (
    "accuracy",
    "transfer",
    *(f"transfer_{name}" for name in REFERENCES),
    "unseen",
    "cos_abs",
    "grad_norm",
    "macs",
    "params",
)
"""What an objective may be: `transfer`, `unseen` and `cos_abs` are means over the references."""

_IN_FLIGHT = 2  # of a steady search that does not say


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """A search on the benchmark: the options of `EvolveConfig` that make sense there.

    `benchmark` is the table's file, or "package". A trial is a training drawn from the surrogate
    after `epochs`. Candidates are feasible within `floor` of the accuracy that the reference vgg5's
    own architecture has under the penalty; selected is the one with the least transfer among
    those within `tolerance` of it, from the best `promote` candidates by this rule, trained once
    more, or from the trials with 0. With `presets` the first generation of both searches has
    vgg5's architecture and networks of known families. With `forecast` those go on in `halving`
    that are predicted to be best after all epochs. The space may be narrowed. Raises `ConfigError`.
    """

    benchmark: str = PACKAGE
    population: int = 8
    generations: int = 3
    strategy: str = "nsga2"
    mode: str = "generational"
    in_flight: int | None = None
    halving: int | None = None
    forecast: bool = False
    screen: int = 1
    presets: bool = True
    crossover: float = 0.4
    objectives: str = "accuracy:max,transfer:min,macs:min"
    floor: float = 0.01
    tolerance: float = 0.01
    promote: int = 6
    epochs: int = RUNGS[-1]
    min_blocks: int = SPACE.min_blocks
    max_blocks: int = SPACE.max_blocks
    max_params: int = SPACE.max_params
    max_macs: int = SPACE.max_macs
    kinds: tuple[str, ...] = SPACE.kinds
    norms: tuple[str, ...] = SPACE.norms
    activations: tuple[str, ...] = SPACE.activations
    channels: tuple[int, ...] = SPACE.channels
    kernels: tuple[int, ...] = SPACE.kernels
    seed: int = 0

    def __post_init__(self) -> None:
        STRATEGIES.find(self.strategy)
        check_choice("mode", self.mode, MODES)
        check_at_least("promote", self.promote, 0)
        for name in ("floor", "tolerance"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in [0,1], not {getattr(self, name):g}")
        if self.mode != "steady" and (self.in_flight is not None or self.halving is not None):
            raise ConfigError("in_flight and halving go with mode 'steady'")
        if self.forecast and self.halving is None:
            raise ConfigError("forecast goes with halving")
        if self.in_flight is not None:
            check_at_least("in_flight", self.in_flight, 1)
        for epochs in self.rungs:
            if epochs not in RUNGS:
                raise ConfigError(
                    f"benchmark: nothing was measured after {epochs} epochs, only after "
                    f"{', '.join(map(str, RUNGS))}"
                )
        objectives = parse_objectives(self.objectives, MEASURES)
        late = self.rungs != RUNGS[-1:]
        if late and any(each.name == "unseen" for each in objectives):
            raise ConfigError(
                f"benchmark: the objective 'unseen' is measured after {RUNGS[-1]} epochs alone"
            )
        self._check_space()
        self.settings(accuracy=1.0, seed=self.seed)
        if self.halving is not None and self.search_epochs < self._least_epochs():
            raise ConfigError(
                f"halving by {self.halving}: {self.population} x {self.generations} candidates "
                f"have {self.search_epochs} epochs, and the last rung takes "
                f"{self._least_epochs()}; raise generations"
            )

    def _check_space(self) -> None:
        """Raise `ConfigError` where a choice or a limit is beyond the benchmark's space."""
        for name in ("kinds", "norms", "activations", "channels", "kernels"):
            known = getattr(SPACE, name)
            for choice in getattr(self, name):
                if choice not in known:
                    raise ConfigError(
                        f"{name}: '{choice}' is outside the benchmark's space, which has "
                        f"{', '.join(map(str, known))}"
                    )
        for name in ("max_blocks", "max_params", "max_macs"):
            if getattr(self, name) > getattr(SPACE, name):
                raise ConfigError(
                    f"{name}: {getattr(self, name)} is outside the benchmark's space, which has "
                    f"{getattr(SPACE, name)} at most"
                )
        if self.min_blocks < SPACE.min_blocks:
            raise ConfigError(
                f"min_blocks: {self.min_blocks} is outside the benchmark's space, which has "
                f"{SPACE.min_blocks} at least"
            )

    def _least_epochs(self) -> int:
        """Return the epochs after which somebody has been trained on the last rung."""
        last, rate = len(self.rungs) - 1, self.halving or 1
        least = sum(epochs * int(rate ** (last - rung)) for rung, epochs in enumerate(self.rungs))
        return least + (self.parallel - 1) * sum(self.rungs)

    @property
    def rungs(self) -> tuple[int, ...]:
        """Return the epochs of a trial, of all rungs with successive halving."""
        return (self.epochs,) if self.halving is None else rungs(self.epochs, self.halving)

    @property
    def parallel(self) -> int:
        """Return how many candidates are under way at a time in a steady search."""
        return _IN_FLIGHT if self.in_flight is None else self.in_flight

    @property
    def search_epochs(self) -> int:
        """Return the epochs that each search may spend on its trials."""
        return self.population * self.generations * self.epochs

    @property
    def space(self) -> SearchSpace:
        """Return the networks that may be proposed."""
        return SearchSpace(
            min_blocks=self.min_blocks,
            max_blocks=self.max_blocks,
            max_params=self.max_params,
            max_macs=self.max_macs,
            kinds=tuple(self.kinds),
            norms=tuple(self.norms),
            activations=tuple(self.activations),
            channels=tuple(self.channels),
            kernels=tuple(self.kernels),
        )

    def bounded(self, accuracy: float) -> tuple[Objective, ...]:
        """Return the objectives, accuracy bounded below at `accuracy` minus `floor`.

        A bound that the objectives state themselves stays.
        """
        objectives = parse_objectives(self.objectives, MEASURES)
        return bounded_below(objectives, accuracy - self.floor)

    def settings(self, *, accuracy: float, seed: int) -> SearchSettings:
        """Return the settings of a strategy; `accuracy` is the reference's architecture's."""
        generations = self.generations
        if self.halving is not None:
            # As many as there would be without promotions: the epochs are what ends the search.
            generations = -(-self.search_epochs // self.rungs[0] // self.population)
        return SearchSettings(
            space=self.space,
            input_shape=INPUT_SHAPE,
            num_classes=CLASSES,
            objectives=self.bounded(accuracy),
            population=self.population,
            generations=generations,
            crossover=self.crossover,
            screen=self.screen,
            seed=seed,
            presets=self._preset_genotypes() if self.presets else (),
        )

    def _preset_genotypes(self) -> tuple[Genotype, ...]:
        own = ARCHITECTURES[REFERENCES[0]]
        return tuple(preset_genotypes(self.space, INPUT_SHAPE, CLASSES, own))


def from_options(values: Mapping[str, Any], given: Mapping[str, Any]) -> BenchmarkConfig:
    """Return the settings of `robustkit evolve --benchmark` from its options.

    `values` has every option, `given` those that the user gave. Raises `ConfigError` naming an
    option that means nothing on the benchmark.
    """
    known = {field.name for field in fields(BenchmarkConfig)}
    for name in given:
        if name not in known | _OF_THE_RUN:
            raise ConfigError(
                f"--{name.replace('_', '-')} means nothing with --benchmark, where nothing is "
                "trained; leave it out"
            )
    # The default epochs and limits of a real search are not those of the benchmark.
    own = {"epochs", *_OF_THE_SPACE}
    chosen = {
        name: values[name]
        for name in known & set(values)
        if values[name] is not None and (name in given or name not in own)
    }
    return config_from(BenchmarkConfig, chosen)


_OF_THE_RUN = {"out", "resume", "config", "print_config", "extend"}
_OF_THE_SPACE = {
    *("min_blocks", "max_blocks", "max_params", "max_macs"),
    *("kinds", "norms", "activations", "channels", "kernels"),
}
