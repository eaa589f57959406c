"""Steps of adversarial training in units of a plain step of `tiny_ssd`, and evaluation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from statistics import median

import torch

from adaptation import detectors
from adaptation.detectors import Found
from adaptation.evaluation import evaluate
from adaptation.recipes import recipe
from adaptation.training import DetectionConfig, StepRecord, train_detector
from experiments.benchmarks.timing import Claim
from robustkit.data.detection import DetectionSet, Truth, load_detection, truth

STEPS, ROUNDS = 10, 3
# Every image of a batch adversarial, as the publications on each of these count.
RECIPES = {
    "fast": ("one-step adversarial", 2.2),
    "free": ("free", 1.25),
    "adversarial": ("three-step adversarial", 4.6),
}
IMAGES, DETECTIONS, SECONDS = 1000, 50, 10.0


def claims() -> Iterator[Claim]:
    """Batches of eight rendered images of 128 pixels, on one thread."""
    images = load_detection("shapes:photo:64", "train")
    base = DetectionConfig(steps=STEPS, mix=1.0, eps_warmup=0.0)
    seconds: dict[str, list[float]] = {name: [] for name in ("source", *RECIPES)}
    for _ in range(ROUNDS):  # in turns: a machine's moods strike all alike
        for name, known in seconds.items():
            known += _steps(images, replace(recipe(name, base), start="fresh"))
    plain = median(seconds["source"])
    for name, (told, most) in RECIPES.items():
        yield Claim(
            f"tiny_ssd, {told} step: plain steps",
            median(seconds[name]) / plain,
            most,
            at_most=True,
            detail=f"a plain one {1000 * plain:.0f} ms" if name == "fast" else "",
        )
    found, truths = _many()
    start = time.perf_counter()
    evaluate(found, truths, tuple("abcdef"))
    yield Claim(
        f"evaluating the detections of {IMAGES:,} images",
        time.perf_counter() - start,
        SECONDS,
        at_most=True,
        unit=" s",
        detail=f"{DETECTIONS} in each, every figure",
    )


def _steps(images: DetectionSet, config: DetectionConfig) -> list[float]:
    """Seconds of each step but the first, which builds things."""
    times: list[float] = []

    def keep(_: StepRecord) -> None:
        times.append(time.perf_counter())

    model = detectors.build("tiny_ssd", images.classes, seed=0)
    train_detector(model, images, config, on_step=keep)
    return [later - earlier for earlier, later in pairwise(times)]


def _many() -> tuple[list[Found], list[Truth]]:
    generator = torch.Generator().manual_seed(0)
    found, truths = [], []
    for _ in range(IMAGES):
        corners = torch.rand(DETECTIONS, 2, generator=generator) * 90
        sides = 8 + torch.rand(DETECTIONS, 2, generator=generator) * 30
        boxes = torch.cat([corners, corners + sides], dim=1)
        labels = torch.randint(6, (DETECTIONS,), generator=generator)
        scores = torch.rand(DETECTIONS, generator=generator).sort(descending=True).values
        found.append(Found(boxes, scores, labels))
        truths.append(truth(boxes[:3] + 1, labels[:3]))
    return found, truths
