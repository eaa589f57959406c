"""The kind of arm that a search's settings ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from evolution.halving import rungs
from evolution.strategies import SearchSettings
from experiments.evolve.agenda import Agenda
from experiments.evolve.arm import SearchArm
from experiments.evolve.config import EvolveConfig
from experiments.evolve.halving import HalvingArm
from experiments.evolve.selection import Contender
from experiments.evolve.steady import SteadyArm
from experiments.evolve.trying import Search, lower_rungs
from robustkit.compute import derive_seed
from robustkit.data import Splits
from robustkit.runs import Ledger


def open_arm(
    search: Search,
    config: EvolveConfig,
    splits: Splits,
    baseline: Mapping[str, Mapping[str, Any]],
    agenda: Agenda,
    ledger: Ledger,
    *,
    priority: int,
    done: Callable[[list[Contender]], None],
) -> SearchArm | SteadyArm:
    """The arm of `search`: "random" is the control, which has as many epochs and no halving.

    `baseline` has the trials of R's architecture: "R2", and with halving "R2/EPOCHS" of each rung
    below the last one. A steady arm goes on from what `ledger` has of it.
    """
    control = search.arm == "random"
    strategy = "random" if control else config.strategy
    macs = baseline["R2"]["macs"]
    settings = search_settings(config, splits, baseline=baseline["R2"]["accuracy"], macs=macs)
    common: dict[str, Any] = {"priority": priority, "done": done}
    if config.mode == "generational":
        return SearchArm(search, strategy, settings, agenda, **common)
    arms = (search.arm, lower_rungs(search.arm))
    steady: dict[str, Any] = {
        "in_flight": config.in_flight or 1,
        "recorded": [trial for trial in ledger.in_order() if trial.arm in arms],
    }
    if config.halving is None or control:
        return SteadyArm(search, strategy, settings, agenda, **steady, **common)
    epochs = rungs(config.epochs, config.halving)
    objectives = [
        config.objectives_above(baseline[f"R2/{each}"]["accuracy"]) for each in epochs[:-1]
    ]
    # As many as there would be if nobody were promoted: the epochs are what ends the search.
    most = -(-config.search_epochs // epochs[0] // config.population)
    return HalvingArm(
        search,
        strategy,
        replace(settings, objectives=objectives[0], generations=most),
        agenda,
        epochs=epochs,
        rate=config.halving,
        objectives=objectives,
        budget=config.search_epochs,
        **steady,
        **common,
    )


def search_settings(
    config: EvolveConfig, splits: Splits, *, baseline: float, macs: int
) -> SearchSettings:
    """What both searches start from.

    `baseline` is the accuracy that bounds feasibility, `macs` what R costs per image.
    """
    return SearchSettings(
        space=config.space(reference_macs=macs),
        input_shape=splits.train.shape,
        num_classes=splits.train.num_classes,
        objectives=config.objectives_above(baseline),
        population=config.population,
        generations=config.generations,
        screen=config.screen,
        seed=derive_seed(config.seed, "search"),
    )
