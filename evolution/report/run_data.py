"""The data of a finished run, read once from its folder for all sections."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from evolution import MEASURES, Candidate, Genotype, front, parse_objectives
from evolution.genotype import Trial
from evolution.protocol.config import BEFORE, EvolveConfig
from evolution.protocol.gallery import Gallery, load_gallery
from evolution.protocol.result import (
    CandidateRow,
    Measured,
    Scores,
    Summary,
    check_rows,
    read_summary,
)
from evolution.protocol.roles import TrialId, id_of
from evolution.protocol.run import GALLERY, LEDGER
from robustkit.errors import ModelError, RunError
from robustkit.models import read_card
from robustkit.models.blueprint import wire
from robustkit.reading import printable
from robustkit.runs import Entry, Ledger, RunFolder
from robustkit.runs.summaries import read_settings

SEARCHES = {"evolve": "evolution", "random": "random search"}
PRESET = "preset"
"""The operator of nets that both searches start from; those of local search begin with it."""


@dataclass(frozen=True)
class CandidateTrial:
    """One trial of a search as the ledger has it; `result` is None where it failed.

    `id` has its fields: the search, and the epochs where it was on a lower rung. `moment` is what
    the search had spent when it ended, in trials at trial budget.
    """

    entry: Entry
    id: TrialId
    candidate: Candidate
    key: str
    result: Scores | None
    moment: float

    @property
    def search(self) -> str:
        """Return the search that it belongs to: "evolve" or "random"."""
        return self.id.search

    @property
    def epochs(self) -> int | None:
        """Return the epochs of its lower rung; None at trial budget."""
        return self.id.epochs

    def value(self, name: str) -> float:
        """Return a measure of a successful trial: also an objective of the user's own."""
        assert self.entry.result is not None
        return float(self.entry.result[name])


@dataclass(frozen=True, eq=False)
class Evidence:
    """A finished run: its summary, its ledger, its candidates in the order asked, its gallery.

    `trials` are those at trial budget; `lower` those on lower rungs of successive halving.
    `classes` are the names of the logits, None where the run's nets are not in the folder.
    """

    config: EvolveConfig
    summary: Summary
    entries: tuple[Entry, ...]
    trials: tuple[CandidateTrial, ...]
    lower: tuple[CandidateTrial, ...]
    gallery: Gallery
    classes: tuple[str, ...] | None

    def trials_of(self, search: str) -> list[CandidateTrial]:
        """Return the trials of one search at trial budget, in the order asked."""
        return [trial for trial in self.trials if trial.search == search]

    def lower_of(self, search: str) -> list[CandidateTrial]:
        """Return the trials of one search on lower rungs."""
        return [trial for trial in self.lower if trial.search == search]

    def longest_of(self, search: str) -> list[CandidateTrial]:
        """Return the longest trial of every candidate of one search, in the order asked."""
        lower = sorted(self.lower_of(search), key=lambda trial: trial.epochs or 0)
        longest = {trial.candidate.number: trial for trial in (*lower, *self.trials_of(search))}
        return [longest[number] for number in sorted(longest)]

    def selected(self, role: str) -> CandidateTrial:
        """Return the trial of the candidate that became E, E0 or RS."""
        search = "random" if role == "RS" else "evolve"
        selection = self.summary.selection.RS if role == "RS" else self.summary.selection.E
        for trial in self.trials_of(search):
            if trial.candidate.number == selection.number:
                return trial
        trial_id = TrialId(stage="search", search=search, number=selection.number)
        raise RunError(f"the ledger holds no trial {trial_id}, which became {role}")

    def baseline(self, role: str) -> Measured | None:
        """Return the measures of R's architecture at trial budget, as R2 or as Rp."""
        return self.summary.baseline.get(role)

    @property
    def wanted_accuracy(self) -> float | None:
        """Return the accuracy that sets the threshold: R2's at trial budget, else R's."""
        baseline = self.baseline("R2")
        if baseline is not None:
            return baseline.accuracy
        # None also for runs of before there was a baseline.
        return self.summary.reference.accuracy if self.summary.left_out else None

    @property
    def threshold(self) -> float | None:
        """Return the validation accuracy of a trial that is promoted before less accurate ones."""
        accuracy = self.wanted_accuracy
        return None if accuracy is None else accuracy - self.config.tolerance


def read_evidence(folder: RunFolder) -> Evidence:
    """Return the data of a run folder; raises `RunError` if it has not finished or is damaged."""
    summary = read_summary(folder)
    if summary is None:
        raise RunError(
            f"{folder.path}: not finished, there is nothing to report yet; "
            f"go on with `robustkit evolve --resume {folder.path}`"
        )
    older = replace(folder, config={**BEFORE, **folder.config})
    config, path = read_settings(older, EvolveConfig), folder.file(LEDGER)
    with Ledger.read(path) as ledger:
        entries, in_order = tuple(ledger.trials()), ledger.in_order()
    names = [objective.name for objective in parse_objectives(config.objectives, MEASURES)]
    check_rows(entries, path, names)
    spent = _spent(in_order, config.epochs)
    trials = [_trial(entry, spent) for entry in entries if id_of(entry).stage == "search"]
    trials.sort(key=lambda trial: (trial.search, trial.candidate.number))
    classes = _classes(folder)
    evidence = Evidence(
        config=config,
        summary=summary,
        entries=entries,
        trials=tuple(trials),
        lower=tuple(_trial(entry, spent) for entry in entries if id_of(entry).stage == "rung"),
        gallery=load_gallery(folder.file(GALLERY), None if classes is None else len(classes)),
        classes=classes,
    )
    _check_selected(evidence, folder.file("summary.json"), path)
    return evidence


def _check_selected(evidence: Evidence, summary: Path, ledger: Path) -> None:
    """Raise `RunError` unless the selected trials are in the ledger, fit the images, and
    have all their ancestors."""
    _, channels, side = evidence.gallery.clean.shape[:3]
    if evidence.summary.trials != len(evidence.trials):
        raise RunError(
            f"{summary}: trials: {evidence.summary.trials}, and {ledger.name} holds "
            f"{len(evidence.trials)}"
        )
    for role, selection in (
        ("E", evidence.summary.selection.E),
        ("RS", evidence.summary.selection.RS),
    ):
        trial = evidence.selected(role)
        if trial.key != selection.key or trial.result is None:
            raise RunError(
                f"{summary}: selection.{role}: the trial {trial.entry.id} in the ledger is of "
                f"{trial.key}, {trial.entry.outcome}, not of {printable(selection.key)}, Ok"
            )
        try:
            wire(trial.candidate.genotype.blueprint(), channels, side)
        except ModelError as error:
            raise RunError(f"{ledger}: trial '{trial.entry.id}': {error}") from None
    numbers = {trial.candidate.number for trial in evidence.longest_of("evolve")}
    for trial in evidence.longest_of("evolve"):
        if not numbers.issuperset(trial.candidate.parents):
            raise RunError(f"{ledger}: trial '{trial.entry.id}': it lacks one of its parents")


def distinct(trials: Sequence[CandidateTrial]) -> list[list[CandidateTrial]]:
    """Return the trials grouped by the network that they express, in the order first asked."""
    groups: dict[str, list[CandidateTrial]] = {}
    for trial in trials:
        groups.setdefault(trial.key, []).append(trial)
    return list(groups.values())


def front_keys(evidence: Evidence) -> set[str]:
    """Return the keys of the networks on the Pareto front of both searches together."""
    bounded = parse_objectives(evidence.config.objectives, MEASURES)
    accuracy = evidence.wanted_accuracy
    if accuracy is not None:
        bounded = evidence.config.objectives_above(accuracy)
    names = [objective.name for objective in bounded]
    trials = [
        Trial(trial.candidate, "Ok", {name: trial.value(name) for name in names})
        for trial, *_ in distinct([trial for trial in evidence.trials if trial.result])
        if trial.result
    ]
    return {trial.candidate.genotype.key() for trial in front(trials, bounded)}


def _spent(entries: Sequence[Entry], epochs: int) -> dict[str, float]:
    """Return what a search with lower rungs had spent at the end of each of its trials, by id."""
    spent: dict[str, float] = {}
    ids = {entry.id: id_of(entry) for entry in entries}
    for search in SEARCHES:
        trials = {
            entry_id: trial_id
            for entry_id, trial_id in ids.items()
            if trial_id.search == search and trial_id.stage in ("search", "rung")
        }
        if any(trial_id.stage == "rung" for trial_id in trials.values()):
            costs = ((trial_id.epochs or epochs) / epochs for trial_id in trials.values())
            spent |= zip(trials, accumulate(costs), strict=True)
    return spent


def _trial(entry: Entry, spent: Mapping[str, float]) -> CandidateTrial:
    row = CandidateRow.from_json(entry.payload, entry.id)
    candidate = Candidate(
        number=row.number,
        genotype=Genotype.from_dict(row.genotype),
        parents=tuple(row.parents),
        operator=row.operator,
        generation=row.generation,
    )
    result = None if entry.result is None else Scores.from_json(entry.result, entry.id)
    moment = spent.get(entry.id, candidate.number + 1)
    return CandidateTrial(entry, id_of(entry), candidate, row.genotype_key, result, moment)


def _classes(folder: RunFolder) -> tuple[str, ...] | None:
    # A given R may have them in another order.
    path = folder.file("nets") / "S.safetensors"
    return read_card(path).classes if path.is_file() else None


def lowest_shown(evidence: Evidence) -> float:
    """Return the accuracy, in percent, at which axes begin; lower ones are drawn at the edge.

    At least three quarters of all trials, R's architecture at trial budget and E are above it.
    """
    results = [trial.result for trial in evidence.trials if trial.result is not None]
    accuracies = sorted(100 * result.accuracy for result in results)
    wanted = accuracies[len(accuracies) // 4 :][:1]
    for name in ("R2", "Rp"):
        if (baseline := evidence.baseline(name)) is not None:
            wanted.append(100 * baseline.accuracy)
    if (result := evidence.selected("E").result) is not None:
        wanted.append(100 * result.accuracy)
    return float(math.floor(min(wanted, default=0.0) - 1))
