"""Every setting of the training loop, checked where it is made."""

from __future__ import annotations

from dataclasses import dataclass

from robustkit.attacks import LOSSES
from robustkit.checks import check_at_least, check_choice
from robustkit.compute.seeds import check_seed
from robustkit.data import AUGMENTATIONS
from robustkit.errors import ConfigError
from robustkit.training.misalignment import PHI

OPTIMIZERS = ("sgd", "adam")
SCHEDULES = ("cosine", "step", "constant")
PENALTY_STATS = ("batch", "running")
ADVERSARIES = ("fgsm", "pgd", "mifgsm")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a network is trained.

    Budgets are in epochs. `lr` is the peak after `warmup` epochs of linear growth; `schedule`
    step divides it by ten at half and at three quarters. `patience` epochs without a better
    validation accuracy end the training, and the best epoch's weights are kept.

    `augment` is drawn anew for each batch while `views` is 0; else every image has that many
    stored views (the first is the image itself), one of which is drawn for each epoch.

    `lam` weighs the misalignment penalty with `phi` of the cosines, on gradients of `grad_loss`.
    `penalty_stats` batch takes the penalty's gradients from the very forward pass that is trained
    on, where batch norm couples the images of a batch; running takes a second pass with the
    running statistics, in which image i's gradient depends on image i alone, at the price of that
    pass. Networks without batch norm need no second pass and never get one.

    `adversarial` trains on adversarials of that attack at radius `eps` (units of images in [0,1])
    in place of the images.

    `bf16` runs forward passes in bfloat16. `channels_last` lays weights and batches out in memory
    with their channels innermost, as a GPU's matrix units want them; it changes no more than
    rounding. Both are for speed, and whether they give any is the machine's affair.

    >>> TrainConfig(epochs=0)
    Traceback (most recent call last):
    robustkit.errors.ConfigError: ...epochs...
    """

    epochs: int = 10
    batch_size: int = 128
    optimizer: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    warmup: float = 1.0
    patience: int | None = None
    augment: str = "none"
    views: int = 0
    lam: float = 0.0
    phi: str = "square"
    grad_loss: str = "ce"
    penalty_stats: str = "batch"
    adversarial: str | None = None
    eps: float = 8 / 255
    attack_steps: int = 7
    bf16: bool = False
    channels_last: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("augment", self.augment, AUGMENTATIONS)
        check_choice("grad_loss", self.grad_loss, tuple(LOSSES))
        check_choice("penalty_stats", self.penalty_stats, PENALTY_STATS)
        if self.adversarial is not None:
            check_choice("adversarial", self.adversarial, ADVERSARIES)
        PHI.find(self.phi)
        check_seed(self.seed)
        for name in ("epochs", "batch_size", "attack_steps"):
            check_at_least(name, getattr(self, name), 1)
        if self.patience is not None:
            check_at_least("patience", self.patience, 1)
        for name in ("momentum", "weight_decay", "warmup", "views", "lam"):
            check_at_least(name, getattr(self, name), 0)
        if not 0 < self.lr < float("inf"):
            raise ConfigError(f"lr must be positive, not {self.lr:g}")
        if not 0 <= self.eps <= 1:
            raise ConfigError(f"eps must be in [0,1], in units of images, not {self.eps:g}")
        if self.nesterov and self.optimizer == "sgd" and self.momentum == 0:
            raise ConfigError("nesterov needs a momentum above 0")
