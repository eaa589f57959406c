"""The flags of a repair: a method by name, and what of it is set otherwise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from robustkit.compute.seeds import check_seed
from robustkit.errors import ConfigError, did_you_mean
from robustkit.repair import METHODS, PRESETS, RepairConfig, SwarmConfig, TuneConfig, preset

PROTOCOLS = ("held-out", "paper")
OWN = "null: the method's"
HELPS = {
    "method": f"how to repair: {', '.join(METHODS)}",
    "protocol": "held-out: judge on other images than are repaired on; paper: on the same ones",
    "labels": "repair failures with these true labels alone: 3,5, or names of classes",
    "pairs": "repair these confusions alone: TRUE:PREDICTED, as in 3:5,cat:dog",
    "runs": "independent searches; the patch is that of the fittest",
    "seed": "of everything random",
    "layers": f"which layers: linear, conv, both, last, before-last, or names; {OWN}",
    "impacts": f"history: both, forward or backward; {OWN}",
    "diff": f"history: choose among the weights that moved most; {OWN}",
    "imp": f"history: spare the weights that improved images use; {OWN}",
    "ranking": f"rank weights pooled over layers, or in each layer; {OWN}",
    "top": f"N_g, how many weights each ranking takes; {OWN}, by --per-image",
    "per_image": f"N_g per image that localisation looks at; {OWN}",
    "on_empty": f"where nothing is chosen: error, grow, drop-imp or drop-diff; {OWN}",
    "fitness": f"what the swarm climbs: history, arachne, accuracy, guarded; {OWN}",
    "positives": f"images watched for breakage: random, hardest or all; {OWN}",
    "n_positives": f"how many of them; {OWN}",
    "budget": f"guarded, anchored: share of the successes that may break; {OWN}",
    "swarm": f"the swarm's design: {', '.join(PRESETS)}; {OWN}",
    "particles": "of each swarm; null: the design's",
    "iterations": "at most; null: the design's",
    "patience": "iterations without anything better that end a search; null: the design's",
    "topology": "global or ring; null: the design's",
    "start": "siblings: around their mean; current: around the weight; graded: so, ever closer",
    "spread": "how far, in standard deviations of the siblings; null: the design's",
    "steps": f"finetune, retrain, anchored: of gradient descent; {OWN}",
    "seconds": "the same: end after this time, to match another method's; null: never",
    "lr": f"finetune, retrain, anchored: step size of Adam; {OWN}",
    "attack_images": "images for PGD accuracy and transfer before and after; 0: not measured",
    "eps": "radius of those attacks, in units of images in [0,1]",
}
_OF_REPAIR = {
    "layers": "layers",
    "impacts": "impacts",
    "diff": "use_diff",
    "imp": "use_imp",
    "ranking": "ranking",
    "top": "top",
    "per_image": "per_image",
    "on_empty": "on_empty",
    "fitness": "fitness",
    "positives": "positives",
    "n_positives": "n_positives",
    "budget": "budget",
}
# Settings of localisation that have no meaning in another one than history's.
_NOT_OF = {
    "random": ("impacts", "diff", "imp", "ranking", "per_image", "on_empty"),
    "arachne": ("impacts", "diff", "imp", "on_empty"),
}
_OF_SWARM = ("particles", "iterations", "patience", "topology", "start", "spread")
_OF_TUNING = ("steps", "seconds", "lr", "budget")


@dataclass(frozen=True, kw_only=True)
class RepairOptions:
    """A method and what of it is changed; see `HELPS` for each field."""

    method: str = "history"
    protocol: str = "held-out"
    labels: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    runs: int = 1
    seed: int = 0
    layers: tuple[str, ...] | None = None
    impacts: str | None = None
    diff: bool | None = None
    imp: bool | None = None
    ranking: str | None = None
    top: int | None = None
    per_image: int | None = None
    on_empty: str | None = None
    fitness: str | None = None
    positives: str | None = None
    n_positives: int | None = None
    budget: float | None = None
    swarm: str | None = None
    particles: int | None = None
    iterations: int | None = None
    patience: int | None = None
    topology: str | None = None
    start: str | None = None
    spread: float | None = None
    steps: int | None = None
    seconds: float | None = None
    lr: float | None = None
    attack_images: int = 200
    eps: float = 8 / 255

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.protocol not in PROTOCOLS:
            hint = did_you_mean(self.protocol, PROTOCOLS)
            raise ConfigError(f"unknown protocol '{self.protocol}'{hint}")
        if self.attack_images < 0:
            raise ConfigError(f"attack_images must not be negative, not {self.attack_images}")
        if not 0 <= self.eps <= 1 or math.isnan(self.eps):
            raise ConfigError(f"eps must be in [0,1], in units of images, not {self.eps:g}")
        self._refuse_strangers()
        self.method_config()
        self.swarm_config()

    def method_config(self) -> RepairConfig | TuneConfig:
        """The method's settings, with what is given in place."""
        base = METHODS.find(self.method).config
        common: dict[str, Any] = {
            name: getattr(self, name) for name in ("labels", "pairs", "runs", "seed")
        }
        if isinstance(base, TuneConfig):
            return replace(base, **common, **self._given({name: name for name in _OF_TUNING}))
        return replace(base, **common, **self._given(_OF_REPAIR))

    def swarm_config(self) -> SwarmConfig:
        """The swarm's design, with what is given in place."""
        base = METHODS.find(self.method).swarm if self.swarm is None else preset(self.swarm)
        return replace(base, **self._given({name: name for name in _OF_SWARM}))

    def needs_history(self) -> bool:
        """Whether localisation looks at the checkpoint before the model's."""
        config = self.method_config()
        return isinstance(config, RepairConfig) and config.localisation == "history"

    def _given(self, fields: dict[str, str]) -> dict[str, Any]:
        values = {inner: getattr(self, outer) for outer, inner in fields.items()}
        return {name: value for name, value in values.items() if value is not None}

    def _refuse_strangers(self) -> None:
        """An option that the method does not have would be silently ignored."""
        base = METHODS.find(self.method).config
        searching = [*_OF_REPAIR, "swarm", *_OF_SWARM]
        own = _OF_TUNING if isinstance(base, TuneConfig) else searching
        for name in dict.fromkeys([*searching, *_OF_TUNING]):
            if getattr(self, name) is not None and name not in own:
                flag = name.replace("_", "-")
                raise ConfigError(f"--{flag}: the method '{self.method}' has no such setting")
        if isinstance(base, RepairConfig):
            for name in _NOT_OF.get(base.localisation, ()):
                if getattr(self, name) is not None:
                    flag = name.replace("_", "-")
                    raise ConfigError(f"--{flag}: the method '{self.method}' has no such setting")
            if (self.positives or base.positives) == "all" and self.n_positives is not None:
                raise ConfigError("--n-positives: all positives are watched already")
        if isinstance(base, RepairConfig) and self.budget is not None:
            fitness = self.fitness or base.fitness
            if fitness != "guarded":
                raise ConfigError(f"--budget: the fitness '{fitness}' has none; guarded does")
