"""The work of the study as jobs: train a small net, count the paths that win, cover regions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.studies.base import Plan, Results
from experiments.studies.filter_contribution.result import Paths, Regions, Trained
from robustkit import data, explain, models, training
from robustkit.attacks import predict
from robustkit.cli.models import resolve_net
from robustkit.data import ImageSet, Splits
from robustkit.models import Classifier
from robustkit.report import house_style
from robustkit.runs import atomic_path

RED, BLUE = "#c0392b", "#2e6fb7"


def draw_paths(
    model: Classifier, images: ImageSet, winners: list[list[list[int]]], file: Path
) -> None:
    """A row for each class: an image, conv1's filters, and the map of every path (i,j) of it.

    Framed red and blue: the two paths that win most often for the class.
    """
    from matplotlib.figure import Figure

    first, second = (_conv(model, name) for name in ("net.stage1.0", "net.stage2.0"))
    count, other = first.weight.shape[0], second.weight.shape[0]
    with house_style():
        rows, columns = len(winners), 1 + count + count * other
        drawing = Figure(figsize=(0.8 * columns, 0.85 * rows), layout="constrained")
        places: Any = drawing.subplots(rows, columns)
        for number in range(rows):
            chosen = int(torch.nonzero(images.labels == number)[0])
            a1, maps = _maps(model, images, chosen)
            order = np.argsort(-np.array(winners[number]).ravel(), kind="stable")
            _show(places[number, 0], images.images[chosen, 0].float())
            for i in range(count):
                _show(places[number, 1 + i], a1[i])
                for j in range(other):
                    place = places[number, 1 + count + i * other + j]
                    _show(place, maps[i, j], signed=True)
                    for colour, best in ((RED, order[0]), (BLUE, order[1])):
                        if best == i * other + j:
                            _frame(place, colour)
                    if number == 0:
                        place.set_title(f"{i + 1}→{j + 1}", fontsize=8)
            if number == 0:
                for i in range(count):
                    places[0, 1 + i].set_title(f"filter {i + 1}", fontsize=8)
        _save(drawing, file)


def draw_regions(rates: Tensor, splits: Splits, file: Path) -> None:
    """For each class (K,rows,columns) how often covering a region flips the answer."""
    from matplotlib.figure import Figure

    with house_style():
        drawing = Figure(figsize=(9, 3.9), layout="constrained")
        top = float(rates.max()) or 1.0
        places = drawing.subplots(2, -(-len(rates) // 2)).ravel()
        for number, place in enumerate(places):
            place.set_axis_off()
            if number < len(rates):
                shown = place.imshow(rates[number].numpy(), cmap="magma", vmin=0, vmax=top)
                place.set_title(splits.test.classes[number], fontsize=9)
        drawing.colorbar(shown, ax=list(places), label="share of images flipped", shrink=0.8)
        _save(drawing, file)


def _maps(model: Classifier, images: ImageSet, chosen: int) -> tuple[Tensor, Tensor]:
    """What the second convolution sees (I,h,w), and what each path adds to it (I,J,h',w')."""
    second = _conv(model, "net.stage2.0")
    with torch.no_grad():
        x = model.preprocess(images.floats(torch.tensor([chosen])))
        a1 = model.net.get_submodule("stage1")(x)
        parts = [
            F.conv2d(a1[:, i : i + 1], second.weight[:, i : i + 1])[0] for i in range(a1.shape[1])
        ]
    return a1[0], torch.stack(parts)


def _conv(model: Classifier, name: str) -> torch.nn.Conv2d:
    module = model.get_submodule(name)
    assert isinstance(module, torch.nn.Conv2d)
    return module


def _show(place: Any, values: Tensor, *, signed: bool = False) -> None:
    size = float(values.abs().max()) or 1.0
    if signed:
        place.imshow(values.numpy(), cmap="bwr", vmin=-size, vmax=size)
    else:
        place.imshow(values.numpy(), cmap="gray")
    place.set_xticks([])
    place.set_yticks([])
    for side in place.spines.values():
        side.set_visible(False)


def _frame(place: Any, colour: str) -> None:
    for side in place.spines.values():
        side.set_visible(True)
        side.set_color(colour)
        side.set_linewidth(2.5)


def _save(drawing: Any, file: Path) -> None:
    with atomic_path(file) as temporary:
        drawing.savefig(temporary, format="png", dpi=90)


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


SOURCE = "Suzuki, Meng, Yamazaki (in Japanese)"
CHOSEN, SEEDS = 3, 3
EPOCHS = {"smoke": 3, "small": 20, "paper": 185}  # 540 steps each; the publication made 100,000
ONLY_SMALL = ("20 epochs, some 11,000 steps, in the place of 100,000.",)
DEVIATIONS = (
    "The rate, not published, falls to 0.",
    "54,000 of the 60,000 training images; 6,000 are kept for validation.",
)


def trainings_of(plan: Plan, filters: int) -> list[TrainNet]:
    """Trainings with so many filters a layer, one a seed, each with a file of its own."""
    data, seeds = ("digits", 1) if plan.smoke else ("mnist", SEEDS)
    return [
        TrainNet(
            f"train/{filters}/{number}",
            str(plan.folder / f"cnn3-{filters}-{number}.safetensors"),
            data,
            filters,
            EPOCHS[plan.scale],
            number,
        )
        for number in range(plan.seed, plan.seed + seeds)
    ]


def by_parts(study: str, results: Results) -> dict[str, Any]:
    """Results by the parts of their ids: `train/3/0` under `train`, `3`, `0`."""
    found: dict[str, Any] = {"study": study}
    for name, result in results.items():
        *parts, last = name.split("/")
        place = found
        for part in parts:
            place = place.setdefault(part, {})
        place[last] = result
    return found
