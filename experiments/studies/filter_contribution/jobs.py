"""The jobs of the study, which train a small net and count paths; results, and their summary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from msgspec import Meta, field
from torch import Tensor

from experiments.studies.base import Plan, StudyJob, StudySummary
from experiments.studies.measures import accuracy
from robustkit import data, explain, models, training
from robustkit.cli.models import resolve_net
from robustkit.data import ImageSet
from robustkit.errors import RunError
from robustkit.models import Classifier
from robustkit.report import chart
from robustkit.runs import atomic_path
from robustkit.runs.summaries import Amount, Count, Digits, MeanShare, Result, check_alike

SOURCE = "Suzuki, Meng, Yamazaki (in Japanese)"
CHOSEN, SEEDS = 3, 3
EPOCHS = {"smoke": 3, "small": 20, "paper": 185}  # 540 steps each; the publication made 100,000
SMALL_DEVIATIONS = ("20 epochs, some 11,000 steps, in the place of 100,000.",)
DEVIATIONS = (
    "The rate, not published, falls to 0.",
    "54,000 of the 60,000 training images; 6,000 are kept for validation.",
)
FIRST, SECOND = "net.stage1.2", "net.stage2.0"  # maps that the second convolution sees, its output
BATCH = 500
RED, BLUE = "#c0392b", "#2e6fb7"


class Trained(Result, frozen=True, kw_only=True):
    """A training: its size, and its accuracy on n test images."""

    filters: Count
    parameters: Count
    test_acc: MeanShare
    n: Count


Table = Annotated[list[Annotated[list[Count], Meta(min_length=2)]], Meta(min_length=2)]


class Paths(Result, frozen=True, kw_only=True):
    """Counts of winning and of second paths by class (K,I,J)."""

    per_class: Count
    winners: Annotated[list[Table], Meta(min_length=1)]
    seconds: list[Table]
    share_of_first: list[MeanShare]
    residual_max: Amount


Seeds = Annotated[dict[str, Trained], Meta(min_length=1)]


class Summary(StudySummary, frozen=True, kw_only=True):
    """Trainings by number of filters and seed, paths by seed."""

    train: dict[Digits, Seeds]
    paths: dict[str, Paths] = field(default_factory=dict)


def check(summary: Summary, where: str, chosen: int) -> None:
    """Raise `RunError` without the net of `chosen` filters, and where tables do not fit."""
    if str(chosen) not in summary.train:
        raise RunError(f"{where}: train: '{chosen}' is missing")
    for seed, paths in summary.paths.items():
        check_paths(paths, f"{where}: paths.{seed}")


def check_paths(paths: Paths, where: str) -> None:
    """Raise `RunError` where the tables of a training are not all of one size."""
    winners, seconds = paths.winners, paths.seconds
    check_alike(winners, seconds, where, "classes in winners and seconds")
    check_alike(winners, paths.share_of_first, where, "classes in winners and share_of_first")
    tables: list[list[list[int]]] = [*winners, *seconds]
    sizes = {len(table) for table in tables} | {len(row) for table in tables for row in table}
    if len(sizes) > 1:
        raise RunError(f"{where}: winners and seconds are not all squares of one size")


@dataclass(frozen=True)
class TrainNet(StudyJob):
    """Train `cnn3` with this many filters in each of its two layers; the model goes to `path`."""

    path: str
    data: str
    filters: int
    epochs: int
    seed: int

    kind = Trained

    def run(self) -> Trained:
        """Train with Adam, batches of 100, as published; the rate falls to 0 over the epochs."""
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
        return Trained(
            filters=self.filters,
            parameters=sum(parameter.numel() for parameter in net.parameters()),
            test_acc=accuracy(net, splits.test),
            n=len(splits.test),
        )


@dataclass(frozen=True)
class CountPaths(StudyJob):
    """Over `per_class` training images of each class, which pair of filters contributes most."""

    path: str
    data: str
    per_class: int
    seed: int

    kind = Paths

    def run(self) -> Paths:
        """Return counts of winning and of second paths (K,I,J), and by how much P misses
        the score.
        """
        model, splits = models.load(Path(self.path)).eval(), data.load(self.data)
        winners, seconds, shares, missed = [], [], [], 0.0
        for number in range(splits.train.num_classes):
            images = of_class(splits.train, number, self.per_class)
            values, residual = _paths(model, images, number)
            first, second = (_counts(values, rank) for rank in (0, 1))
            winners.append(first.tolist())
            seconds.append(second.tolist())
            shares.append(float(first.max()) / len(values))
            missed = max(missed, residual)
        draw_paths(model, splits.train, winners, Path(self.path).with_suffix(".paths.png"))
        return Paths(
            per_class=self.per_class,
            winners=winners,
            seconds=seconds,
            share_of_first=shares,
            residual_max=missed,
        )


def of_class(images: ImageSet, number: int, count: int) -> ImageSet:
    """Return the first `count` images of a class; all where there are fewer."""
    return images.subset(torch.nonzero(images.labels == number).squeeze(1)[:count])


def _paths(model: Classifier, images: ImageSet, target: int) -> tuple[Tensor, float]:
    values, missed = [], 0.0
    for rows in data.batches(len(images), BATCH):
        with explain.trace(model, images.floats(rows), target, (FIRST, SECOND)) as trace:
            contributions = explain.filter_paths(trace, FIRST, SECOND)
        values.append(contributions.values)
        off = trace.score - contributions.values.flatten(1).sum(dim=1) - contributions.biases
        missed = max(missed, float(off.abs().max()))
    return torch.cat(values), missed


def _counts(values: Tensor, rank: int) -> Tensor:
    """Return how often each pair of filters is in this place: int64 (I,J) of values (N,I,J)."""
    order = torch.sort(values.flatten(1), dim=1, descending=True, stable=True).indices
    return torch.bincount(order[:, rank], minlength=values[0].numel()).view(values.shape[1:])


def trainings_of(plan: Plan, filters: int) -> list[TrainNet]:
    """Return trainings with so many filters a layer, one a seed, each with a file of its own."""
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


def draw_paths(
    model: Classifier, images: ImageSet, winners: list[list[list[int]]], file: Path
) -> None:
    """Draw, for each class, an image, conv1's filters, and the map of every path (i,j).

    Framed red and blue: the two paths that win most often for the class.
    """
    first, second = (_conv(model, name) for name in ("net.stage1.0", "net.stage2.0"))
    count, second_count = first.weight.shape[0], second.weight.shape[0]
    rows, columns = len(winners), 1 + count + count * second_count
    with chart(0.8 * columns, 0.85 * rows) as drawing:
        axes: Any = drawing.subplots(rows, columns)
        for number in range(rows):
            chosen = int(torch.nonzero(images.labels == number)[0])
            a1, maps = _maps(model, images, chosen)
            order = np.argsort(-np.array(winners[number]).ravel(), kind="stable")
            _show(axes[number, 0], images.images[chosen, 0].float())
            for i in range(count):
                _show(axes[number, 1 + i], a1[i])
                for j in range(second_count):
                    axis = axes[number, 1 + count + i * second_count + j]
                    _show(axis, maps[i, j], signed=True)
                    for colour, best in ((RED, order[0]), (BLUE, order[1])):
                        if best == i * second_count + j:
                            _frame(axis, colour)
                    if number == 0:
                        axis.set_title(f"{i + 1}→{j + 1}", fontsize=8)
            if number == 0:
                for i in range(count):
                    axes[0, 1 + i].set_title(f"filter {i + 1}", fontsize=8)
        save_figure(drawing, file)


def _maps(model: Classifier, images: ImageSet, chosen: int) -> tuple[Tensor, Tensor]:
    """Return the second convolution's input (I,h,w), and what each path adds to it (I,J,h',w')."""
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


def _show(axis: Any, values: Tensor, *, signed: bool = False) -> None:
    size = float(values.abs().max()) or 1.0
    if signed:
        axis.imshow(values.numpy(), cmap="bwr", vmin=-size, vmax=size)
    else:
        axis.imshow(values.numpy(), cmap="gray")
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_visible(False)


def _frame(axis: Any, colour: str) -> None:
    for side in axis.spines.values():
        side.set_visible(True)
        side.set_color(colour)
        side.set_linewidth(2.5)


def save_figure(drawing: Any, file: Path) -> None:
    """Write a figure of matplotlib to `file` as a PNG, whole or not at all."""
    with atomic_path(file) as temporary:
        drawing.savefig(temporary, format="png", dpi=90)
