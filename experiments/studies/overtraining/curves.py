"""Curves over the training: one SVG of losses and errors, one of the maps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from experiments.studies.overtraining.jobs import Arm, Summary
from robustkit.report import PALETTE, chart, label, svg

MAPS = ("saliency", "deconvnet", "guided", "guided-minus", "gradcam", "guided-gradcam")
GROUPS = ("A", "B", "C")
PARTS = ("train", "test")


@dataclass(frozen=True)
class Row:
    """A row of curves: their unit, and by name where each is in a checkpoint's entry of `kind`."""

    unit: str
    kind: Literal["train", "maps"]
    curves: Mapping[str, Sequence[str]]


TRAINING = (
    Row("error", "train", {part: (part, "error") for part in PARTS}),
    Row("loss", "train", {part: (part, "loss") for part in PARTS}),
    Row("last layer's norm", "train", {"norm": ("last_layer_norm",)}),
)
ANSWERS = (
    Row("probability of the class", "maps", {group: (group, "p_class") for group in GROUPS}),
    Row("entropy, nats", "maps", {group: (group, "entropy") for group in GROUPS}),
)
LIKENESS = (
    Row("Spearman, images A", "maps", {kind: ("A", "maps", kind, "spearman") for kind in MAPS}),
    Row("SSIM, images A", "maps", {kind: ("A", "maps", kind, "ssim") for kind in MAPS}),
)
DRAWINGS = {"training": TRAINING, "answers": ANSWERS, "likeness": LIKENESS}


def figures(summary: Summary) -> Iterator[tuple[str, str]]:
    """Yield `training.svg`, `answers.svg` and `likeness.svg`, a column for each arm."""
    for name, rows in DRAWINGS.items():
        yield f"{name}.svg", _drawn(summary.arms, rows, f"{name} over checkpoints")


def _drawn(arms: Mapping[str, Arm], rows: Sequence[Row], alt: str) -> str:
    with chart(4.4 * len(arms), 2.2 * len(rows) + 0.4) as drawing:
        axes: Any = drawing.subplots(len(rows), len(arms), squeeze=False, sharex=True)
        for line, row in zip(axes, rows, strict=True):
            for axis, result in zip(line, arms.values(), strict=True):
                entries: Mapping[str, Any] = getattr(result, row.kind)
                numbers = sorted(entries, key=int)
                for colour, (name, path) in zip(PALETTE, row.curves.items(), strict=False):
                    heights = [_at(entries[number], path) for number in numbers]
                    axis.plot(list(map(int, numbers)), heights, label=name, color=colour, lw=1)
                axis.axvline(result.choice.reference, color="0.6", linestyle=":", lw=1)
            line[0].set_ylabel(row.unit)
            if len(row.curves) > 1:
                line[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        for axis, name in zip(axes[0], arms, strict=True):
            axis.set_title(label(name))
        for axis in axes[-1]:
            axis.set_xlabel("checkpoint; dotted: the reference")
        return str(svg(drawing, alt=alt))


def _at(entry: Any, path: Sequence[str]) -> float:
    """Return the value at `path` through structs and dictionaries, NaN where there is none."""
    for name in path:
        entry = entry.get(name) if isinstance(entry, dict) else getattr(entry, name, None)
    return math.nan if entry is None else float(entry)
