"""Every setting of the training loop, checked where it is made."""

from __future__ import annotations

from dataclasses import dataclass, fields

from robustkit.attacks import LOSSES
from robustkit.compute.seeds import check_seed
from robustkit.data import AUGMENTATIONS
from robustkit.errors import ConfigError
from robustkit.settings import check_at_least, check_choice, setting
from robustkit.training.misalignment import PHI
from robustkit.training.penalty_views import check_penalty_views

OPTIMIZERS = ("sgd", "adam")
SCHEDULES = ("cosine", "step", "constant")
PENALTY_STATS = ("batch", "running")
ADVERSARIES = ("fgsm", "pgd", "mifgsm")

LATER = ("penalty_views", "penalty_every", "lam_ramp")
"""Settings younger than hashes of trials that have a training's text in them."""


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

    `penalty_views` other than clean stores each view with noise of radius `eps` (see
    `noisy_views`), so that the penalty acts where attacks lie; cross-entropy is of these views,
    too. With `penalty_every` k only each k-th step has the penalty, with weight k·λ (lazy
    regularisation, Karras et al. 2020, section 3.1). λ grows linearly from 0 over the first
    `lam_ramp` epochs.

    `adversarial` trains on adversarials of that attack at radius `eps` (units of images in [0,1])
    in place of the images.

    `bf16` runs forward passes in bfloat16. `channels_last` lays weights and batches out in memory
    with their channels innermost, as a GPU's matrix units want them; it changes no more than
    rounding. Both are for speed, and whether they give any is the machine's affair.

    >>> TrainConfig(epochs=0)
    Traceback (most recent call last):
    robustkit.errors.ConfigError: ...epochs...
    """

    epochs: int = setting(10, "passes over the training images")
    batch_size: int = setting(128, "images per step")
    optimizer: str = setting("sgd", "sgd or adam")
    lr: float = setting(0.05, "peak learning rate")
    momentum: float = setting(0.9, "of sgd")
    nesterov: bool = setting(True, "Nesterov's momentum for sgd")
    weight_decay: float = setting(5e-4, "L2 penalty on the weights")
    schedule: str = setting("cosine", "of the learning rate: cosine, step or constant")
    warmup: float = setting(1.0, "epochs of linearly growing learning rate")
    patience: int | None = setting(
        None, "stop after so many epochs without better validation accuracy, keep the best"
    )
    augment: str = setting("none", "none, flip, crop or crop_flip")
    views: int = setting(
        0, "stored views per image, as the penalty needs for augmentation; 0: drawn anew"
    )
    penalty_views: str = setting(
        "clean",
        "noise of radius eps in the stored views, for the penalty: clean (none), uniform, corner "
        "(plus or minus eps), or mixed of all three",
    )
    lam: float = setting(0.0, "weight of the misalignment penalty")
    lam_ramp: float = setting(0.0, "epochs over which that weight grows from 0")
    penalty_every: int = setting(
        1, "steps of which one has the penalty, with so many times its weight"
    )
    phi: str = setting("square", "of the cosines in the penalty: square, abs, relu or logsumexp")
    grad_loss: str = setting("ce", "loss whose input gradients the penalty compares: ce or margin")
    penalty_stats: str = setting(
        "batch", "batch norm statistics under the penalty: batch or running"
    )
    adversarial: str | None = setting(None, "train on adversarials of fgsm, pgd or mifgsm")
    eps: float = setting(
        8 / 255,
        "radius of adversarials and of noise in views, in units of images in [0,1], such as 8/255",
    )
    attack_steps: int = setting(7, "steps of pgd and mifgsm")
    bf16: bool = setting(False, "forward passes in bfloat16")
    channels_last: bool = setting(
        False, "weights and batches in memory with channels innermost, for GPUs"
    )
    seed: int = setting(0, "of initial weights, batches, views and attacks")

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
        for name in ("epochs", "batch_size", "attack_steps", "penalty_every"):
            check_at_least(name, getattr(self, name), 1)
        if self.patience is not None:
            check_at_least("patience", self.patience, 1)
        for name in ("momentum", "weight_decay", "warmup", "views", "lam", "lam_ramp"):
            check_at_least(name, getattr(self, name), 0)
        if self.lam_ramp > self.epochs:
            raise ConfigError(
                f"lam_ramp must be at most the {self.epochs} epochs of the training, not "
                f"{self.lam_ramp:g}"
            )
        if not 0 < self.lr < float("inf"):
            raise ConfigError(f"lr must be positive, not {self.lr:g}")
        if not 0 <= self.eps <= 1:
            raise ConfigError(f"eps must be in [0,1], in units of images, not {self.eps:g}")
        if self.nesterov and self.optimizer == "sgd" and self.momentum == 0:
            raise ConfigError("nesterov needs a momentum above 0")
        check_penalty_views(self.penalty_views, self.eps)
        if self.penalty_views != "clean" and self.augment != "none" and self.views == 0:
            raise ConfigError(
                f"penalty_views {self.penalty_views} are stored, and augment {self.augment} is "
                "drawn anew while views is 0: set views above 0"
            )

    def __repr__(self) -> str:
        """Return the settings as Python; of those in `LATER` only what is not the default.

        Hashes of trials and notes on models have this text in them: a training that older versions
        had keeps theirs.
        """
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if field.name not in LATER or getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"
