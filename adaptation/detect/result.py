"""The summary of a detector's evaluation, as its readers know it."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from robustkit.errors import RunError
from robustkit.runs import RunFolder
from robustkit.runs.summaries import Amount, Count, MeanShare, check_has, read_summary, shown


class OfClass(TypedDict):
    """Precision of one class; None without objects."""

    ap50_area: MeanShare | None
    coco_ap: MeanShare | None
    objects: Count


class BySize(TypedDict):
    """A precision by the size of objects."""

    small: MeanShare | None
    medium: MeanShare | None
    large: MeanShare | None


class Sizes(TypedDict):
    """The sides, in pixels, that tell sizes apart, and precision by size."""

    edges: tuple[Amount, Amount]
    ap50_area: BySize


class Evaluated(TypedDict):
    """One detector: means over classes, each class, each size, and each radius of attacks."""

    ap50_11pt: MeanShare | None
    ap50_area: MeanShare | None
    coco_ap: MeanShare | None
    coco_ap50: MeanShare | None
    coco_ap75: MeanShare | None
    with_difficult: MeanShare | None
    objects: Count
    classes: dict[str, OfClass]
    sizes: Sizes
    robust_ap50: dict[str, MeanShare | None]
    attacked_images: Count
    notes: NotRequired[list[str]]


class Summary(TypedDict):
    """The detector, and another one beside it."""

    images: Count
    detector: Evaluated
    contrast: NotRequired[Evaluated]
    left_out: NotRequired[list[str]]


def summary_of(folder: RunFolder) -> Summary:
    """Return the summary of a finished evaluation.

    Raises `RunError`, naming the file and the entry, where that was edited so that it cannot be
    drawn.
    """
    summary = read_summary(folder, Summary)
    where, first = str(folder.file("summary.json")), summary["detector"]
    for eps in first["robust_ap50"]:
        try:
            known = 0 <= float(eps) <= 1
        except ValueError:
            known = False
        if not known:
            raise RunError(f"{where}: detector.robust_ap50: {shown(eps)} is no radius in [0,1]")
    if "contrast" in summary:
        other = summary["contrast"]
        check_has(other["robust_ap50"], first["robust_ap50"], f"{where}: contrast.robust_ap50")
        check_has(other["classes"], first["classes"], f"{where}: contrast.classes")
    return summary
