"""What a finished run left in its folder, read once for all sections."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import cast

from evolution import MEASURES, Candidate, Genotype, front, parse_objectives
from evolution.genotype import Trial
from evolution.protocol.config import EvolveConfig
from evolution.protocol.gallery import Gallery, load_gallery
from evolution.protocol.result import (
    CandidateRow,
    Measured,
    Scores,
    Summary,
    check_rows,
    left_out_of,
    read_summary,
)
from evolution.protocol.run import GALLERY, LEDGER
from evolution.protocol.search import lower_rungs
from robustkit.errors import ModelError, RunError
from robustkit.models import read_card
from robustkit.models.blueprint import wire
from robustkit.reading import printable
from robustkit.runs import Entry, Ledger, RunFolder
from robustkit.runs.summaries import read_settings

SEARCHES = {"evolve": "evolution", "random": "random search"}


@dataclass(frozen=True)
class CandidateTrial:
    """One candidate of a search and what became of it; `result` is None where it failed.

    `moment` is what the search had spent when it was done, in trials at trial budget.
    """

    trial: Entry
    candidate: Candidate
    key: str
    result: Scores | None
    moment: float

    @property
    def arm(self) -> str:
        """The search it belongs to: "evolve" or "random", or the lower rungs of one."""
        return self.trial.arm

    @property
    def epochs(self) -> int | None:
        """How long it was trained on a lower rung; None at trial budget."""
        return _payload(self.trial).get("epochs")

    def value(self, name: str) -> float:
        """A measure of the trial, which succeeded: also an objective of a person's own."""
        assert self.trial.result is not None
        return float(self.trial.result[name])


@dataclass(frozen=True, eq=False)
class Evidence:
    """A finished run: its summary, its trials, its candidates in the order asked, its gallery.

    `entries` are trials at trial budget; `lower` those on lower rungs of successive halving.
    `classes` are the names of the logits, None where the run's nets are not in the folder.
    """

    config: EvolveConfig
    summary: Summary
    trials: tuple[Entry, ...]
    entries: tuple[CandidateTrial, ...]
    lower: tuple[CandidateTrial, ...]
    gallery: Gallery
    classes: tuple[str, ...] | None

    def of(self, arm: str) -> list[CandidateTrial]:
        """The candidates of one search, in the order asked."""
        return [entry for entry in self.entries if entry.arm == arm]

    def known(self, arm: str) -> list[CandidateTrial]:
        """Every candidate of one search once, those that got no further on their last rung."""
        lower = [entry for entry in self.lower if entry.arm == lower_rungs(arm)]
        lower.sort(key=lambda entry: entry.epochs or 0)
        found = {entry.candidate.number: entry for entry in (*lower, *self.of(arm))}
        return [found[number] for number in sorted(found)]

    def chosen(self, player: str) -> CandidateTrial:
        """The candidate that became `player`: E, E0 or RS."""
        arm = "random" if player == "RS" else "evolve"
        number = self.summary["selection"]["RS" if player == "RS" else "E"]["number"]
        for entry in self.of(arm):
            if entry.candidate.number == number:
                return entry
        raise RunError(f"the ledger holds no trial {arm}/{number:04d}, which became {player}")

    def baseline(self, name: str, measure: str) -> float | None:
        """A measure of R's architecture at trial budget, as R2 or as Rp."""
        found = cast(dict[str, float] | None, self.at_trial_budget(name))
        return None if found is None else found[measure]

    def at_trial_budget(self, name: str) -> Measured | None:
        """All measures of R's architecture at trial budget, as R2 or as Rp."""
        return cast(dict[str, Measured], self.summary["baseline"]).get(name)

    @property
    def left_out(self) -> dict[str, str]:
        """Which of R2 and Rp there is not, and why."""
        return left_out_of(self.summary)

    @property
    def wanted_accuracy(self) -> float | None:
        """What trials are held against: R2's at trial budget, R's own where there is no R2."""
        if self.left_out:
            return float(self.summary["reference"]["accuracy"])
        return self.baseline("R2", "accuracy")

    @property
    def threshold(self) -> float | None:
        """The validation accuracy that a trial needed to be promoted before less accurate ones."""
        accuracy = self.wanted_accuracy
        return None if accuracy is None else accuracy - self.config.tolerance


def read_evidence(folder: RunFolder) -> Evidence:
    """Read a run folder; raises `RunError` if the run has not finished or a file is damaged."""
    summary = read_summary(folder)
    if summary is None:
        raise RunError(
            f"{folder.path}: not finished, there is nothing to report yet; "
            f"go on with `robustkit evolve --resume {folder.path}`"
        )
    config, path = read_settings(folder, EvolveConfig), folder.file(LEDGER)
    with Ledger.read(path) as ledger:
        trials, in_order = tuple(ledger.trials()), ledger.in_order()
    names = [each.name for each in parse_objectives(config.objectives, MEASURES)]
    check_rows(trials, path, names)
    spent = _spent(in_order, config.epochs)
    entries = [_entry(trial, spent) for trial in trials if trial.arm in SEARCHES]
    entries.sort(key=lambda entry: (entry.arm, entry.candidate.number))
    rungs = [lower_rungs(arm) for arm in SEARCHES]
    classes = _classes(folder)
    evidence = Evidence(
        config=config,
        summary=summary,
        trials=trials,
        entries=tuple(entries),
        lower=tuple(_entry(trial, spent) for trial in trials if trial.arm in rungs),
        gallery=load_gallery(folder.file(GALLERY), None if classes is None else len(classes)),
        classes=classes,
    )
    _check_chosen(evidence, folder.file("summary.json"), path)
    return evidence


def _check_chosen(evidence: Evidence, summary: Path, ledger: Path) -> None:
    """Raise `RunError` unless the chosen are in the ledger, fit the images, and have a family."""
    _, channels, side = evidence.gallery.clean.shape[:3]
    if evidence.summary["trials"] != len(evidence.entries):
        raise RunError(
            f"{summary}: trials: {evidence.summary['trials']}, and {ledger.name} holds "
            f"{len(evidence.entries)}"
        )
    for player, choice in (
        ("E", evidence.summary["selection"]["E"]),
        ("RS", evidence.summary["selection"]["RS"]),
    ):
        entry = evidence.chosen(player)
        if entry.key != choice["key"] or entry.result is None:
            raise RunError(
                f"{summary}: selection.{player}: the trial {entry.trial.id} in the ledger is of "
                f"{entry.key}, {entry.trial.outcome}, not of {printable(choice['key'])}, Ok"
            )
        try:
            wire(entry.candidate.genotype.blueprint(), channels, side)
        except ModelError as error:
            raise RunError(f"{ledger}: trial '{entry.trial.id}': {error}") from None
    known = {entry.candidate.number for entry in evidence.known("evolve")}
    for entry in evidence.known("evolve"):
        if not known.issuperset(entry.candidate.parents):
            raise RunError(f"{ledger}: trial '{entry.trial.id}': it lacks one of its parents")


def distinct(entries: Sequence[CandidateTrial]) -> list[list[CandidateTrial]]:
    """The entries that express one network, together; in the order first asked."""
    groups: dict[str, list[CandidateTrial]] = {}
    for entry in entries:
        groups.setdefault(entry.key, []).append(entry)
    return list(groups.values())


def front_keys(evidence: Evidence) -> set[str]:
    """Networks that no other of either search beats in every objective of the search."""
    bounded = parse_objectives(evidence.config.objectives, MEASURES)
    accuracy = evidence.wanted_accuracy
    if accuracy is not None:
        bounded = evidence.config.objectives_above(accuracy)
    names = [objective.name for objective in bounded]
    scored = [
        Trial(each.candidate, "Ok", {name: each.value(name) for name in names})
        for each, *_ in distinct([entry for entry in evidence.entries if entry.result])
        if each.result
    ]
    return {each.candidate.genotype.key() for each in front(scored, bounded)}


def _spent(trials: Sequence[Entry], epochs: int) -> dict[str, float]:
    """What a search with lower rungs had spent at the end of each of its trials, by id."""
    spent: dict[str, float] = {}
    for arm in SEARCHES:
        own = [trial for trial in trials if trial.arm in (arm, lower_rungs(arm))]
        if any(trial.arm != arm for trial in own):
            costs = (_payload(trial).get("epochs", epochs) / epochs for trial in own)
            spent |= zip((trial.id for trial in own), accumulate(costs), strict=True)
    return spent


def _entry(trial: Entry, spent: Mapping[str, float]) -> CandidateTrial:
    payload = _payload(trial)
    genotype = Genotype.from_dict(payload["genotype"])
    candidate = Candidate(
        number=payload["number"],
        genotype=genotype,
        parents=tuple(payload["parents"]),
        operator=payload["operator"],
        generation=payload["generation"],
    )
    result = cast(Scores | None, trial.result)
    moment = spent.get(trial.id, candidate.number + 1)
    return CandidateTrial(trial, candidate, genotype.key(), result, moment)


def _payload(trial: Entry) -> CandidateRow:
    """What `check_rows` has found of a candidate's trial."""
    return cast(CandidateRow, trial.payload)


def _classes(folder: RunFolder) -> tuple[str, ...] | None:
    # A given R may have them in another order.
    path = folder.file("nets") / "S.safetensors"
    return read_card(path).classes if path.is_file() else None


def lowest_shown(evidence: Evidence) -> float:
    """The accuracy, in percent, at which axes begin; what is lower is drawn at the edge.

    At least three quarters of all trials, R's architecture at trial budget and E are above it.
    """
    results = [entry.result for entry in evidence.entries if entry.result is not None]
    accuracies = sorted(100 * result["accuracy"] for result in results)
    wanted = accuracies[len(accuracies) // 4 :][:1]
    for name in ("R2", "Rp"):
        if (value := evidence.baseline(name, "accuracy")) is not None:
            wanted.append(100 * value)
    if (winner := evidence.chosen("E").result) is not None:
        wanted.append(100 * winner["accuracy"])
    return float(math.floor(min(wanted, default=0.0) - 1))
