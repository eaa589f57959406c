"""What is compared, and the one setting under which it is."""

from __future__ import annotations

from dataclasses import replace

from experiments.evolve.config import EvolveConfig

WORKERS = 4
MOMENTS = (0.25, 0.5, 0.75, 1.0)  # shares of the cost at which the nets found so far are judged
JUDGED = 4  # nets judged at each

_STEADY = {"mode": "steady", "in_flight": WORKERS}
# Every search by what it has of its own; "short" is the control of inheritance.
SEARCHES: dict[str, dict[str, object]] = {
    "random": {"strategy": "random"},
    "nsga2": {},
    "mu_plus_lambda": {"strategy": "mu_plus_lambda"},
    "ageing": {"strategy": "ageing"},
    "steady": _STEADY,
    "halving": _STEADY | {"halving": 2},
    "halving of random": _STEADY | {"halving": 2, "strategy": "random"},
    "short": {"epochs": 1},
    "inheritance": {"epochs": 1, "inherit": True},
}
SMOKE = ("random", "halving", "inheritance")


def common(seed: int, *, smoke: bool) -> EvolveConfig:
    """R, space, data and budget of all searches of a seed."""
    if smoke:
        return EvolveConfig(
            reference="small",
            population=4,
            generations=2,
            epochs=2,
            final_epochs=2,
            train_size=200,
            eps=0.15,
            max_params=30_000,
            max_macs=600_000,
            seed=seed,
        )
    return EvolveConfig(
        reference="vgg5?width=16",
        population=8,
        generations=4,
        objectives="accuracy:max,transfer:min",
        epochs=4,
        final_epochs=6,
        train_size=4000,
        test_size=3000,
        augment="flip",
        views=2,
        max_blocks=6,
        max_macs=800_000,
        # Depthwise convolutions take up to ten times as long a step on these cores, and the
        # budget is in epochs.
        kinds=("conv", "residual", "dense", "inception", "pool", "identity"),
        channels=(16, 24, 32, 48, 64, 96, 128),
        kernels=(3, 5),
        seed=seed,
    )


def config_of(search: str, base: EvolveConfig) -> EvolveConfig:
    """The settings of one search; fewer epochs a trial make for as many more generations."""
    own = replace(base, **SEARCHES[search])  # type: ignore[arg-type]
    return replace(own, generations=base.search_epochs // (own.population * own.epochs))


def lowest_epochs(base: EvolveConfig) -> tuple[int, ...]:
    """Every number of epochs for which some search wants to know how R's architecture does."""
    found = [base.epochs]
    while found[-1] > 1:
        found.append(found[-1] // 2)
    return tuple(reversed(found))
