"""Checks whether a robust accuracy is evidence or overestimates robustness (after AutoAttack's).

Attacks that fail say nothing about robustness: gradients may be masked, the model may answer at
random, the evaluation may be broken. Each check that fails is a `Finding` that names the symptom
and its meaning (Athalye et al. 2018; Carlini et al. 2019, section 5; Croce and Hein 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from robustkit.attacks.base import Attack
from robustkit.attacks.iterative import FGSM, PGD
from robustkit.attacks.predictions import check_predictions, predict
from robustkit.compute import Note, device_of, fitting_batches, on_device
from robustkit.compute.batching import warn
from robustkit.data import ImageSet, as_image_set
from robustkit.evaluation.gradient_similarity import gradient_batches
from robustkit.evaluation.robustness import Robustness, worst_case
from robustkit.models.state import state_preserved
from robustkit.runs.summaries import Finding
from robustkit.stats import wilson

# Random corners of the ball that an image has to withstand after PGD failed on it.
NOISES = 20
# A radius at which no classifier can be right: every pixel may become grey.
HUGE = {"linf": 0.5, "l2": 0.5, "l1": 0.5, "l0": 1.0}
# What may differ by chance or rounding before a finding is made, in shares of the images probed.
SLACK = 0.02
# A radius up to which even an undefended model may stand.
WIDE = {"linf": 4 / 255, "l2": 0.25, "l1": 6.0, "l0": 0.05}


def diagnose(
    model: nn.Module,
    images: Any,
    *,
    eps: float,
    norm: str = "linf",
    seed: int = 0,
    batch_size: int | None = None,
    device: torch.device | None = None,
    on_note: Note = warn,
) -> tuple[Finding, ...]:
    """Probe `model` on `images` (a few hundred suffice) at the radius `eps`; return findings.

    Costs at most 32 forward and backward passes of each image (FGSM, PGD with 10 and with 20 steps,
    gradients) and some thirty forward ones. `eps` is in units of images in [0,1]. The model is left
    as it was. `batch_size`, `device`, `on_note` and the errors are as in `worst_case`.
    """
    images = as_image_set(images)
    sizes = _Sizes(batch_size=batch_size, on_note=on_note)
    with on_device(model, device):
        findings = [*_outputs(model, images, sizes), *_gradients(model, images, sizes)]
        if eps > 0:
            findings += _strengths(model, images, eps, norm, seed, sizes)
    return tuple(findings)


def read(result: Robustness) -> tuple[Finding, ...]:
    """Return findings about an evaluation itself: violations, and searches that beat gradients."""
    findings = []
    before, by_gradient = result.correct, False
    if finding := _chance(result):
        findings.append(finding)
    for attack, robust, outside, unmoved in zip(
        result.attacks, result.robust, result.violating, result.unmoved, strict=True
    ):
        if outside:
            findings.append(
                Finding(
                    "ball or range violated",
                    f"{outside} adversarials of {attack.name}",
                    "the attack breaks its own rules; those images were not counted as fooled",
                )
            )
        if attack.eps > 0 and unmoved > max(SLACK * len(robust), 0.5 * int(robust.sum())):
            findings.append(
                Finding(
                    "attack did nothing",
                    f"{attack.name} gave back {unmoved} of {int(robust.sum())} images unchanged",
                    "it found no way, or nothing within eps if it keeps to no ball: that these "
                    "images stand says nothing",
                )
            )
        searches = attack.gradient_free
        fell = int((before & ~robust).sum())
        if searches and by_gradient and fell > SLACK * len(robust):
            findings.append(_black_box(attack.name, fell, int(before.sum())))
        # One step is no search along gradients that another could be said to beat.
        by_gradient |= not searches and not isinstance(attack, FGSM)
        before = robust
    return tuple(findings)


def read_curve(
    radii: Sequence[float], accuracies: Sequence[float], norm: str = "linf"
) -> tuple[Finding, ...]:
    """Return a finding if robust accuracy does not fall as ε (ascending) grows, but should."""
    wide = len(radii) > 1 and radii[-1] >= WIDE[norm] and radii[-1] >= 2 * radii[0] > 0
    flat = wide and accuracies[-1] > accuracies[0] - SLACK and accuracies[0] > 0.1
    if not flat:
        return ()
    return (
        Finding(
            "robust accuracy does not fall with eps",
            f"{accuracies[0]:.1%} at {radii[0]:.3g}, {accuracies[-1]:.1%} at {radii[-1]:.3g}",
            "the attack does not use the room it is given: its steps are too few or its gradients "
            "masked",
        ),
    )


class _Sizes(TypedDict):
    """The batch size, and the receiver of notes about batches that did not fit."""

    batch_size: int | None
    on_note: Note


def outputs(
    model: nn.Module,
    images: ImageSet,
    *,
    batch_size: int | None = None,
    device: torch.device | None = None,
    on_note: Note = warn,
) -> list[Finding]:
    """Return findings about a model's outputs: train mode, probabilities, randomness."""
    with on_device(model, device):
        return _outputs(model, images, _Sizes(batch_size=batch_size, on_note=on_note))


def _outputs(model: nn.Module, images: ImageSet, sizes: _Sizes) -> list[Finding]:
    findings = []
    if model.training:
        findings.append(
            Finding(
                "model in train mode",
                "as it was given",
                "attacked in evaluation mode; in train mode batch norm mixes images and dropout "
                "draws anew, and results would mean nothing",
            )
        )
    logits, again = (predict(model, images.images, **sizes) for _ in range(2))
    check_predictions(logits, model, images)
    if is_probability(logits):
        findings.append(
            Finding(
                "softmax outputs",
                "rows of numbers in [0,1] that sum to one",
                "cross-entropy takes its own softmax, so gradients shrink and gradient attacks "
                "weaken: take the softmax out of the model",
            )
        )
    # Some kernels round differently from call to call; a random model differs by far more.
    apart = (logits - again).abs().amax(dim=1) > 1e-4 * logits.abs().amax(dim=1).clamp_min(1e-6)
    if _forward_varies(model, images, sizes) or bool(apart.any()):
        findings.append(
            Finding(
                "randomised model",
                "two forward passes of one image differ",
                "a gradient of one draw misleads about the next: average over draws "
                "(torchattacks:EOTPGD, torchattacks:AutoAttack?version=rand)",
            )
        )
    return findings


def is_probability(outputs: Tensor) -> bool:
    """Return whether every row (N,K) is a distribution, which logits are only by chance."""
    sums = outputs.sum(dim=1)
    return bool((outputs >= 0).all() and ((sums - 1).abs() < 1e-3).all())


def _forward_varies(model: nn.Module, images: ImageSet, sizes: _Sizes) -> bool:
    """Return whether draws from the global generators change the outputs."""
    device = device_of(model)
    with state_preserved(model), torch.no_grad():
        batches = fitting_batches(
            model,
            images.shape,
            chosen=sizes["batch_size"],
            most=16,
            backward=False,
            on_note=sizes["on_note"],
        )

        def differ(rows: slice) -> bool:
            batch = images.floats(torch.arange(rows.start, rows.stop)).to(device)
            first, second = model(batch.clone()), model(batch)
            return not torch.allclose(first, second, rtol=1e-4, atol=1e-5)

        return any(differs for _, differs in batches.over(min(16, len(images)), differ))


def _gradients(model: nn.Module, images: ImageSet, sizes: _Sizes) -> list[Finding]:
    batches = gradient_batches(model, images, **sizes)
    zero = torch.cat([~gradients.flatten(1).any(dim=1) for _, gradients in batches])
    if float(zero.double().mean()) <= SLACK:
        return []
    return [
        Finding(
            "zero gradients",
            f"{int(zero.sum())} of {len(zero)} images",
            "gradient attacks stand still there: the model saturates or is not differentiable; "
            "try the loss 'margin' or torchattacks:Square",
        )
    ]


def _strengths(
    model: nn.Module, images: ImageSet, eps: float, norm: str, seed: int, sizes: _Sizes
) -> list[Finding]:
    """Compare one step with many, noise with gradients, and attack in a ball of any image."""
    findings: list[Finding] = []
    pgd = PGD(eps=eps, norm=norm)
    one = worst_case(model, images, [FGSM(eps=eps, norm=norm)], seed=seed, **sizes)
    many = worst_case(model, images, [pgd], seed=seed, **sizes)
    count = len(images)
    fallen, deeper = (int((value.correct & ~value.survivors).sum()) for value in (one, many))
    if fallen > deeper + SLACK * count:
        findings.append(
            Finding(
                "FGSM beats PGD",
                f"{fallen} against {deeper} of {count} images",
                "one step finds more than ten that start from it: the gradients point nowhere, or "
                "the loss is rugged",
            )
        )
    left = many.survivors
    noise = worst_case(
        model,
        images,
        [_Corners(eps=eps, norm=norm)],
        restarts=NOISES,
        seed=seed,
        start=left,
        **sizes,
    )
    fell = int((left & ~noise.survivors).sum())
    if fell > SLACK * count:
        findings.append(_black_box(f"random noise ({NOISES} draws)", fell, int(left.sum())))
    power = {"linf": 0.0, "l2": 0.5, "l1": 1.0, "l0": 0.0}[norm]
    radius = HUGE[norm] * images.images[0].numel() ** power
    huge = worst_case(model, images, [PGD(eps=radius, norm=norm, steps=20)], seed=seed, **sizes)
    robust = float(huge.survivors.double().mean())
    if robust > 0.05:
        findings.append(
            Finding(
                "robust accuracy does not fall with eps",
                f"{robust:.1%} at {norm} {radius:.3g}, where every image can be made grey",
                "no classifier can be right there: gradients are masked or the attack is broken",
            )
        )
    return findings


def _chance(result: Robustness) -> Finding | None:
    """Return a finding if the clean accuracy is at most one image in K, K classes."""
    count = len(result.correct)
    rate = wilson(float(result.correct.double().mean()), count)
    chance = 1 / result.classes
    if rate.low is None or rate.low > chance:
        return None
    return Finding(
        "clean accuracy at chance",
        f"{int(result.correct.sum())} of {count} images, {result.classes} classes",
        "the model is untrained, or its weights, classes and normalisation do not belong together",
    )


def _black_box(attack: str, fell: int, among: int) -> Finding:
    return Finding(
        "black-box beats white-box",
        f"{attack} fooled {fell} of the {among} images that gradient attacks had left",
        "a blind search finds what gradients did not: they are masked or the gradient attack is "
        "too weak (more steps, restarts); its value flatters the model",
    )


class _Corners(Attack):
    """A random corner of the linf ball, or a random point of another's surface."""

    def perturb(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,
        stop_when_fooled: bool,
        others: Tensor | None = None,
    ) -> Tensor:
        noise = self.geometry.random(tuple(images.shape), self.eps, generator).to(images)
        step = self.eps * self.geometry.steepest(noise)
        return (images + self.geometry.project(step, self.eps)).clamp(0.0, 1.0)
