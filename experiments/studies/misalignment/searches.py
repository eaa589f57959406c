"""Several searches away from one reference: E against every other net, search by search.

Every search has a run folder of its own. The first has all nets; the others have the same R, and
search with other seeds: E, E0 and RS are theirs, the other nets the first one's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from msgspec import UNSET, UnsetType
from torch import Tensor

from evolution.objectives import dominated_area
from evolution.protocol.jobs import NetEvaluation, evaluation_path, load_evaluation
from evolution.protocol.result import Verdict
from evolution.protocol.roles import REFERENCE, ROLES, tested_nets
from evolution.protocol.run import LEDGER
from evolution.protocol.summary import against, matched_transfer
from experiments.studies.base import StudyJob
from robustkit.errors import RunError
from robustkit.runs import Ledger
from robustkit.runs.summaries import Amount, Count, Result
from robustkit.stats import Mean, Points, mean_over_both, mean_over_trainings

OWN = ("E", "E0", "RS")
"""The roles that every search has nets of its own of."""
SEARCHES = ("evolve", "random")


class Against(Result, frozen=True, kw_only=True):
    """E against another net X, a value for each search, in points.

    `transfer` is T(R→X) - T(R→E) over the images that R and both get right, None without any;
    `accuracy` E's less X's; `verdicts` those of `evolve`, by intervals within one search.
    `transfers` and `accuracies` are the same for each training of an X that all searches share.
    """

    transfer: list[Points | None]
    accuracy: list[Points]
    verdicts: list[Verdict]
    transfers: list[list[Points | None]] | UnsetType = UNSET
    accuracies: list[list[Points]] | UnsetType = UNSET

    def gain(self) -> Mean:
        """Return the mean difference in transfer, its interval over searches and X's trainings."""
        if isinstance(self.transfers, UnsetType):
            return mean_over_trainings(self.transfer)
        return mean_over_both(self.transfers)

    def more_accurate(self) -> Mean:
        """Return the mean difference in accuracy, its interval likewise."""
        if isinstance(self.accuracies, UnsetType):
            return mean_over_trainings(self.accuracy)
        return mean_over_both(self.accuracies)


class Searches(Result, frozen=True, kw_only=True):
    """The searches away from one reference.

    `against` by role; `hypervolume` by search ("evolve", "random"): the area that its trials
    dominate on validation, in points of accuracy above R's architecture less `floor`, times the
    share of R's adversarials that do not fool.
    """

    seeds: Count
    against: dict[str, Against]
    hypervolume: dict[str, list[Amount]]

    def volume_gained(self) -> Mean:
        """Return evolution's hypervolume less random search's, its interval over searches."""
        pairs = zip(*(self.hypervolume[name] for name in SEARCHES), strict=True)
        return mean_over_trainings([evolved - sampled for evolved, sampled in pairs])


@dataclass(frozen=True)
class CompareSearches(StudyJob):
    """Compare the nets of the runs of `evolve` in the folders `runs`, one for each search."""

    runs: tuple[str, ...]
    floor: float
    tolerance: float
    seed: int

    kind = Searches

    def run(self) -> Searches:
        """Return every comparison with E; raises `RunError` where the runs have different R."""
        folders = [Path(run) for run in self.runs]
        shared = {role: list(_evaluations(folders[0], role)) for role in ROLES}
        (reference,) = shared["R"]
        found: dict[str, Against] = {}
        for folder in folders:
            (own_reference,) = _evaluations(folder, "R")
            if not torch.equal(own_reference.correct, reference.correct):
                raise RunError(f"{folder}: its R is another net than that of {folders[0]}")
            groups = shared | {role: list(_evaluations(folder, role)) for role in OWN}
            self._compare(groups, found)
        areas = [self._areas(folder) for folder in folders]
        volumes = {name: [area[name] for area in areas] for name in SEARCHES}
        return Searches(seeds=len(folders), against=found, hypervolume=volumes)

    def _compare(self, groups: dict[str, list[NetEvaluation]], found: dict[str, Against]) -> None:
        """Add the comparisons of one search to those `found`."""
        (reference,) = groups["R"]
        for role, group in groups.items():
            if role in ("R", "E") or not group:
                continue
            gap = matched_transfer(
                group, groups["E"], reference.correct.numpy(), seed=self.seed
            ).gap
            made = against(group, groups["E"], gap, seed=self.seed, tolerance=self.tolerance)
            entry = found.setdefault(role, _nothing_yet(shared=role not in OWN))
            entry.transfer.append(gap.value)
            entry.accuracy.append(made.accuracy.value or 0.0)
            entry.verdicts.append(made.verdict)
            if not isinstance(entry.transfers, UnsetType):
                entry.transfers.append(
                    [_difference(each, groups["E"], reference.correct) for each in group]
                )
            if not isinstance(entry.accuracies, UnsetType):
                entry.accuracies.append([_more_accurate(groups["E"], each) for each in group])

    def _areas(self, folder: Path) -> dict[str, float]:
        """Return the area that the trials of each search dominate."""
        with Ledger.read(folder / LEDGER) as ledger:
            entries = [entry for entry in ledger.trials() if entry.result is not None]
        accuracies = [
            float(entry.result["accuracy"])
            for entry in entries
            if entry.result is not None and entry.id.startswith("baseline/R2")
        ]
        corner = sum(accuracies) / len(accuracies) - self.floor
        points: dict[str, list[tuple[float, float]]] = {name: [] for name in SEARCHES}
        for entry in entries:
            if entry.stage in points and entry.result is not None:
                values = float(entry.result["accuracy"]), float(entry.result["transfer"])
                points[entry.stage].append(values)
        return {name: dominated_area(each, corner) for name, each in points.items()}


def _nothing_yet(*, shared: bool) -> Against:
    if shared:
        return Against(transfer=[], accuracy=[], verdicts=[], transfers=[], accuracies=[])
    return Against(transfer=[], accuracy=[], verdicts=[])


def _difference(
    net: NetEvaluation, evolved: Sequence[NetEvaluation], right: Tensor
) -> Points | None:
    """Return T(R→net) - T(R→E) in points, the mean over E's trainings with images in common."""
    found = []
    for each in evolved:
        common = right & net.correct & each.correct
        if bool(common.any()):
            wrong = [~other.under[REFERENCE][common] for other in (net, each)]
            found.append(float(wrong[0].double().mean() - wrong[1].double().mean()))
    return 100 * sum(found) / len(found) if found else None


def _more_accurate(evolved: Sequence[NetEvaluation], net: NetEvaluation) -> Points:
    """Return by how many points E, the mean over its trainings, is more accurate than a net."""
    accuracies = [float(each.correct.double().mean()) for each in evolved]
    return 100 * (sum(accuracies) / len(accuracies) - float(net.correct.double().mean()))


def _evaluations(run: Path, role: str) -> Iterator[NetEvaluation]:
    """Yield the evaluations of a role's trainings on test, in the order of the trainings."""
    with Ledger.read(run / LEDGER) as ledger:
        names = tested_nets(ledger.trials()).get(role, [])
    if not names and role in ("R", "E"):
        raise RunError(f"{run}: no training of {role} was evaluated")
    for name in names:
        yield load_evaluation(evaluation_path(run, name))
