"""The settings of a transfer evaluation, checked where they are made."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.attack_specs import make_attack
from robustkit.attacks import FUSES, Attack, TorchAttack
from robustkit.compute.seeds import check_seed
from robustkit.errors import AttackError, ConfigError, did_you_mean

HELPS = {
    "attack": "attack made on the sources: mifgsm, pgd?steps=50, torchattacks:VMIFGSM, …",
    "eps": "its radius, in units of images in [0,1], such as 8/255",
    "norm": "of the ball: linf or l2",
    "targeted": "also steer to other labels, drawn once and shared by all sources",
    "control": "also make the sign-flipped control, which steers to the true labels",
    "ensembles": "also attack all sources as one: logits (mean logits), loss (mean loss)",
    "gradients": "images whose gradients are compared between every two nets; 0: none",
    "bf16": "gradients of our own attacks in bfloat16; scores stay in float32",
    "seed": "of random starts, target labels and the choice of images",
}


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """Which attack is made, and what is compared besides; see `HELPS` for each field."""

    attack: str = "mifgsm"
    eps: float = 8 / 255
    norm: str = "linf"
    targeted: bool = False
    control: bool = True
    ensembles: tuple[str, ...] = ()
    gradients: int = 1000
    bf16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.gradients < 0:
            raise ConfigError(f"gradients must not be negative, not {self.gradients}")
        for fuse in self.ensembles:
            if fuse not in FUSES:
                raise ConfigError(f"unknown ensemble '{fuse}'{did_you_mean(fuse, FUSES)}")
        if len(set(self.ensembles)) < len(self.ensembles):
            raise ConfigError("the same ensemble twice")
        if "loss" in self.ensembles and isinstance(self.make_attack(), TorchAttack):
            raise ConfigError(
                f"--ensembles loss: {self.attack} takes its own loss of one model's logits; use "
                "'logits', or an attack of our own"
            )
        self.make_attack()
        if self.control or self.targeted:
            self._check_targeted()

    def _check_targeted(self) -> None:
        try:
            self.make_attack(targeted=True)
        except AttackError as error:
            flag = "leave out --targeted" if self.targeted else "say --no-control"
            raise ConfigError(f"{error}, which the control and targets need: {flag}") from None

    def make_attack(self, *, targeted: bool = False) -> Attack:
        """The attack, steering away from the true label or, `targeted`, to one that is given."""
        return make_attack(
            self.attack, eps=self.eps, norm=self.norm, bf16=self.bf16, targeted=targeted
        )
