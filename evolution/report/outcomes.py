"""The outcome of every trial, and the reasons of failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup
from msgspec import UnsetType

from evolution import Genotype
from evolution.report.format import brief, compact, plural, share
from evolution.report.run_data import SEARCHES, CandidateTrial, Evidence
from robustkit.report import Section, duration, table
from robustkit.runs import Entry

ARMS = {
    "reference": "reference and surrogate",
    "baseline": "R's architecture at trial budget",
    "evolve": "evolution",
    "rungs-evolve": "evolution, lower rungs",
    "random": "random search",
    "promote-evolve": "promoted, evolution",
    "promote-random": "promoted, random search",
    "final": "final training",
    "judge": "test evaluation",
}
PHASES = {
    "reference": "reference and baselines",
    "search": "evolution",
    "random_search": "random search",
    "promotion": "promoted candidates",
    "finalists": "final training",
    "judging": "test evaluation",
    "wall": "start to end, on the clock",
}
MANY = 12  # failures that are shown unfolded


def outcomes_section(evidence: Evidence) -> Section:
    """Return counts of outcomes, failures with their reasons, all candidates, and the times."""
    failed = [entry for entry in evidence.entries if entry.outcome != "Ok"]
    cached = evidence.summary.trials_from_cache
    note = (
        f"{plural(evidence.summary.trials, 'trial')} in the two searches, {cached or 'none'} of "
        "them answered from the ledger, since the same network had been trained before. A trial "
        "that fails is recorded with its reason and never wins."
    )
    if stopped := evidence.summary.trials_stopped:
        saved = plural(evidence.summary.epochs_saved, "epoch")
        note += (
            f" {plural(stopped, 'trial')} ended after half of the epochs, too far below R's "
            f"architecture to be feasible in the end, which saved {saved}."
        )
    html = [
        _counts(evidence.entries),
        Markup("<h3>Failures</h3>"),
        _failures(failed),
        Markup("<h3>Time</h3>"),
        _times(evidence.summary.seconds),
        _folded("All candidates", _candidates(evidence.trials)),
    ]
    return Section("outcomes", "Outcomes", Markup("\n").join(html), note)


def _counts(entries: Sequence[Entry]) -> Markup:
    kinds = sorted({entry.outcome for entry in entries} - {"Ok"})
    counts = Counter((entry.stage, entry.outcome) for entry in entries)
    present = [stage for stage in ARMS if any(entry.stage == stage for entry in entries)]
    rows: list[tuple[str | int, ...]] = [
        (ARMS[stage], *(counts[stage, kind] for kind in ("Ok", *kinds))) for stage in present
    ]
    return table(("part of the run", "Ok", *kinds), rows)


def _failures(failed: Sequence[Entry]) -> Markup:
    if not failed:
        return Markup("<p>None: every trial succeeded.</p>")
    rows = [
        (entry.id, entry.outcome, entry.reason, duration(entry.seconds), _network(entry))
        for entry in failed
    ]
    listed = table(("trial", "outcome", "reason", "after", "blocks"), rows)
    return listed if len(failed) <= MANY else _folded(plural(len(failed), "failure"), listed)


def _network(entry: Entry) -> str:
    genotype = entry.payload.get("genotype")
    return "–" if genotype is None else brief(Genotype.from_dict(genotype))


def _times(seconds: dict[str, float]) -> Markup:
    rows = [(PHASES.get(phase, phase), duration(spent)) for phase, spent in seconds.items()]
    caption = "Seconds of computation, summed over workers, but for the last."
    return table(("part of the run", "time"), rows, caption=caption)


def _candidates(trials: Sequence[CandidateTrial]) -> Markup:
    headers = (
        "search",
        "no.",
        "generation",
        "operator",
        "outcome",
        "accuracy",
        "transfer",
        "|cos|",
        "MACs",
        "blocks",
    )
    return table(headers, [_row(trial) for trial in trials])


def _row(trial: CandidateTrial) -> tuple[str | int, ...]:
    candidate, result = trial.candidate, trial.result
    measured = ("–",) * 4
    if result is not None:
        measured = (
            share(result.accuracy),
            f"{share(result.transfer)}, n = {result.transfer_n:,}",
            f"{result.cos_abs:.3f}",
            compact(result.macs),
        )
    return (
        SEARCHES[trial.search],
        candidate.number,
        candidate.generation + 1,
        candidate.operator.replace("+", " + "),
        _outcome(trial),
        *measured,
        brief(candidate.genotype),
    )


def _outcome(trial: CandidateTrial) -> str:
    result = trial.result
    if result is None or isinstance(result.stopped_after, UnsetType):
        return trial.entry.outcome
    return f"{trial.entry.outcome}, stopped after {plural(result.stopped_after, 'epoch')}"


def _folded(title: str, content: Markup) -> Markup:
    return Markup("<details><summary>{}</summary>{}</details>").format(title, content)
