"""The summary of the study of misaligned gradients."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from experiments.studies.base import StudySummary
from robustkit.errors import RunError
from robustkit.runs.summaries import (
    Count,
    Difference,
    MeanShare,
    Result,
    check_has,
)
from robustkit.stats import Gap, Mean, Rate

Kind = Literal["gradient", "gradcam"]
KINDS: tuple[Kind, ...] = ("gradient", "gradcam")  # of maps


class Moved(Result, frozen=True, kw_only=True):
    """Transfer over the images that every net gets right."""

    headline: Rate


class Net(Result, frozen=True, kw_only=True, rename={"transfer": "transfer_from_R"}):
    """One net, means over its trainings; R itself has no transfer from R."""

    clean_acc: MeanShare
    clean_acc_by_seed: Annotated[list[MeanShare], Meta(min_length=1)]
    whitebox_acc: MeanShare
    cos_mean: Difference
    macs: Count
    transfer: Moved | None = None


Nets = dict[Annotated[str, Meta(pattern=r"^(R|R2|Rp|E|E0|RS|S)\Z")], Net]
"""The nets of an evolution by their roles; some have no Rp and no RS."""


class Evolution(Result, frozen=True, kw_only=True):
    """What is read of a run of `evolve`."""

    nets: Nets
    gap: Gap
    common_images: Count
    test_images: Count
    trials: Count
    data: str


class Kept(Result, frozen=True, kw_only=True):
    """What the summary of a study takes over from a run of `evolve`."""

    nets: Nets
    gap: Gap
    search_gap: Any
    common_images: Count
    test_images: Count
    data: str
    data_digest: str
    trials: Count
    outcomes: Any
    selection: Any
    failed_finalists: Any
    seconds: Any


class Alike(Result, frozen=True, kw_only=True, rename={"to_r": "like_R", "beyond_r2": "beyond_R2"}):
    """Likeness of a net's maps to R's, and that less R2's."""

    to_r: Mean
    beyond_r2: Mean


Looks = dict[str, Alike]
"""By net."""


class Attention(Result, frozen=True, kw_only=True):
    """By kind of map, over n images."""

    n: Count
    gradient: Looks
    gradcam: Looks

    def by_kind(self) -> dict[Kind, Looks]:
        """Return both, the input gradient first."""
        return {"gradient": self.gradient, "gradcam": self.gradcam}


class Summary(StudySummary, frozen=True, kw_only=True):
    """Evolutions and looks by reference."""

    evolutions: Annotated[dict[str, Evolution], Meta(max_length=50)]  # a panel each
    attention: dict[str, Attention]


def check(summary: Summary, where: str) -> None:
    """Raise `RunError` where a rate or a gap has no interval around it."""
    for name, each in summary.evolutions.items():
        check_evolution(each, f"{where}: evolutions.{name}")
    for name, looks in summary.attention.items():
        for kind, nets in looks.by_kind().items():
            check_has(nets, ("R2", "Rp", "E"), f"{where}: attention.{name}.{kind}")


def check_evolution(found: Evolution | Kept, where: str) -> None:
    """Raise `RunError` where a rate or a gap of one run of `evolve` has no interval around it."""
    gap = found.gap
    if gap.value is not None and (gap.low is None or gap.p_value is None):
        raise RunError(f"{where}.gap: points without an interval and a p-value")
    check_has(found.nets, ("R", "R2", "E", "E0"), f"{where}.nets")
    for role, net in found.nets.items():
        if role == "R":
            continue
        if net.transfer is None:
            raise RunError(f"{where}.nets.{role}: 'transfer_from_R' is missing")
        _check_rate(net.transfer.headline, f"{where}.nets.{role}.transfer_from_R.headline")


def _check_rate(rate: Rate, where: str) -> None:
    value, low, high = rate.value, rate.low, rate.high
    if value is not None and (low is None or high is None or not low <= value <= high):
        raise RunError(f"{where}: the rate {value} is not within {low} and {high}")
