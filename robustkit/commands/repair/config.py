"""The settings of a repair: a method by name, and settings that differ from the method's."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from robustkit.compute.seeds import check_seed
from robustkit.errors import ConfigError, did_you_mean
from robustkit.repair import METHODS, PRESETS, RepairConfig, SwarmConfig, TuneConfig, preset
from robustkit.settings import setting

PROTOCOLS = ("held-out", "paper")
DEFAULT = "null: the method's"
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
    """A method and the settings that differ from the method's."""

    method: str = setting("history", f"how to repair: {', '.join(METHODS)}")
    protocol: str = setting(
        "held-out",
        "held-out: evaluate on other images than are repaired on; paper: on the same ones",
    )
    labels: tuple[str, ...] = setting(
        (), "repair failures with these true labels alone: 3,5, or names of classes"
    )
    pairs: tuple[str, ...] = setting(
        (), "repair these confusions alone: TRUE:PREDICTED, as in 3:5,cat:dog"
    )
    runs: int = setting(1, "independent searches; the patch is that of the fittest")
    seed: int = setting(0, "of everything random")
    layers: tuple[str, ...] | None = setting(
        None, f"which layers: linear, conv, both, last, before-last, or names; {DEFAULT}"
    )
    impacts: str | None = setting(None, f"history: both, forward or backward; {DEFAULT}")
    diff: bool | None = setting(
        None, f"history: choose among the weights that moved most; {DEFAULT}"
    )
    imp: bool | None = setting(
        None, f"history: spare the weights that improved images use; {DEFAULT}"
    )
    ranking: str | None = setting(
        None, f"rank weights pooled over layers, or in each layer; {DEFAULT}"
    )
    top: int | None = setting(
        None, f"N_g, how many weights each ranking takes; {DEFAULT}, by --per-image"
    )
    per_image: int | None = setting(None, f"N_g per image that localisation looks at; {DEFAULT}")
    on_empty: str | None = setting(
        None, f"where nothing is chosen: error, grow, drop-imp or drop-diff; {DEFAULT}"
    )
    fitness: str | None = setting(
        None, f"what the swarm maximises: history, arachne, accuracy, guarded; {DEFAULT}"
    )
    positives: str | None = setting(
        None, f"images watched for breakage: random, hardest or all; {DEFAULT}"
    )
    n_positives: int | None = setting(None, f"how many of them; {DEFAULT}")
    budget: float | None = setting(
        None, f"guarded, anchored: share of the successes that may break; {DEFAULT}"
    )
    swarm: str | None = setting(None, f"the swarm's design: {', '.join(PRESETS)}; {DEFAULT}")
    particles: int | None = setting(None, "of each swarm; null: the design's")
    iterations: int | None = setting(None, "at most; null: the design's")
    patience: int | None = setting(
        None, "iterations without anything better that end a search; null: the design's"
    )
    topology: str | None = setting(None, "global or ring; null: the design's")
    start: str | None = setting(
        None, "siblings: around their mean; current: around the weight; graded: so, ever closer"
    )
    spread: float | None = setting(
        None, "how far, in standard deviations of the siblings; null: the design's"
    )
    steps: int | None = setting(
        None, f"finetune, retrain, anchored: of gradient descent; {DEFAULT}"
    )
    seconds: float | None = setting(
        None, "the same: end after this time, to match another method's; null: never"
    )
    lr: float | None = setting(None, f"finetune, retrain, anchored: step size of Adam; {DEFAULT}")
    attack_images: int = setting(
        200, "images for PGD accuracy and transfer before and after; 0: not measured"
    )
    eps: float = setting(8 / 255, "radius of those attacks, in units of images in [0,1]")

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.protocol not in PROTOCOLS:
            hint = did_you_mean(self.protocol, PROTOCOLS)
            raise ConfigError(f"unknown protocol '{self.protocol}'{hint}")
        if self.attack_images < 0:
            raise ConfigError(f"attack_images must not be negative, not {self.attack_images}")
        if not 0 <= self.eps <= 1 or math.isnan(self.eps):
            raise ConfigError(f"eps must be in [0,1], in units of images, not {self.eps:g}")
        self._check_options_of_method()
        self.method_config()
        self.swarm_config()

    def method_config(self) -> RepairConfig | TuneConfig:
        """Return the method's settings, with those given here in place."""
        base = METHODS.find(self.method).config
        common = self._given({name: name for name in ("labels", "pairs", "runs", "seed")})
        if isinstance(base, TuneConfig):
            return replace(base, **common, **self._given({name: name for name in _OF_TUNING}))
        return replace(base, **common, **self._given(_OF_REPAIR))

    def swarm_config(self) -> SwarmConfig:
        """Return the swarm's design, with the settings given here in place."""
        base = METHODS.find(self.method).swarm if self.swarm is None else preset(self.swarm)
        return replace(base, **self._given({name: name for name in _OF_SWARM}))

    def needs_history(self) -> bool:
        """Return whether localisation needs the checkpoint before the model's."""
        config = self.method_config()
        return isinstance(config, RepairConfig) and config.localisation == "history"

    def _given(self, fields: dict[str, str]) -> dict[str, Any]:
        values = {inner: getattr(self, outer) for outer, inner in fields.items()}
        return {name: value for name, value in values.items() if value is not None}

    def _check_options_of_method(self) -> None:
        """Raise `ConfigError` for an option that the method does not have and would ignore."""
        base = METHODS.find(self.method).config
        searching = [*_OF_REPAIR, "swarm", *_OF_SWARM]
        allowed = _OF_TUNING if isinstance(base, TuneConfig) else searching
        for name in dict.fromkeys([*searching, *_OF_TUNING]):
            if getattr(self, name) is not None and name not in allowed:
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
