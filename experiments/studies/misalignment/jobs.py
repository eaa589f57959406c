"""The job of the study: where R, R2, R' and E of an evolution look; the summary of all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import torch
from msgspec import UNSET, Meta, UnsetType
from torch import Tensor

from evolution.protocol.result import (
    Comparison,
    NetResult,
    Penalty,
    Qualification,
    Selections,
    TransferRates,
    Unseen,
)
from experiments.studies.base import StudyJob, StudySummary
from experiments.studies.measures import (
    KnownMean,
    enlarged_gradcam,
    jointly_correct,
    known_mean,
    spearman_by_image,
)
from experiments.studies.misalignment.searches import Searches
from robustkit import data, explain, models
from robustkit.data import ImageSet
from robustkit.errors import RunError
from robustkit.evaluation.gradient_similarity import input_gradients
from robustkit.models import Classifier
from robustkit.runs.summaries import Cosine, Count, MeanShare, Result, Seconds, check_has
from robustkit.stats import Gap, Rate

# Of each role of the evolution the first training. R2 is the control: R's architecture, plainly
# trained from another seed.
NETS = {"R": "R", "R2": "R2-0", "Rp": "Rp-0", "E": "E-0"}
Kind = Literal["gradient", "gradcam"]
KINDS: tuple[Kind, ...] = ("gradient", "gradcam")  # of maps


class Net(NetResult, frozen=True, kw_only=True):
    """One net, means over its trainings; R itself has no transfer from R."""

    clean_acc_by_seed: Annotated[list[MeanShare], Meta(min_length=1)]
    cos_mean: Cosine
    transfer_from_R: TransferRates | UnsetType = UNSET  # noqa: N815 - R is the reference's name
    transfer_from_R_flipped: TransferRates | UnsetType = UNSET  # noqa: N815
    transfer_from_surrogate: TransferRates | UnsetType = UNSET
    transfer_to_R: TransferRates | UnsetType = UNSET  # noqa: N815
    transfer_from: dict[str, TransferRates] | UnsetType = UNSET
    paired: Rate | UnsetType = UNSET
    paired_E: Rate | UnsetType = UNSET  # noqa: N815


Nets = dict[Annotated[str, Meta(pattern=r"^(R2|Rp|E0|RS|F0|P0|[RESFPM])\Z")], Net]
"""The nets of an evolution by their roles; some have no Rp and no RS."""


class Evolution(Result, frozen=True, kw_only=True):
    """The result of a run of `evolve`, as far as the study keeps it."""

    nets: Nets
    gap: Gap
    search_gap: Gap | UnsetType = UNSET
    common_images: Count
    test_images: Count
    data: str
    data_digest: str
    trials: Count
    outcomes: dict[str, Count] | UnsetType = UNSET
    selection: Selections | UnsetType = UNSET
    failed_finalists: list[str] | UnsetType = UNSET
    seconds: dict[str, Seconds]
    qualification: Qualification | UnsetType = UNSET
    further_qualifications: dict[str, Qualification] | UnsetType = UNSET
    penalty: Penalty | UnsetType = UNSET
    comparisons: dict[str, Comparison] | UnsetType = UNSET
    unseen: dict[str, Unseen] | UnsetType = UNSET
    sources: dict[str, str] | UnsetType = UNSET


class Together(Evolution, frozen=True, kw_only=True):
    """The result of a run of `evolve` away from several references at once."""


class Alike(Result, frozen=True, kw_only=True, rename={"to_r": "like_R", "beyond_r2": "beyond_R2"}):
    """Likeness of a net's maps to R's, and that less R2's."""

    to_r: KnownMean
    beyond_r2: KnownMean


Looks = dict[str, Alike]
"""By net."""


class Attention(Result, frozen=True, kw_only=True):
    """Likeness to R's maps, by kind of map, over n images."""

    n: Count
    gradient: Looks
    gradcam: Looks

    def by_kind(self) -> dict[Kind, Looks]:
        """Return both, the input gradient first."""
        return {"gradient": self.gradient, "gradcam": self.gradcam}


class SearchRun(Result, frozen=True, kw_only=True):
    """The result of another search away from the same R, as far as the study keeps it."""

    trials: Count
    seconds: dict[str, Seconds]


class Summary(StudySummary, frozen=True, kw_only=True):
    """Evolutions, looks, and comparisons over several searches by reference."""

    evolutions: Annotated[dict[str, Evolution], Meta(max_length=50)]  # a panel each
    attention: dict[str, Attention]
    searches: dict[str, Searches] = msgspec.field(default_factory=dict)
    together: Together | UnsetType = UNSET


def check(summary: Summary, where: str) -> None:
    """Raise `RunError` where a rate or a gap has no interval around it."""
    for name, evolution in summary.evolutions.items():
        check_evolution(evolution, f"{where}: evolutions.{name}")
    if not isinstance(summary.together, UnsetType):
        check_evolution(summary.together, f"{where}: together")
    for name, looks in summary.attention.items():
        for kind, nets in looks.by_kind().items():
            check_has(nets, ("R2", "Rp", "E"), f"{where}: attention.{name}.{kind}")


def check_evolution(evolution: Evolution, where: str) -> None:
    """Raise `RunError` where a rate or a gap of one run of `evolve` has no interval around it."""
    gap = evolution.gap
    if gap.value is not None and (gap.low is None or gap.p_value is None):
        raise RunError(f"{where}.gap: points without an interval and a p-value")
    check_has(evolution.nets, ("R", "R2", "E", "E0"), f"{where}.nets")
    for role, net in evolution.nets.items():
        if role == "R":
            continue
        if isinstance(net.transfer_from_R, UnsetType):
            raise RunError(f"{where}.nets.{role}: 'transfer_from_R' is missing")
        _check_rate(net.transfer_from_R.headline, f"{where}.nets.{role}.transfer_from_R.headline")


def _check_rate(rate: Rate, where: str) -> None:
    value, low, high = rate.value, rate.low, rate.high
    if value is not None and (low is None or high is None or not low <= value <= high):
        raise RunError(f"{where}: the rate {value} is not within {low} and {high}")


@dataclass(frozen=True)
class CompareAttention(StudyJob):
    """The nets of the evolution in `path` on its first `count` test images that all get right."""

    path: str
    data: str
    count: int

    kind = Attention

    def run(self) -> Attention:
        """Return, by map and net, Spearman's correlation with R's map, and the same minus R2's."""
        folder = Path(self.path) / "nets"
        nets = {name: models.load(folder / f"{file}.safetensors") for name, file in NETS.items()}
        test = data.load(self.data).test
        chosen = jointly_correct((net.eval() for net in nets.values()), test, self.count)
        other_nets = [name for name in nets if name != "R"]
        if not len(chosen):
            nothing = {name: _alike(torch.empty(0), torch.empty(0)) for name in other_nets}
            return Attention(n=0, gradient=nothing, gradcam=nothing)
        images = test.subset(chosen)
        maps = {name: _maps(net, images) for name, net in nets.items()}
        looks: dict[Kind, Looks] = {}
        for kind in KINDS:
            ranks = {
                name: spearman_by_image(maps["R"][kind], maps[name][kind]) for name in other_nets
            }
            looks[kind] = {name: _alike(values, ranks["R2"]) for name, values in ranks.items()}
        return Attention(n=len(images), **looks)


def _alike(ranks: Tensor, plain: Tensor) -> Alike:
    return Alike(to_r=known_mean(ranks), beyond_r2=known_mean(ranks - plain))


def _maps(net: Classifier, images: ImageSet) -> dict[Kind, Tensor]:
    """Return magnitudes (N,H,W) of the input gradient, and the last stage's Grad-CAM."""
    gradients = input_gradients(net, images).abs().sum(dim=1)
    cams = []
    for rows in data.batches(len(images), 250):
        with explain.trace(net, images.floats(rows), images.labels[rows]) as trace:
            cams.append(enlarged_gradcam(trace))
    return {"gradient": gradients, "gradcam": torch.cat(cams)}
