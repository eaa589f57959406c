"""Repair: an iteration of a swarm beside plain forward passes, a whole repair, and its memory."""

from __future__ import annotations

import copy
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F

from experiments.benchmarks.record import Record, Value, alone, amount, speedup
from experiments.benchmarks.timing import in_fresh_process, timed
from robustkit import data, models, training
from robustkit.attacks import predict
from robustkit.data import ImageSet, Splits
from robustkit.repair import HISTORY, Selection, make_scorer, preset, repair, repairable, select
from robustkit.repair.search import siblings_of

PARTICLES, IMAGES = 100, 1000
NAIVE = 3  # particles of the plain forward, whose time is taken times 100 / 3
LEAST = {80: 500.0, 300: 100.0}
SECONDS = 60.0
# Stated bound of what a whole repair adds to a process that has once predicted the same images:
# activations at the cut, the chunk in work, all scores.
MANY, MEBIBYTES = 10_000, 100.0


def records() -> Iterator[Record]:
    """Yield digits at 3x32x32, where `cnn6_2` has the weights of its paper."""
    splits = _coloured()
    with TemporaryDirectory() as folder:
        previous, net = _trained(splits, Path(folder))
    images = splits.train.subset(torch.arange(IMAGES))
    for count, least in LEAST.items():
        yield from _iteration(net, images, count, least)
    # So few failures that the default N_g may choose nothing.
    config = replace(HISTORY, on_empty="grow")
    found: list[int] = []

    def whole() -> None:
        fixed = repair(net, config, splits.train, splits.test, previous=previous)
        found.append(fixed.result.iterations)

    # A repair is what it is in its first run as well: nothing has to warm up.
    (seconds,) = timed({"a repair": whole}, rounds=3, warm_ups=0)
    yield alone(
        "a whole history repair of cnn6_2 on one core",
        seconds,
        at_most=SECONDS,
        note=f"{len(splits.train):,} images, {found[-1]} iterations",
    )
    before, added = in_fresh_process(memory_of_repair)
    yield alone(
        f"memory that a history repair on {MANY:,} images adds to predicting them",
        Value("added to the peak", "bytes", (float(added),)),
        at_most=MEBIBYTES * 2**20,
        note=f"the peak of predicting them is {amount(before, 'bytes')}",
    )


def memory_of_repair() -> tuple[int, int]:
    """Return the peak of predictions in bytes, and what a repair adds; for a process of its own."""
    # Never larger than it stays: a higher peak before would hide what the repair adds.
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (MANY, 3, 32, 32), generator=generator, dtype=torch.uint8)
    images = ImageSet(pixels, torch.arange(MANY) % 10, tuple(map(str, range(10))))
    nets = [_fresh(seed) for seed in (0, 1)]
    predict(nets[0], images.images)
    before = _peak()
    repair(nets[0], HISTORY, images, previous=nets[1], swarm=preset("constricted", iterations=5))
    return before, _peak() - before


def _iteration(
    net: models.Classifier, images: ImageSet, count: int, least: float
) -> Iterator[Record]:
    selection = _some(net, count)
    current = selection.values(net)
    noise = torch.randn(PARTICLES, len(current), generator=torch.Generator().manual_seed(0))
    places = current + siblings_of(net, selection).std * noise
    scorer = make_scorer(net, images, selection)

    def naive() -> None:
        for place in places[:NAIVE]:
            changed = copy.deepcopy(net)
            for name, values in selection.split(place).items():
                weight = changed.net.get_submodule(name).weight
                assert isinstance(weight, torch.Tensor)
                weight.data.view(-1)[selection.indices[name]] = values
            predict(changed, images.images)

    fast, few = timed({f"ours, by {scorer.way}": lambda: scorer.score(places), "": naive}, rounds=5)
    slow = Value(
        f"plain forwards, {NAIVE} taken times {PARTICLES}/{NAIVE}",
        "s",
        tuple(PARTICLES / NAIVE * seconds for seconds in few.values),
    )
    yield speedup(
        f"{PARTICLES} particles, {count} weights, {IMAGES:,} images: plain forwards",
        fast,
        slow,
        at_least=least,
    )


def _some(net: models.Classifier, count: int) -> Selection:
    """Return `count` weights of all fully connected layers, as many of each, drawn at random."""
    layers = repairable(net)
    generator = torch.Generator().manual_seed(0)
    masks = {
        name: torch.zeros_like(layer.weight, dtype=torch.bool) for name, layer in layers.items()
    }
    for mask in masks.values():
        drawn = torch.randperm(mask.numel(), generator=generator)[: count // len(masks)]
        mask.view(-1)[drawn] = True
    return select(masks)


def _trained(splits: Splits, folder: Path) -> tuple[models.Classifier, models.Classifier]:
    """Return the last two checkpoints of a training that is far from done."""
    mean, std = data.channel_stats(splits.train)
    net = _fresh(0, mean=mean, std=std)
    config = training.TrainConfig(
        epochs=4, lr=0.01, batch_size=32, schedule="constant", warmup=0, weight_decay=0, seed=0
    )
    training.fit(net, splits, config, checkpoint_dir=folder)
    before, last = (models.load(folder / f"epoch_{epoch:04}.safetensors") for epoch in (3, 4))
    return before, last


def _fresh(
    seed: int, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None
) -> models.Classifier:
    return models.build(
        "cnn6_2", num_classes=10, in_channels=3, image_size=32, mean=mean, std=std, seed=seed
    )


def _coloured() -> Splits:
    splits = data.load("digits")

    def enlarged(images: ImageSet) -> ImageSet:
        pixels = F.interpolate(images.images.float(), size=32, mode="bilinear")
        return ImageSet(pixels.round().byte().repeat(1, 3, 1, 1), images.labels, images.classes)

    train, val, test = (enlarged(part) for part in (splits.train, splits.val, splits.test))
    return Splits(train, val, test, name="digits at 3x32x32")


def _peak() -> int:
    """Return the most memory that this process has held so far, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
