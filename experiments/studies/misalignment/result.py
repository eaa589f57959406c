"""The summary of the study of misaligned gradients."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from robustkit.errors import RunError
from robustkit.runs.summaries import (
    Count,
    Difference,
    Interval,
    MeanShare,
    Rate,
    check_has,
    check_rates,
)

Kind = Literal["gradient", "gradcam"]
KINDS: tuple[Kind, ...] = ("gradient", "gradcam")  # of maps
Points = Annotated[float, Meta(ge=-100, le=100)]


class Moved(TypedDict):
    """Transfer over the images that every net gets right."""

    headline: Rate


class Net(TypedDict):
    """One net, means over its trainings; R itself has no transfer from R."""

    clean_acc: MeanShare
    clean_acc_by_seed: Annotated[list[MeanShare], Meta(min_length=1)]
    whitebox_acc: MeanShare
    cos_mean: Difference
    macs: Count
    transfer_from_R: NotRequired[Moved]


Nets = dict[Annotated[str, Meta(pattern=r"^(R|R2|Rp|E|E0|RS|S)\Z")], Net]
"""The nets of an evolution by their roles; some have no Rp and no RS."""


class Gap(TypedDict):
    """How much less transfers to E than to R', in points; None of no images."""

    points: Points | None
    low: Points | None
    high: Points | None
    p_value: MeanShare | None
    n: Count


class Evolution(TypedDict):
    """What is read of a run of `evolve`."""

    nets: Nets
    gap: Gap
    common_images: Count
    test_images: Count
    trials: Count
    data: str


class Kept(TypedDict):
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


class Alike(TypedDict):
    """Likeness of a net's maps to R's, and that less R2's."""

    like_R: Interval
    beyond_R2: Interval


Looks = dict[str, Alike]
"""By net."""


class Attention(TypedDict):
    """By kind of map, over n images."""

    n: Count
    gradient: Looks
    gradcam: Looks


class Summary(TypedDict):
    """Evolutions and looks by reference."""

    study: str
    evolutions: Annotated[dict[str, Evolution], Meta(max_length=50)]  # a panel each
    attention: dict[str, Attention]


def check(summary: Summary, where: str) -> None:
    """Raise `RunError` where a rate or a gap has no interval around it."""
    for name, each in summary["evolutions"].items():
        check_evolution(each, f"{where}: evolutions.{name}")
    for name, looks in summary["attention"].items():
        for kind in KINDS:
            check_has(looks[kind], ("R2", "Rp", "E"), f"{where}: attention.{name}.{kind}")


def check_evolution(found: Evolution | Kept, where: str) -> None:
    """The same for one run of `evolve`."""
    gap = found["gap"]
    if gap["points"] is not None and (gap["low"] is None or gap["p_value"] is None):
        raise RunError(f"{where}.gap: points without an interval and a p-value")
    check_has(found["nets"], ("R", "R2", "E", "E0"), f"{where}.nets")
    for player, net in found["nets"].items():
        if player == "R":
            continue
        if "transfer_from_R" not in net:
            raise RunError(f"{where}.nets.{player}: 'transfer_from_R' is missing")
        place = f"{where}.nets.{player}.transfer_from_R.headline"
        check_rates(net["transfer_from_R"]["headline"], place)
