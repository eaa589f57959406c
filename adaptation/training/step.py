"""The loss of one shard of a batch: clean and adversarial images, alignment, a teacher's boxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adaptation.attacks import DetectionAttack
from adaptation.detectors import Detector
from adaptation.training.alignment import SOURCE, TARGET, DomainClassifiers, grown
from adaptation.training.batches import DetectionBatch
from adaptation.training.config import DetectionConfig
from adaptation.training.teacher import (
    Thresholds,
    found_by,
    labels_and_scores,
    pseudo_truths,
    strongly_changed,
)
from robustkit.compute import derive_seed, isolated_rng, torch_generator


@dataclass(eq=False)
class Parts:
    """The parts of a training beside the detector, as far as the recipe uses them."""

    classifiers: DomainClassifiers | None = None
    teacher: Detector | None = None
    thresholds: Thresholds | None = None
    delta: list[Tensor] = field(default_factory=list)  # of free training, by image of the batch


@dataclass(frozen=True, eq=False)
class StepLoss:
    """`total` with a graph; its parts by name, detached. `leaves` are perturbed images whose
    gradient free training moves them by, `right` the shares of places and of images whose domain
    was told, `found` the labels and scores of what a teacher found in each target image.
    """

    total: Tensor
    parts: Mapping[str, Tensor]
    leaves: list[Tensor]
    right: Mapping[str, Tensor]
    found: list[Tensor]


@dataclass(frozen=True, eq=False)
class _Perturbed:
    """The images of a shard, of which the first `count` are adversarial."""

    images: list[Tensor]
    count: int = 0
    leaves: list[Tensor] = field(default_factory=list)


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
    perturbed = _perturbed(model, source, parts, config, step, shard)
    right: dict[str, Tensor] = {}
    found: list[Tensor] = []
    kind = source.images[0].device.type
    with (
        isolated_rng(derive_seed("sampling", config.seed, step, shard)),
        torch.autocast(kind, torch.bfloat16, enabled=config.bf16),
    ):
        loss, maps = model.losses_and_features(perturbed.images, source.truths)
        named = {"classification": loss.classification, "localisation": loss.localisation}
        if target is not None and parts.classifiers is not None:
            # Clean ones alone, or the classifiers would tell the domains apart by the noise.
            clean = {name: level[perturbed.count :] for name, level in maps.items()}
            if perturbed.count == len(source.images):
                clean = model.features(source.images)
            factors = reversal(config, step)
            ours = parts.classifiers.told(clean, SOURCE, factors)
            theirs = parts.classifiers.told(model.features(target.images), TARGET, factors)
            named["local"] = (ours.local + theirs.local) / 2
            named["global"] = (ours.whole + theirs.whole) / 2
            right["local"] = (ours.local_right + theirs.local_right) / 2
            right["global"] = (ours.whole_right + theirs.whole_right) / 2
        if target is not None and parts.teacher is not None and parts.thresholds is not None:
            taught, found = _taught(
                model, target, parts.teacher, parts.thresholds, config, step, shard
            )
            named["pseudo"] = config.pseudo * taught
    total = torch.stack([part.float() for part in named.values()]).sum()
    detached = {name: part.detach().float() for name, part in named.items()}
    return StepLoss(total, detached, perturbed.leaves, right, found)


def radius(config: DetectionConfig, step: int) -> float:
    """Return the radius at this step: it grows to `eps` over the warm-up."""
    span = config.eps_warmup * config.steps
    return config.eps * min(1.0, (step + 1) / span) if span else config.eps


def reversal(config: DetectionConfig, step: int) -> tuple[float, float]:
    """Return the factors of the reversed gradients at this step, by place and by image."""
    share = grown(config.reversal, step / max(1, config.steps))
    return share * config.local_weight, share * config.global_weight


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
) -> _Perturbed:
    """Return the images that are trained on, and the leaves among them that free training moves."""
    # The first ones of the whole batch, however it is divided.
    first = shard * len(source.images)
    count = min(max(config.adversaries - first, 0), len(source.images))
    if config.adversary is None or not count:
        return _Perturbed(source.images)
    if config.adversary == "pgd":
        generator = torch_generator("adversary", config.seed, step, shard)
        attacked = attack_of(config, step)(
            model, source.images[:count], source.truths[:count], generator=generator
        )
        return _Perturbed([*attacked, *source.images[count:]], count)
    eps = radius(config, step)
    leaves = [
        (image + delta.clamp(-eps, eps)).clamp(0, 1).requires_grad_(True)
        for image, delta in zip(source.images[:count], parts.delta[first:], strict=False)
    ]
    return _Perturbed([*leaves, *source.images[count:]], count, leaves)


def _taught(
    model: Detector,
    target: DetectionBatch,
    teacher: Detector,
    thresholds: Thresholds,
    config: DetectionConfig,
    step: int,
    shard: int,
) -> tuple[Tensor, list[Tensor]]:
    """Return the student's loss on changed images, against the teacher's boxes in the plain ones.

    Of classification alone: the teacher's boxes are not where they should be. Images in which it is
    sure of nothing are left out: silence is no evidence of absence.
    """
    found = found_by(teacher, target.images)
    truths = pseudo_truths(found, thresholds.by_class())
    chosen = [number for number, labels in enumerate(truths) if len(labels)]
    told = labels_and_scores(found)
    if not chosen:
        return torch.zeros((), device=target.images[0].device), told
    with torch.autocast(target.images[0].device.type, enabled=False):
        changed = strongly_changed(target, config.seed, step, shard * len(target.images))
    losses = model.losses([changed[n] for n in chosen], [truths[n] for n in chosen])
    return losses.classification, told
