"""The training flags in words, and the combinations that make no sense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.options import config_from
from robustkit.errors import ConfigError
from robustkit.models.specs import names_untrained
from robustkit.training import TrainConfig

HELPS = {
    "epochs": "passes over the training images",
    "batch_size": "images per step",
    "optimizer": "sgd or adam",
    "lr": "peak learning rate",
    "momentum": "of sgd",
    "nesterov": "Nesterov's momentum for sgd",
    "weight_decay": "L2 penalty on the weights",
    "schedule": "of the learning rate: cosine, step or constant",
    "warmup": "epochs of linearly growing learning rate",
    "patience": "stop after so many epochs without better validation accuracy, keep the best",
    "augment": "none, flip, crop or crop_flip",
    "views": "stored views per image, as the penalty needs for augmentation; 0: drawn anew",
    "lam": "weight of the misalignment penalty",
    "phi": "of the cosines in the penalty: square, abs, relu or logsumexp",
    "grad_loss": "loss whose input gradients the penalty compares: ce or margin",
    "penalty_stats": "batch norm statistics under the penalty: batch or running",
    "adversarial": "train on adversarials of fgsm, pgd or mifgsm",
    "eps": "their radius, in units of images in [0,1], such as 8/255",
    "attack_steps": "steps of pgd and mifgsm",
    "bf16": "forward passes in bfloat16",
    "channels_last": "weights and batches in memory with channels innermost, for GPUs",
    "seed": "of initial weights, batches, views and attacks",
}


def check(settings: Mapping[str, Any]) -> TrainConfig:
    """The training's settings; raises `ConfigError` where options contradict each other."""
    config = config_from(TrainConfig, settings)
    against = settings["penalty_against"]
    if config.lam > 0 and not against:
        raise ConfigError(
            "--lam weighs a penalty against a model: name it, --penalty-against MODEL"
        )
    if against and config.lam == 0:
        raise ConfigError(
            "--penalty-against does nothing at --lam 0: give a weight, such as --lam 1"
        )
    if against and config.augment != "none" and config.views == 0:
        raise ConfigError("--penalty-against needs the same views in every epoch: give --views N")
    for spec in against:
        if names_untrained(spec):
            raise ConfigError(f"--penalty-against {spec}: untrained; give a trained model's file")
    return config
