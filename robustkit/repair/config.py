"""The settings of a repair by search, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass

from robustkit.compute.seeds import check_seed
from robustkit.errors import ConfigError, did_you_mean
from robustkit.repair.fitness import FITNESS

LOCALISATIONS = ("history", "arachne", "random")
IMPACTS = ("both", "forward", "backward")
RANKINGS = ("pooled", "layer")
BUDGET = 0.002
ON_EMPTY = ("error", "grow", "drop-imp", "drop-diff")
POSITIVES = ("random", "hardest", "all")


@dataclass(frozen=True, kw_only=True)
class RepairConfig:
    """Which weights are changed and what the search optimises, by default the history method's.

    `localisation` chooses the weights among `layers` (see `repairable`): Equation 5 of the history
    method, with `impacts` on both sides, `use_diff` and `use_imp` as its RQ2 and RQ3 vary them;
    Arachne's Pareto front; or `top` weights at random. `top` is N_g, None for `per_image`
    times the images looked at (deg and imp, or neg), over all layers together or, by `ranking`, for
    each layer. `on_empty` says what to do where nothing is chosen.

    `fitness` is what the swarm maximises, on all failures and on `n_positives` of the images that
    are right: at random, those of largest squared error between softmax and one-hot, or all.
    `budget` is the share of these that the fitness "guarded" lets break. `runs` independent swarms
    have seeds derived from `seed`; the patch is the one whose fitness is best, on the images
    repaired on alone. `labels` and `pairs` ("TRUE:PREDICTED") keep the failures of these classes
    and of these confusions alone.
    """

    localisation: str = "history"
    layers: tuple[str, ...] = ("linear",)
    impacts: str = "both"
    use_diff: bool = True
    use_imp: bool = True
    ranking: str = "pooled"
    top: int | None = None
    per_image: int = 1
    on_empty: str = "error"
    fitness: str = "history"
    positives: str = "hardest"
    n_positives: int = 1000
    budget: float = BUDGET
    runs: int = 1
    labels: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        choices = {
            "localisation": LOCALISATIONS,
            "impacts": IMPACTS,
            "ranking": RANKINGS,
            "on_empty": ON_EMPTY,
            "positives": POSITIVES,
        }
        for name, known in choices.items():
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(f"unknown {name} '{value}'{did_you_mean(value, known)}")
        for name in ("top", "per_image", "n_positives", "runs"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ConfigError(f"{name} must be at least 1, not {number}")
        FITNESS.find(self.fitness)
        if not 0 <= self.budget <= 1:
            raise ConfigError(f"budget must be in [0,1], a share of successes, not {self.budget:g}")
        if not self.layers:
            raise ConfigError("layers: name at least one, or linear, conv, both, last, before-last")
        if self.localisation == "random" and self.top is None:
            raise ConfigError("random localisation must be told how many weights: top")


HISTORY = RepairConfig()
ARACHNE = RepairConfig(
    localisation="arachne",
    layers=("last",),
    per_image=20,
    fitness="arachne",
    positives="random",
    n_positives=200,
)
