"""What became of every trial, and of those that failed, why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

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
    "final": "finalists",
    "judge": "verdicts",
}
PHASES = {
    "reference": "reference and baselines",
    "search": "evolution",
    "random_search": "random search",
    "promotion": "promoted candidates",
    "finalists": "finalists",
    "judging": "verdicts",
    "wall": "start to end, on the clock",
}
MANY = 12  # failures that are shown without being asked for


def outcomes_section(evidence: Evidence) -> Section:
    """Counts of outcomes, every failure with its reason, all candidates, and where time went."""
    failed = [trial for trial in evidence.trials if trial.outcome != "Ok"]
    cached = evidence.summary["trials_from_cache"]
    note = (
        f"{plural(evidence.summary['trials'], 'trial')} in the two searches, {cached or 'none'} of "
        "them answered from the ledger, the same network having been tried before. A trial that "
        "fails is recorded with its reason and never wins."
    )
    html = [
        _counts(evidence.trials),
        Markup("<h3>Failures</h3>"),
        _failures(failed),
        Markup("<h3>Time</h3>"),
        _times(evidence.summary["seconds"]),
        _folded("All candidates", _candidates(evidence.entries)),
    ]
    return Section("outcomes", "Outcomes", Markup("\n").join(html), note)


def _counts(trials: Sequence[Entry]) -> Markup:
    kinds = sorted({trial.outcome for trial in trials} - {"Ok"})
    counts = Counter((trial.arm, trial.outcome) for trial in trials)
    present = [arm for arm in ARMS if any(trial.arm == arm for trial in trials)]
    rows: list[tuple[str | int, ...]] = [
        (ARMS[arm], *(counts[arm, kind] for kind in ("Ok", *kinds))) for arm in present
    ]
    return table(("part of the run", "Ok", *kinds), rows)


def _failures(failed: Sequence[Entry]) -> Markup:
    if not failed:
        return Markup("<p>None: every trial ended well.</p>")
    rows = [
        (trial.id, trial.outcome, trial.reason, duration(trial.seconds), _network(trial))
        for trial in failed
    ]
    listed = table(("trial", "outcome", "reason", "after", "blocks"), rows)
    return listed if len(failed) <= MANY else _folded(plural(len(failed), "failure"), listed)


def _network(trial: Entry) -> str:
    genotype = trial.payload.get("genotype")
    return "–" if genotype is None else brief(Genotype.from_dict(genotype))


def _times(seconds: dict[str, float]) -> Markup:
    rows = [(PHASES.get(phase, phase), duration(spent)) for phase, spent in seconds.items()]
    caption = "Seconds of computation, summed over workers, but for the last."
    return table(("part of the run", "time"), rows, caption=caption)


def _candidates(entries: Sequence[CandidateTrial]) -> Markup:
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
    return table(headers, [_row(entry) for entry in entries])


def _row(entry: CandidateTrial) -> tuple[str | int, ...]:
    candidate, result = entry.candidate, entry.result
    measured = ("–",) * 4
    if result is not None:
        measured = (
            share(result["accuracy"]),
            f"{share(result['transfer'])}, n = {result['transfer_n']:,}",
            f"{result['cos_abs']:.3f}",
            compact(result["macs"]),
        )
    return (
        SEARCHES[entry.arm],
        candidate.number,
        candidate.generation + 1,
        candidate.operator.replace("+", " + "),
        entry.trial.outcome,
        *measured,
        brief(candidate.genotype),
    )


def _folded(title: str, content: Markup) -> Markup:
    return Markup("<details><summary>{}</summary>{}</details>").format(title, content)
