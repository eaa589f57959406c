"""The settings of an evaluation of a detector, checked where they are made."""

from __future__ import annotations

from dataclasses import dataclass

from adaptation.attacks import LOSSES, DetectionAttack
from robustkit.compute.seeds import check_seed
from robustkit.errors import ConfigError, did_you_mean

HELPS = {
    "model": "a detector's file, torchvision:NAME?weights=COCO_V1, or torchvision:NAME with "
    "--weights",
    "weights": "a state dict for torchvision:NAME",
    "download": "allow torchvision's weights to be fetched into the cache of torch's hub",
    "trust": "functions, package.module:factory, that a detector's file may have run",
    "data": "voc:FOLDER:SPLIT, coco:IMAGES:JSON or shapes:STYLE[:N]",
    "contrast": "another detector's file: detections and input gradients side by side",
    "eps": "radii of the attack that measures robust precision, between commas; 0: none",
    "attack_loss": "what it attacks: cls, loc, all or mtd",
    "attack_steps": "its steps",
    "attack_images": "images it is made on, the first ones",
    "pictures": "images drawn with their detections",
    "sure": "least score of a detection that is drawn",
    "seed": "of the attack",
}


@dataclass(frozen=True, kw_only=True)
class DetectOptions:
    """Which detector on which images; see `HELPS` for each field."""

    model: str = ""
    weights: str | None = None
    download: bool = False
    trust: tuple[str, ...] = ()
    data: str = "shapes:photo"
    contrast: str | None = None
    eps: tuple[float, ...] = (2 / 255,)
    attack_loss: str = "all"
    attack_steps: int = 10
    attack_images: int = 200
    pictures: int = 8
    sure: float = 0.4
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if not self.model:
            raise ConfigError("--model: name a detector's file, or torchvision:NAME")
        if self.attack_loss not in LOSSES:
            hint = did_you_mean(self.attack_loss, LOSSES)
            raise ConfigError(f"--attack-loss: unknown '{self.attack_loss}'{hint}")
        for name in ("attack_steps", "attack_images"):
            if getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise ConfigError(f"--{flag} must be at least 1, not {getattr(self, name)}")
        if self.pictures < 0:
            raise ConfigError(f"--pictures must not be negative: {self.pictures}")
        if not all(0 <= each <= 1 for each in (*self.eps, self.sure)):
            raise ConfigError("--eps and --sure must be in [0,1]")

    def attacks(self) -> dict[float, DetectionAttack]:
        """An attack for each radius above 0."""
        return {
            eps: DetectionAttack(loss=self.attack_loss, eps=eps, steps=self.attack_steps)
            for eps in sorted(set(self.eps))
            if eps > 0
        }
