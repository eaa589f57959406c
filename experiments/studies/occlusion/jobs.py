"""The job of the study, which covers regions of test images; its result, and the summary of all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from msgspec import Meta, field
from torch import Tensor

from experiments.studies.base import StudyJob, StudySummary
from experiments.studies.filter_contribution.jobs import Seeds, of_class, save_figure
from robustkit import data, explain, models
from robustkit.attacks import correct
from robustkit.data import Splits
from robustkit.errors import RunError
from robustkit.report import chart
from robustkit.runs.summaries import Count, Digits, MeanShare, Result


class Regions(Result, frozen=True, kw_only=True):
    """The share that a region flips, by class, and the regions covered until a flip."""

    regions: Count
    per_class: Count
    flipped_by_one: list[MeanShare | None]
    covered_to_flip: list[list[Count]]
    never_flipped: list[Count] = field(default_factory=list)
    flip_rate: list[list[list[MeanShare]]] = field(default_factory=list)  # by class and region


class Summary(StudySummary, frozen=True, kw_only=True):
    """Regions by seed; the trainings by number of filters and seed."""

    train: dict[Digits, Seeds] = field(default_factory=dict)
    regions: Annotated[dict[str, Regions], Meta(min_length=1)]


def check(summary: Summary, where: str) -> None:
    """Raise `RunError` where no image of a training was right."""
    for seed, regions in summary.regions.items():
        if all(share is None for share in regions.flipped_by_one):
            raise RunError(f"{where}: regions.{seed}.flipped_by_one: no share of any class")


@dataclass(frozen=True)
class CoverRegions(StudyJob):
    """Of `per_class` test images of each class, which regions flip the answer when covered."""

    path: str
    data: str
    per_class: int
    region: int
    greedy: int
    seed: int

    kind = Regions

    def run(self) -> Regions:
        """Return the share of images that any region flips, by class, and regions to a flip."""
        model, splits = models.load(Path(self.path)).eval(), data.load(self.data)
        flips: list[float | None] = []
        covered: list[list[int]] = []
        maps: list[Tensor] = []
        never: list[int] = []
        sides = splits.test.shape[1:]
        for number in range(splits.test.num_classes):
            images = of_class(splits.test, number, self.per_class)
            pixels = images.floats()[correct(model, images)]
            if not len(pixels):
                rows, columns = (-(-side // self.region) for side in sides)
                maps.append(torch.zeros(rows, columns, dtype=torch.float64))
                flips.append(None)
                covered.append([])
                never.append(0)
                continue
            steps_by_image = explain.occlusion(model, pixels, number, region=self.region)
            flips.append(float(steps_by_image.flipped.any(dim=1).double().mean()))
            maps.append(steps_by_image.important.double().mean(dim=0))
            steps = explain.greedy_occlusion(
                model, pixels[: self.greedy], number, region=self.region
            )
            covered.append([len(step.regions) for step in steps if step.flipped])
            never.append(sum(not step.flipped for step in steps))
        draw_regions(torch.stack(maps), splits, Path(self.path).with_suffix(".regions.png"))
        return Regions(
            regions=int(maps[0].numel()),
            per_class=self.per_class,
            flipped_by_one=flips,
            covered_to_flip=covered,
            never_flipped=never,
            flip_rate=[flips.tolist() for flips in maps],
        )


def draw_regions(rates: Tensor, splits: Splits, file: Path) -> None:
    """Draw, for each class (K,rows,columns), how often covering a region flips the prediction."""
    with chart(9, 3.9) as drawing:
        top = float(rates.max()) or 1.0
        axes = drawing.subplots(2, -(-len(rates) // 2)).ravel()
        for number, axis in enumerate(axes):
            axis.set_axis_off()
            if number < len(rates):
                shown = axis.imshow(rates[number].numpy(), cmap="magma", vmin=0, vmax=top)
                axis.set_title(splits.test.classes[number], fontsize=9)
        drawing.colorbar(shown, ax=list(axes), label="share of images flipped", shrink=0.8)
        save_figure(drawing, file)
