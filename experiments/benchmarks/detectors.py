"""Steps of detectors in plain steps and beside torchvision's loop; evaluation and pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from adaptation import detectors
from adaptation.detectors import Detections, Detector
from adaptation.evaluation import coco_precision, evaluate, voc_precision
from adaptation.evaluation.coco import coco_dataset, coco_results
from adaptation.recipes import recipe
from adaptation.training import DetectionConfig, StepRecord, train_detector
from adaptation.training.batches import AUGMENTATIONS
from experiments.benchmarks.peers import Agreement, Peer, versus
from experiments.benchmarks.record import Record, Value, alone, cost
from experiments.benchmarks.timing import timed
from robustkit import models
from robustkit.data.detection import DetectionSet, Truth, load_detection, truth


def prepare(
    found: Sequence[Detections], truths: Sequence[Truth], classes: int, *, only_half: bool = False
) -> Callable[[], list[float]]:
    """Return the work of loading two files and evaluating; writing them is left out of it.

    It comes to AP, AP50 and AP75 or, with `only_half`, to the AP at IoU 0.5 alone, for which no
    other threshold, size or number of detections is evaluated.
    """
    import numpy as np
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    folder = tempfile.TemporaryDirectory()
    known_file = Path(folder.name) / "truths.json"
    found_file = Path(folder.name) / "found.json"
    known_file.write_text(json.dumps(coco_dataset(truths, classes)), encoding="utf-8")
    found_file.write_text(json.dumps(coco_results(found)), encoding="utf-8")

    def work() -> list[float]:
        assert folder  # the files live as long as the work does
        with contextlib.redirect_stdout(io.StringIO()):
            known = COCO(str(known_file))
            evaluation = COCOeval(known, known.loadRes(str(found_file)), "bbox")
            if only_half:
                evaluation.params.iouThrs = np.array([0.5])
                evaluation.params.areaRng = evaluation.params.areaRng[:1]
                evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
                evaluation.params.maxDets = evaluation.params.maxDets[-1:]
            evaluation.evaluate()
            evaluation.accumulate()
            if only_half:  # its summary insists on all thresholds
                precision = evaluation.eval["precision"]
                return [float(precision[precision > -1].mean())]
            evaluation.summarize()
        return [float(value) for value in evaluation.stats[:3]]

    return work


STEPS, ROUNDS = 10, 3
# Every image of a batch adversarial, as the publications on each of these count.
RECIPES = {"fast": "one-step adversarial", "free": "free", "adversarial": "three-step adversarial"}
FROM_SCRATCH = {"fast": 2.2, "free": 1.25, "adversarial": 4.6}
PRETRAINED = {"fast": 2.1, "free": 1.25, "adversarial": 4.6}
ON_BACKBONE = "tiny_ssd?side=160&norm=frozen&fpn=64"
WAITING = 1.05  # of a step whose images are there already
IMAGES, DETECTIONS, CLASSES, SECONDS = 1000, 50, 6, 10.0
# AP at IoU 0.5 by area and by COCO's 101 recalls are not the same number: so far they may differ.
APART = 0.01


def records() -> Iterator[Record]:
    """Yield training on batches of eight rendered images, and evaluation of random boxes."""
    yield from _training("tiny_ssd", _from_scratch, most=FROM_SCRATCH)
    yield from _training(f"{ON_BACKBONE} on mobilenet_v2", _on_backbone, most=PRETRAINED)
    yield from _loops()
    yield from _loading()
    found, truths = _many()
    yield from _evaluation(found, truths)


def _from_scratch(classes: Sequence[str]) -> Detector:
    """Return the detector that trains from scratch."""
    return detectors.build("tiny_ssd", classes, seed=0)


def _on_backbone(classes: Sequence[str]) -> Detector:
    """Return a detector on a classifier; how long it takes does not depend on the weights."""
    spec = "torchvision:mobilenet_v2"
    body = models.resolve(spec, num_classes=10, in_channels=3, image_size=160, seed=0)
    return detectors.build(ON_BACKBONE, classes, backbone=body.eval(), seed=0)


Build = Callable[[Sequence[str]], Detector]


def _training(name: str, build: Build, *, most: Mapping[str, float]) -> Iterator[Record]:
    images = load_detection("shapes:photo:64", "train")
    base = DetectionConfig(steps=STEPS, mix=1.0, eps_warmup=0.0)
    seconds: dict[str, list[float]] = {each: [] for each in ("source", *RECIPES)}
    for _ in range(ROUNDS):  # interleaved: machine noise affects all alike
        for each, known in seconds.items():
            known += _steps(build, images, replace(recipe(each, base), start="fresh"))
    plain = Value("plain step", "s", tuple(seconds["source"]))
    for each, told in RECIPES.items():
        step = Value(f"{told} step", "s", tuple(seconds[each]))
        yield cost(f"{name}, {told} step, in plain steps", step, plain, at_most=most[each])


def _loops() -> Iterator[Record]:
    """Yield our plain step beside one of torchvision's training loop."""
    images = load_detection("shapes:photo:64", "train")
    config = DetectionConfig(steps=STEPS)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):
        ours += _steps(_on_backbone, images, config)
        theirs += _reference_steps(_on_backbone, images, config)
    yield cost(
        f"{ON_BACKBONE} on mobilenet_v2, plain step: torchvision's loop",
        Value("ours", "s", tuple(ours)),
        Value("torchvision's loop", "s", tuple(theirs)),
        at_most=1.1,
        note="the loop of its references, without its logger; the same detector, images and "
        "optimiser",
    )


def _reference_steps(build: Build, images: DetectionSet, config: DetectionConfig) -> list[float]:
    """Return seconds of each step but the first of `train_one_epoch` as torchvision has it."""
    model = build(images.classes).train()
    samples: Any = [
        (
            images.image(row).float() / 255,
            {"boxes": each.boxes, "labels": each.labels + 1},
        )
        for row, each in enumerate(images.truths)
    ]
    loader: Any = DataLoader(
        samples,
        config.batch_size,
        shuffle=True,
        collate_fn=lambda batch: tuple(zip(*batch, strict=True)),
    )
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay)
    times: list[float] = []
    while len(times) < config.steps:
        for pictures, targets in loader:
            losses = model.net(list(pictures), [dict(target) for target in targets])
            total = sum(losses.values())
            if not math.isfinite(total.item()):
                raise RuntimeError("torchvision's loop stops here")
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            times.append(time.perf_counter())
    return [later - earlier for earlier, later in pairwise(times[: config.steps])]


def _loading() -> Iterator[Record]:
    """Yield steps on augmented images that another process reads, in steps on images as stored."""
    images = load_detection("shapes:photo:64", "train")
    stored = DetectionConfig(steps=STEPS, augment=())
    read = replace(stored, augment=tuple(AUGMENTATIONS), loader_workers=1)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(ROUNDS):
        seconds[True] += _steps(_on_backbone, images, read)
        seconds[False] += _steps(_on_backbone, images, stored)
    yield cost(
        f"{ON_BACKBONE} on mobilenet_v2, step on images augmented by a loader",
        Value("with a loader", "s", tuple(seconds[True])),
        Value("on images as stored", "s", tuple(seconds[False])),
        at_most=WAITING,
        note="SSD's augmentations, one process beside the training",
    )


def _evaluation(found: list[Detections], truths: list[Truth]) -> Iterator[Record]:
    shown = f"{IMAGES:,} images with {DETECTIONS} detections each"
    (whole,) = timed(
        {"evaluation": lambda: evaluate(found, truths, tuple("abcdef"))}, rounds=3, warm_ups=0
    )
    yield alone(f"every figure of {shown}", whole, at_most=SECONDS)
    yield from versus(
        f"AP at IoU 0.5 of {shown}",
        lambda: _voc(found, truths),
        [
            Peer(
                "pycocotools",
                "pycocotools",
                lambda: prepare(found, truths, CLASSES, only_half=True),
            )
        ],
        _near,
        rounds=5,
        note="ours by VOC's rules, theirs by COCO's at this IoU and no other",
    )
    yield from versus(
        f"COCO's AP of {shown}",
        lambda: _coco(found, truths),
        [Peer("pycocotools", "pycocotools", lambda: prepare(found, truths, CLASSES))],
        _equal,
        rounds=5,
        note="ours runs pycocotools on lists in memory, theirs loads files of JSON",
    )


def _voc(found: list[Detections], truths: list[Truth]) -> list[float]:
    known = [each.ap_area for each in voc_precision(found, truths, CLASSES)]
    values = [value for value in known if value is not None]
    return [sum(values) / len(values)]


def _coco(found: list[Detections], truths: list[Truth]) -> list[float]:
    precision = coco_precision(found, truths, CLASSES)
    values: list[Any] = [precision.ap, precision.ap50, precision.ap75]
    return values


def _near(ours: list[float], theirs: list[float]) -> Agreement:
    same = abs(ours[0] - theirs[0]) <= APART
    return Agreement(same, f"AP {ours[0]:.4f} and {theirs[0]:.4f} (may differ by {APART})")


def _equal(ours: list[float], theirs: list[float]) -> Agreement:
    apart = max(abs(one - other) for one, other in zip(ours, theirs, strict=True))
    return Agreement(apart <= 1e-6, f"AP, AP50 and AP75 differ by {apart:.1g} at most")


def _steps(build: Build, images: DetectionSet, config: DetectionConfig) -> list[float]:
    """Return seconds of each step but the first, which builds things."""
    times: list[float] = []

    def keep(_: StepRecord) -> None:
        times.append(time.perf_counter())

    train_detector(build(images.classes), images, config, on_step=keep)
    return [later - earlier for earlier, later in pairwise(times)]


def _many() -> tuple[list[Detections], list[Truth]]:
    generator = torch.Generator().manual_seed(0)
    found, truths = [], []
    for _ in range(IMAGES):
        corners = torch.rand(DETECTIONS, 2, generator=generator) * 90
        sides = 8 + torch.rand(DETECTIONS, 2, generator=generator) * 30
        boxes = torch.cat([corners, corners + sides], dim=1)
        labels = torch.randint(CLASSES, (DETECTIONS,), generator=generator)
        scores = torch.rand(DETECTIONS, generator=generator).sort(descending=True).values
        found.append(Detections(boxes, scores, labels))
        truths.append(truth(boxes[:3] + 1, labels[:3]))
    return found, truths
