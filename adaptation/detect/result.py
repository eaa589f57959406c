"""The summary of a detector's evaluation."""

from __future__ import annotations

from msgspec import UNSET, UnsetType, field

from adaptation.evaluation.evaluate import DetectorEvaluation
from robustkit.errors import RunError
from robustkit.runs import RunFolder
from robustkit.runs.summaries import Count, MeanShare, Result, check_has, read_summary, shown


class Evaluated(DetectorEvaluation, frozen=True, kw_only=True):
    """One detector: its precisions, and AP50 by area under attack, by the radius as text."""

    robust_ap50: dict[str, MeanShare | None]
    attacked_images: Count
    notes: list[str] = field(default_factory=list)


class Summary(Result, frozen=True, kw_only=True):
    """The detector, another one for contrast, and the data's classes that it does not know."""

    images: Count
    classes: list[str] = field(default_factory=list)
    detector: Evaluated
    contrast: Evaluated | UnsetType = UNSET
    left_out: list[str] = field(default_factory=list)

    @property
    def models(self) -> dict[str, Evaluated]:
        """Return the detectors by their names in the report."""
        models = {"detector": self.detector}
        return models if self.contrast is UNSET else {**models, "contrast": self.contrast}


def summary_of(folder: RunFolder) -> Summary:
    """Return the summary of a finished evaluation.

    Raises `RunError`, naming the file and the entry, where that was edited so that it cannot be
    drawn.
    """
    summary = read_summary(folder, Summary)
    where, first = str(folder.file("summary.json")), summary.detector
    for eps in first.robust_ap50:
        try:
            valid = 0 <= float(eps) <= 1
        except ValueError:
            valid = False
        if not valid:
            raise RunError(f"{where}: detector.robust_ap50: {shown(eps)} is no radius in [0,1]")
    if summary.contrast is not UNSET:
        contrast = summary.contrast
        check_has(contrast.robust_ap50, first.robust_ap50, f"{where}: contrast.robust_ap50")
        check_has(contrast.classes, first.classes, f"{where}: contrast.classes")
    return summary
