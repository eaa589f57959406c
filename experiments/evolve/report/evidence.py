"""What a finished run left in its folder, read once for all sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from evolution import MEASURES, Candidate, Genotype, front, parse_objectives
from evolution.candidate import Scored
from experiments.evolve.config import EvolveConfig
from experiments.evolve.gallery import Gallery, load_gallery
from experiments.evolve.run import GALLERY, LEDGER
from experiments.evolve.trying import lower_rungs
from experiments.options import config_from
from robustkit.errors import RunError
from robustkit.models import read_card
from robustkit.runs import Ledger, RunFolder, Trial

SEARCHES = {"evolve": "evolution", "random": "random search"}


@dataclass(frozen=True)
class Entry:
    """One candidate of a search and what became of it; `result` is None where it failed.

    `moment` is what the search had spent when it was done, in trials at trial budget.
    """

    trial: Trial
    candidate: Candidate
    key: str
    result: dict[str, Any] | None
    moment: float

    @property
    def arm(self) -> str:
        """The search it belongs to: "evolve" or "random", or the lower rungs of one."""
        return self.trial.arm

    @property
    def epochs(self) -> int | None:
        """How long it was trained on a lower rung; None at trial budget."""
        return self.trial.payload.get("epochs")


@dataclass(frozen=True, eq=False)
class Evidence:
    """A finished run: its summary, its trials, its candidates in the order asked, its gallery.

    `entries` are trials at trial budget; `lower` those on lower rungs of successive halving.
    `classes` are the names of the logits, None where the run's nets are not in the folder.
    """

    config: EvolveConfig
    summary: dict[str, Any]
    trials: tuple[Trial, ...]
    entries: tuple[Entry, ...]
    lower: tuple[Entry, ...]
    gallery: Gallery
    classes: tuple[str, ...] | None

    def of(self, arm: str) -> list[Entry]:
        """The candidates of one search, in the order asked."""
        return [entry for entry in self.entries if entry.arm == arm]

    def known(self, arm: str) -> list[Entry]:
        """Every candidate of one search once, those that got no further on their last rung."""
        lower = [entry for entry in self.lower if entry.arm == lower_rungs(arm)]
        lower.sort(key=lambda entry: entry.epochs or 0)
        found = {entry.candidate.number: entry for entry in (*lower, *self.of(arm))}
        return [found[number] for number in sorted(found)]

    def chosen(self, player: str) -> Entry:
        """The candidate that became `player`: E, E0 or RS."""
        arm = "random" if player == "RS" else "evolve"
        number = self.summary["selection"][player]["number"]
        for entry in self.of(arm):
            if entry.candidate.number == number:
                return entry
        raise RunError(f"the ledger holds no trial {arm}/{number:04d}, which became {player}")

    def baseline(self, name: str, measure: str) -> float | None:
        """A measure of R's architecture at trial budget, as R2 or as Rp."""
        value = self.summary["baseline"].get(name, {}).get(measure)
        return None if value is None else float(value)

    @property
    def left_out(self) -> dict[str, str]:
        """Which of R2 and Rp there is not, and why."""
        return dict(self.summary.get("left_out", {}))

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
    summary = folder.summary()
    if summary is None:
        raise RunError(
            f"{folder.path}: not finished, there is nothing to report yet; "
            f"go on with `robustkit evolve --resume {folder.path}`"
        )
    with Ledger.open(folder.file(LEDGER)) as ledger:
        trials = tuple(ledger.trials())
        spent = _spent(ledger.in_order(), config_from(EvolveConfig, folder.config).epochs)
    entries = [_entry(trial, spent) for trial in trials if trial.arm in SEARCHES]
    entries.sort(key=lambda entry: (entry.arm, entry.candidate.number))
    rungs = [lower_rungs(arm) for arm in SEARCHES]
    return Evidence(
        config=config_from(EvolveConfig, folder.config),
        summary=summary,
        trials=trials,
        entries=tuple(entries),
        lower=tuple(_entry(trial, spent) for trial in trials if trial.arm in rungs),
        gallery=load_gallery(folder.file(GALLERY)),
        classes=_classes(folder),
    )


def distinct(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The entries that express one network, together; in the order first asked."""
    groups: dict[str, list[Entry]] = {}
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
        Scored(each.candidate, "Ok", {name: float(each.result[name]) for name in names})
        for each, *_ in distinct([entry for entry in evidence.entries if entry.result])
        if each.result
    ]
    return {each.candidate.genotype.key() for each in front(scored, bounded)}


def _spent(trials: Sequence[Trial], epochs: int) -> dict[str, float]:
    """What a search with lower rungs had spent at the end of each of its trials, by id."""
    spent: dict[str, float] = {}
    for arm in SEARCHES:
        own = [trial for trial in trials if trial.arm in (arm, lower_rungs(arm))]
        if any(trial.arm != arm for trial in own):
            costs = (trial.payload.get("epochs", epochs) / epochs for trial in own)
            spent |= zip((trial.id for trial in own), accumulate(costs), strict=True)
    return spent


def _entry(trial: Trial, spent: Mapping[str, float]) -> Entry:
    payload = trial.payload
    genotype = Genotype.from_dict(payload["genotype"])
    candidate = Candidate(
        number=int(payload["number"]),
        genotype=genotype,
        parents=tuple(payload["parents"]),
        operator=str(payload["operator"]),
        generation=int(payload["generation"]),
    )
    result = trial.result if trial.outcome == "Ok" else None
    moment = spent.get(trial.id, candidate.number + 1)
    return Entry(trial, candidate, genotype.key(), result, moment)


def _classes(folder: RunFolder) -> tuple[str, ...] | None:
    # A given R may have them in another order.
    path = folder.file("nets") / "S.safetensors"
    return read_card(path).classes if path.is_file() else None
