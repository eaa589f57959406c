"""The settings of an attack evaluation, checked where they are made."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.attack_specs import make_attack
from robustkit.attacks import Attack
from robustkit.compute.seeds import check_seed
from robustkit.errors import ConfigError

HELPS = {
    "attack": "attacks, cheap to expensive: fgsm, pgd?steps=40, torchattacks:APGD?loss=dlr, …",
    "eps": "radii in units of images in [0,1], such as 8/255, or several: 2/255,4/255,8/255",
    "norm": "of the ball: linf or l2",
    "restarts": "runs of every attack, each on the survivors of the last",
    "bf16": "gradients of our own attacks in bfloat16; scores stay in float32",
    "probe": "images on which the checks are made that a figure is evidence; 0: none",
    "seed": "of random starts and of the choice of images",
}


@dataclass(frozen=True, kw_only=True)
class AttackConfig:
    """Which attacks, at which radii, how often; see `HELPS` for each field."""

    attack: tuple[str, ...] = ("pgd",)
    eps: tuple[float, ...] = (8 / 255,)
    norm: str = "linf"
    restarts: int = 1
    bf16: bool = False
    probe: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name, least in (("restarts", 1), ("probe", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not self.attack or not self.eps:
            raise ConfigError("at least one attack and one eps are needed")
        if len(set(self.attack)) < len(self.attack):
            raise ConfigError("the same attack twice: use --restarts to repeat it")
        self.attacks()

    @property
    def radii(self) -> tuple[float, ...]:
        """The radii, each once, ascending."""
        return tuple(sorted(set(self.eps)))

    def attacks(self) -> dict[float, list[Attack]]:
        """The attacks in order, at every radius."""
        return {eps: [self._make(spec, eps) for spec in self.attack] for eps in self.radii}

    def _make(self, spec: str, eps: float) -> Attack:
        return make_attack(spec, eps=eps, norm=self.norm, bf16=self.bf16)
