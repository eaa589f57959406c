"""Clean accuracy, and whether it is what it should be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robustkit.attacks import Finding, Rate, predict, wilson
from robustkit.attacks.predict import check_predictions
from robustkit.compute import Note
from robustkit.compute.batching import warn
from robustkit.data import as_image_set

# How far below a published accuracy a model is no longer the one that was published.
MARGIN = 0.10
_ROUNDING = 1e-9  # 0.82 - 0.10 is a hair more than 0.72


def accuracy(
    model: nn.Module,
    images: Any,
    *,
    batch_size: int | None = None,
    device: torch.device | None = None,
    on_note: Note = warn,
) -> Rate:
    """The share of `images` that `model` classifies correctly, with n and its Wilson interval.

    `images` is whatever `data.as_image_set` takes; the rest is as in `attacks.predict`. Raises
    `DataError` where a label has no logit, `ModelError` for a model that gives no logits or NaN.
    """
    images = as_image_set(images)
    logits = predict(model, images.images, batch_size=batch_size, device=device, on_note=on_note)
    check_predictions(logits, model, images)
    return rate_of(logits.argmax(dim=1) == images.labels)


def rate_of(right: Tensor) -> Rate:
    """The share of true ones in bool (N,), with its Wilson interval."""
    return wilson(float(right.double().mean()), len(right))


def check_clean(
    accuracy: Rate, *, num_classes: int, published: float | None = None
) -> tuple[Finding, ...]:
    """What makes a clean accuracy suspect: that it is at chance, or far below the published one.

    At chance: the Wilson interval reaches down to 1/K, K classes. Far below: ten points or more.
    Both are rates in [0,1]; without a published one, None, the latter is not looked at. Each
    finding is one sentence, its `line`.

    >>> for finding in check_clean(wilson(0.16, 200), num_classes=1000, published=0.92):
    ...     print(finding.seen)
    clean accuracy 16.0 % [11.6 %, 21.7 %] (n = 200) is 76 points below the published 92.0 %
    """
    if accuracy.rate is None or accuracy.low is None or accuracy.high is None:
        return ()
    shown = (
        f"clean accuracy {_percent(accuracy.rate)} "
        f"[{_percent(accuracy.low)}, {_percent(accuracy.high)}] (n = {accuracy.n})"
    )
    findings = []
    if accuracy.low <= 1 / num_classes:
        findings.append(
            Finding(
                "clean accuracy at chance",
                f"{shown} is not above chance, {_percent(1 / num_classes)} of {num_classes} "
                "classes",
                "is it trained, and do its weights, classes and preprocessing belong together?",
            )
        )
    if published is not None and accuracy.rate <= published - MARGIN + _ROUNDING:
        points = 100 * (published - accuracy.rate)
        findings.append(
            Finding(
                "clean accuracy below the published one",
                f"{shown} is {points:.0f} points below the published {_percent(published)}",
                "is it fed as it was trained?",
            )
        )
    return tuple(findings)


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"
