"""The work of the study as jobs: train a small net, count the paths that win, cover regions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from experiments.nets import resolve_net
from experiments.reproduce.filters.pictures import draw_paths, draw_regions
from experiments.reproduce.filters.result import Paths, Regions, Trained
from robustkit import data, explain, models, training
from robustkit.attacks import predict
from robustkit.data import ImageSet
from robustkit.models import Classifier

FIRST, SECOND = "net.stage1.2", "net.stage2.0"  # maps that the second convolution sees, its output
BATCH = 500


@dataclass(frozen=True)
class TrainNet:
    """Train `cnn3` with this many filters in each of its two layers; the model goes to `path`."""

    id: str
    path: str
    data: str
    filters: int
    epochs: int
    seed: int
    timeout: float | None = None

    kind: ClassVar[Any] = Trained

    def run(self) -> dict[str, Any]:
        """Adam, batches of 100, as published; the rate falls to 0 over the epochs."""
        splits = data.load(self.data)
        net = resolve_net(f"cnn3?filters={self.filters}", splits, seed=self.seed)
        config = training.TrainConfig(
            epochs=self.epochs,
            optimizer="adam",
            lr=0.005,
            batch_size=100,
            weight_decay=0.0,
            warmup=0.0,
            seed=self.seed,
        )
        training.fit(net, splits, config)
        models.save(net, Path(self.path))
        right = predict(net, splits.test.images).argmax(dim=1) == splits.test.labels
        return {
            "filters": self.filters,
            "parameters": sum(each.numel() for each in net.parameters()),
            "test_acc": float(right.double().mean()),
            "n": len(right),
        }


@dataclass(frozen=True)
class CountPaths:
    """Over `per_class` training images of each class, which pair of filters contributes most."""

    id: str
    path: str
    data: str
    per_class: int
    seed: int
    timeout: float | None = None

    kind: ClassVar[Any] = Paths

    def run(self) -> dict[str, Any]:
        """Counts of winning and of second paths (K,I,J), and by how much P misses the score."""
        model, splits = models.load(Path(self.path)).eval(), data.load(self.data)
        winners, seconds, shares, missed = [], [], [], 0.0
        for number in range(splits.train.num_classes):
            images = of_class(splits.train, number, self.per_class)
            values, residual = _paths(model, images, number)
            first, second = (_counts(values, place) for place in (0, 1))
            winners.append(first.tolist())
            seconds.append(second.tolist())
            shares.append(float(first.max()) / len(values))
            missed = max(missed, residual)
        draw_paths(model, splits.train, winners, Path(self.path).with_suffix(".paths.png"))
        return {
            "per_class": self.per_class,
            "winners": winners,
            "seconds": seconds,
            "share_of_first": shares,
            "residual_max": missed,
        }


@dataclass(frozen=True)
class CoverRegions:
    """Of `per_class` test images of each class, which regions flip the answer when covered."""

    id: str
    path: str
    data: str
    per_class: int
    region: int
    greedy: int
    seed: int
    timeout: float | None = None

    kind: ClassVar[Any] = Regions

    def run(self) -> dict[str, Any]:
        """Share of images that any region flips, by class; regions covered greedily to a flip."""
        model, splits = models.load(Path(self.path)).eval(), data.load(self.data)
        flips: list[float | None] = []
        covered: list[list[int]] = []
        maps: list[Tensor] = []
        never: list[int] = []
        sides = splits.test.shape[1:]
        for number in range(splits.test.num_classes):
            images = of_class(splits.test, number, self.per_class)
            right = predict(model, images.images).argmax(dim=1) == images.labels
            pixels = images.floats()[right]
            if not len(pixels):
                rows, columns = (-(-side // self.region) for side in sides)
                maps.append(torch.zeros(rows, columns, dtype=torch.float64))
                flips.append(None)
                covered.append([])
                never.append(0)
                continue
            found = explain.occlusion(model, pixels, number, region=self.region)
            flips.append(float(found.flipped.any(dim=1).double().mean()))
            maps.append(found.important.double().mean(dim=0))
            steps = explain.greedy_occlusion(
                model, pixels[: self.greedy], number, region=self.region
            )
            covered.append([len(each.regions) for each in steps if each.flipped])
            never.append(sum(not each.flipped for each in steps))
        draw_regions(torch.stack(maps), splits, Path(self.path).with_suffix(".regions.png"))
        return {
            "regions": int(maps[0].numel()),
            "per_class": self.per_class,
            "flipped_by_one": flips,
            "covered_to_flip": covered,
            "never_flipped": never,
            "flip_rate": [each.tolist() for each in maps],
        }


def of_class(images: ImageSet, number: int, count: int) -> ImageSet:
    """The first `count` images of a class; all where there are fewer."""
    return images.subset(torch.nonzero(images.labels == number).squeeze(1)[:count])


def _paths(model: Classifier, images: ImageSet, target: int) -> tuple[Tensor, float]:
    values, missed = [], 0.0
    for rows in data.batches(len(images), BATCH):
        with explain.trace(model, images.floats(rows), target, (FIRST, SECOND)) as trace:
            found = explain.filter_paths(trace, FIRST, SECOND)
        values.append(found.values)
        off = trace.score - found.values.flatten(1).sum(dim=1) - found.biases
        missed = max(missed, float(off.abs().max()))
    return torch.cat(values), missed


def _counts(values: Tensor, place: int) -> Tensor:
    """How often each pair of filters is in this place: int64 (I,J) of values (N,I,J)."""
    order = torch.sort(values.flatten(1), dim=1, descending=True, stable=True).indices
    return torch.bincount(order[:, place], minlength=values[0].numel()).view(values.shape[1:])
