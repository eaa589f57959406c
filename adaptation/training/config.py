"""Every setting of the training of a detector, checked where it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass

from adaptation.attacks import LOSSES
from adaptation.training.batches import AUGMENTATIONS
from robustkit.compute.seeds import check_seed
from robustkit.errors import ConfigError
from robustkit.settings import check_at_least, check_choice, setting

ADVERSARIES = ("pgd", "free")
STARTS = ("fresh", "source")
DOMAINS = ("source", "target")
OPTIMIZERS = ("adamw", "sgd")


@dataclass(frozen=True, kw_only=True)
class DetectionConfig:
    """The settings of a detector's training, whatever the recipe.

    `steps` of `batch_size` images; `lr` is the peak after `warmup` steps, then a cosine to 0. Each
    stage of the backbone has `layer_decay` times the rate of what lies behind it. `clip` bounds the
    norm of the gradient. `augment` names what is done to the images: "flip" mirrors half of them,
    "photometric", "zoom_out" and "iou_crop" are SSD's. `loader_workers` processes read them ahead,
    which changes no figure. With `bf16` forward passes are in bfloat16, attacks in float32. A batch
    is worked on in `shards` equal parts whose losses are averaged: as many processes may share
    them, and give the same as one.

    `adversary` trains on adversarials of `adv_loss` within `eps`, for a share `mix` of each batch:
    "pgd" with `adv_steps` from anywhere in the ball, "free" with the very gradient that moves the
    weights, `replays` steps on each batch (Shafahi et al. 2019). The radius grows over the first
    `eps_warmup` of the steps.

    `align` trains domain classifiers on maps of clean source and target images behind a gradient
    reversal (Saito et al. 2019): `local_weight` weighs what the features get of those of single
    places, `global_weight` of those of whole images; both grow over the steps, the faster the
    larger `reversal` (Ganin et al. 2016).

    `teacher` adds, after `burn_in` of the steps, the loss on strongly changed target images in
    which a moving average of the weights (`ema`) found boxes with a score above `sure`, or less for
    a class that it finds more rarely than the source has it; `pseudo` weighs it (Li et al. 2022).

    `adabn` replaces batch norm's statistics by those of target images (Li et al. 2016), after
    training. `domain` is whose labels are trained on: "target" is the oracle. `start` is where the
    weights come from.
    """

    steps: int = setting(
        1500, "of every training; recipes that start from the source's weights add as many"
    )
    batch_size: int = setting(8, "images of a step")
    optimizer: str = setting("adamw", "adamw or sgd")
    lr: float = setting(0.002, "peak learning rate")
    momentum: float = setting(0.9, "of sgd")
    weight_decay: float = setting(1e-4, "on the weights")
    warmup: int = setting(100, "steps of growing learning rate")
    clip: float = setting(10.0, "largest norm of the gradient")
    layer_decay: float = setting(
        1.0, "learning rate of each stage of the backbone in that of the next; 0 keeps its weights"
    )
    augment: tuple[str, ...] = setting(
        ("flip",), "between commas: flip, photometric, zoom_out, iou_crop; or none"
    )
    loader_workers: int = setting(0, "processes that read images ahead; 0: none beside training")
    bf16: bool = setting(False, "forward passes in bfloat16, for GPUs")
    shards: int = setting(1, "equal parts of a batch, which several processes may share")
    start: str = "fresh"
    domain: str = "source"
    adversary: str | None = None
    adv_loss: str = setting("all", "what adversaries attack, free ones aside: cls, loc, all or mtd")
    eps: float = setting(4 / 255, "their radius, in units of images in [0,1]")
    alpha: float | None = setting(None, "their step; none: 2.5 eps / steps")
    adv_steps: int = setting(3, "their steps in 'adversarial'")
    replays: int = setting(4, "steps on each batch in 'free'")
    mix: float = setting(0.5, "share of a batch that is adversarial")
    eps_warmup: float = setting(0.2, "share of the steps over which the radius grows")
    align: bool = False
    local_weight: float = setting(0.1, "of the features' gradient by place, in alignment")
    global_weight: float = setting(0.1, "of the features' gradient by image, in alignment")
    reversal: float = setting(
        10.0, "how steeply these weights grow over the steps; 0: whole from the first"
    )
    teacher: bool = False
    ema: float = setting(0.998, "how slowly the teacher follows")
    sure: float = setting(
        0.6, "score above which the teacher's boxes count; down to half of it for rare classes"
    )
    burn_in: float = setting(0.0, "share of the steps before there is a teacher")
    pseudo: float = setting(0.5, "weight of the loss on them")
    adabn: bool = False
    seed: int = setting(0, "of everything random; trainings count on from it")

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("start", self.start, STARTS)
        check_choice("domain", self.domain, DOMAINS)
        check_choice("adv_loss", self.adv_loss, LOSSES)
        if self.adversary is not None:
            check_choice("adversary", self.adversary, ADVERSARIES)
        check_seed(self.seed)
        for name in self.augment:
            check_choice("augment", name, AUGMENTATIONS)
        if len(set(self.augment)) < len(self.augment):
            raise ConfigError(f"augment: {', '.join(self.augment)} are not distinct")
        for name, least in (
            *(("steps", 0), ("batch_size", 1), ("shards", 1), ("warmup", 0)),
            *(("loader_workers", 0), ("reversal", 0)),
        ):
            check_at_least(name, getattr(self, name), least)
        for name in ("adv_steps", "replays"):
            check_at_least(name, getattr(self, name), 1)
        for name in ("weight_decay", "local_weight", "global_weight", "pseudo"):
            check_at_least(name, getattr(self, name), 0)
        for name in (
            *("eps", "mix", "eps_warmup", "ema", "sure", "momentum", "layer_decay", "burn_in"),
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in [0,1], not {getattr(self, name):g}")
        for name in ("lr", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be positive, not {getattr(self, name):g}")
        if self.alpha is not None and not 0 < self.alpha <= 1:
            raise ConfigError(f"alpha must be in (0,1], in units of images, not {self.alpha:g}")
        if self.adversary is not None and not self.adversaries:
            raise ConfigError(
                f"mix {self.mix:g} of a batch of {self.batch_size} leaves no image adversarial"
            )
        if self.batch_size % self.shards:
            raise ConfigError(
                f"a batch of {self.batch_size} images cannot be divided into {self.shards} shards"
            )

    @property
    def adversaries(self) -> int:
        """Return the number of adversarial images in a batch."""
        return math.floor(self.mix * self.batch_size + 0.5)

    @property
    def needs_target(self) -> bool:
        """Return whether training uses unlabelled images of the target domain."""
        return self.align or self.teacher or self.adabn
