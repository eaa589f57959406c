"""The loss of one shard of a batch: clean and adversarial images, alignment, a teacher's boxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adaptation.attacks import DetectionAttack
from adaptation.detectors import Detector
from adaptation.training.batches import DetectionBatch
from adaptation.training.config import DetectionConfig
from adaptation.training.methods import (
    SOURCE,
    TARGET,
    DomainClassifiers,
    pseudo_truths,
    strongly_changed,
)
from robustkit.compute import derive_seed, isolated_rng, torch_generator


@dataclass(eq=False)
class Parts:
    """The parts of a training beside the detector, as far as the recipe uses them."""

    classifiers: DomainClassifiers | None = None
    teacher: Detector | None = None
    delta: list[Tensor] = field(default_factory=list)  # of free training, by image of the batch


@dataclass(frozen=True, eq=False)
class StepLoss:
    """`total` with a graph; its parts by name, detached. `leaves` are perturbed images whose
    gradient free training moves them by."""

    total: Tensor
    parts: Mapping[str, Tensor]
    leaves: list[Tensor]


def shard_loss(
    model: Detector,
    source: DetectionBatch,
    target: DetectionBatch | None,
    parts: Parts,
    config: DetectionConfig,
    step: int,
    shard: int,
) -> StepLoss:
    """Return the loss of one shard at this step.

    What is drawn depends on the seed, the step and the shard alone.
    """
    images, leaves = _perturbed(model, source, parts, config, step, shard)
    with isolated_rng(derive_seed("sampling", config.seed, step, shard)):
        loss, maps = model.losses_and_features(images, source.truths)
        named = {"classification": loss.classification, "localisation": loss.localisation}
        if target is not None and parts.classifiers is not None:
            ours = parts.classifiers.losses(maps, SOURCE)
            theirs = parts.classifiers.losses(model.features(target.images), TARGET)
            for name, weight, a, b in zip(
                ("local", "global"),
                (config.local_weight, config.global_weight),
                ours,
                theirs,
                strict=True,
            ):
                named[name] = weight * (a + b) / 2
        if target is not None and parts.teacher is not None:
            named["pseudo"] = config.pseudo * _taught(
                model, target, parts.teacher, config, step, shard
            )
    total = torch.stack(list(named.values())).sum()
    return StepLoss(total, {name: loss.detach() for name, loss in named.items()}, leaves)


def radius(config: DetectionConfig, step: int) -> float:
    """Return the radius at this step: it grows to `eps` over the warm-up."""
    span = config.eps_warmup * config.steps
    return config.eps * min(1.0, (step + 1) / span) if span else config.eps


def attack_of(config: DetectionConfig, step: int) -> DetectionAttack:
    """Return the attack of adversarial training at this step."""
    return DetectionAttack(
        loss=config.adv_loss,
        eps=radius(config, step),
        alpha=config.alpha,
        steps=config.adv_steps,
    )


def _perturbed(
    model: Detector,
    source: DetectionBatch,
    parts: Parts,
    config: DetectionConfig,
    step: int,
    shard: int,
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the images that are trained on, and the leaves among them that free training moves."""
    # The first ones of the whole batch, however it is divided.
    first = shard * len(source.images)
    count = min(max(config.adversaries - first, 0), len(source.images))
    if config.adversary is None or not count:
        return source.images, []
    if config.adversary == "pgd":
        generator = torch_generator("adversary", config.seed, step, shard)
        attacked = attack_of(config, step)(
            model, source.images[:count], source.truths[:count], generator=generator
        )
        return [*attacked, *source.images[count:]], []
    eps = radius(config, step)
    leaves = [
        (image + delta.clamp(-eps, eps)).clamp(0, 1).requires_grad_(True)
        for image, delta in zip(source.images[:count], parts.delta[first:], strict=False)
    ]
    return [*leaves, *source.images[count:]], leaves


def _taught(
    model: Detector,
    target: DetectionBatch,
    teacher: Detector,
    config: DetectionConfig,
    step: int,
    shard: int,
) -> Tensor:
    """Return the student's loss on changed images, against the teacher's boxes in the plain ones.

    Images in which the teacher is sure of nothing are left out: silence is no evidence of absence.
    """
    truths = pseudo_truths(teacher, target.images, config.sure)
    chosen = [number for number, labels in enumerate(truths) if len(labels)]
    if not chosen:
        return torch.zeros((), device=target.images[0].device)
    changed = strongly_changed(target, config.seed, step, shard * len(target.images))
    return model.losses([changed[n] for n in chosen], [truths[n] for n in chosen]).total
