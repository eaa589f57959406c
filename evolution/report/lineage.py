"""The family tree of E: its ancestors, the operators that bred them, and their outcomes."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from evolution import Candidate, pedigree
from evolution.report.comparison import BLUE, RED
from evolution.report.format import architecture_lines, brief, compact, measures_text, plural, share
from evolution.report.graph import box, path, sketch, text
from evolution.report.run_data import PRESET, CandidateTrial, Evidence
from robustkit.report import Section, figure, table

WIDE, HIGH, ACROSS, DOWN, LEFT = 150, 60, 12, 46, 96


def family_section(evidence: Evidence) -> Section:
    """Return the ancestors of E by generation; its offspring where it has none."""
    members = {trial.candidate.number: trial for trial in evidence.longest_of("evolve")}
    evolved = evidence.selected("E")
    number = evolved.candidate.number
    ancestry = pedigree([trial.candidate for trial in members.values()], number)
    family = [members[candidate.number] for candidate in ancestry]
    if len(family) > 1:
        note = (
            f"E is candidate {number}, of generation {evolved.candidate.generation + 1}: "
            f"{plural(len(family) - 1, 'ancestor')}, {_origins(family)}."
        )
    else:
        children = [trial for trial in members.values() if number in trial.candidate.parents]
        family += children
        note = f"E is candidate {number}, {origin(evolved.candidate)} {_offspring(children)}"
    caption = (
        f"Accuracy and transfer (T) are validation's, {_budget(evidence)}. Lines run from "
        "parent to child; the operator is how the child was bred. Point at or click a box for "
        "the architecture."
    )
    details = Markup("<details><summary>The family as a table</summary>{}</details>")
    html = figure(_drawn(family, number), caption) + details.format(_table(family, number))
    return Section("family", "Family tree of E", html, note)


def _budget(evidence: Evidence) -> str:
    if not evidence.lower:
        return "at the budget of a trial"
    return "after as many epochs as a candidate got, in brackets where fewer than a trial's"


def _origins(family: Sequence[CandidateTrial]) -> str:
    """Return how many of E's ancestors were sampled, and how many the search was given."""
    first = [trial.candidate for trial in family[:-1] if not trial.candidate.parents]
    given = sum(candidate.operator.startswith(PRESET) for candidate in first)
    words = f"{len(first) - given} of them sampled at random"
    if given:
        words += f", {given} from R's own architecture or nets of known families"
    return words


def origin(candidate: Candidate) -> str:
    """Return how a search came by a candidate without parents."""
    if candidate.operator == PRESET:
        return (
            "R's own architecture or a net of a known family, from which both searches start: no "
            "variation was involved."
        )
    if candidate.operator.startswith(PRESET):
        return "a mutation of R's own architecture, from which the search starts."
    return (
        f"sampled at random in generation {candidate.generation + 1}: it has no parents, and no "
        "variation was involved."
    )


def _offspring(children: Sequence[CandidateTrial]) -> str:
    if not children:
        return "Nothing was bred from it."
    return f"Shown with it: {plural(len(children), 'candidate')} bred from it."


def _drawn(family: Sequence[CandidateTrial], number: int) -> Markup:
    rows = _rows(family)
    widest = max(len(row) for row in rows)
    width = LEFT + max(widest * (WIDE + ACROSS), 260)
    height = len(rows) * (HIGH + DOWN) - DOWN + 8
    at: dict[int, tuple[float, float]] = {}
    for index, row in enumerate(rows):
        start = LEFT + (width - LEFT - len(row) * (WIDE + ACROSS) + ACROSS) / 2
        for column, trial in enumerate(row):
            at[trial.candidate.number] = (
                start + column * (WIDE + ACROSS),
                4 + index * (HIGH + DOWN),
            )
    parts = [
        _edge(at[parent], at[trial.candidate.number])
        for trial in family
        for parent in trial.candidate.parents
        if parent in at
    ]
    for index, row in enumerate(rows):
        label = f"generation {row[0].candidate.generation + 1}"
        middle = 4 + index * (HIGH + DOWN) + HIGH / 2 + 4
        parts.append(text(0, middle, label, quiet=True, anchor="start"))
    parts += [_box(trial, at[trial.candidate.number], number) for trial in family]
    return sketch(width, height, parts, alt=f"Family tree of candidate {number}")


def _rows(family: Sequence[CandidateTrial]) -> list[list[CandidateTrial]]:
    """Return the family by generation, every member near the middle of its parents."""
    generations: dict[int, list[CandidateTrial]] = {}
    for trial in family:
        generations.setdefault(trial.candidate.generation, []).append(trial)
    centres: dict[int, float] = {}

    def pull(trial: CandidateTrial) -> tuple[float, int]:
        centres_of_parents = [
            centres[parent] for parent in trial.candidate.parents if parent in centres
        ]
        return (
            sum(centres_of_parents) / len(centres_of_parents) if centres_of_parents else 0.5,
            trial.candidate.number,
        )

    rows = []
    for _, members in sorted(generations.items()):
        row = sorted(members, key=pull)
        centres.update(
            {trial.candidate.number: (i + 0.5) / len(row) for i, trial in enumerate(row)}
        )
        rows.append(row)
    return rows


def _edge(parent: tuple[float, float], child: tuple[float, float]) -> Markup:
    x0, y0 = parent[0] + WIDE / 2, parent[1] + HIGH
    x1, y1 = child[0] + WIDE / 2, child[1]
    middle = (y1 - y0) / 2
    return path(
        f"M{x0:.1f},{y0:.1f} C{x0:.1f},{y0 + middle:.1f} {x1:.1f},{y1 - middle:.1f} "
        f"{x1:.1f},{y1:.1f}"
    )


def _box(trial: CandidateTrial, at: tuple[float, float], number: int) -> Markup:
    candidate = trial.candidate
    result = trial.result
    name = f"{candidate.number}{' = E' if candidate.number == number else ''}{_fewer(trial)}"
    numbers = (
        trial.entry.outcome
        if result is None
        else f"{share(result.accuracy)} · T {share(result.transfer)}"
    )
    operator = candidate.operator
    shown = operator if len(operator) <= 22 else f"{operator[:21]}…"
    measured = trial.entry.reason if result is None else measures_text(result)
    tip = "\n".join(
        [
            f"candidate {name}, by {operator}{_from(trial)}",
            measured,
            "",
            *architecture_lines(candidate.genotype),
        ]
    )
    strong = candidate.number == number
    colour = BLUE if strong else RED if result is None else "var(--line)"
    return box(*at, WIDE, HIGH, [name, numbers, shown], tip=tip, colour=colour, strong=strong)


def _fewer(trial: CandidateTrial) -> str:
    return "" if trial.epochs is None else f" ({plural(trial.epochs, 'epoch')})"


def _from(trial: CandidateTrial) -> str:
    parents = trial.candidate.parents
    return f" from {' and '.join(map(str, parents))}" if parents else ""


def _table(family: Sequence[CandidateTrial], number: int) -> Markup:
    headers = (
        "candidate",
        "generation",
        "parents",
        "operator",
        "accuracy",
        "transfer",
        "MACs",
        "blocks",
    )
    rows = []
    for trial in family:
        candidate, result = trial.candidate, trial.result
        rows.append(
            (
                f"{candidate.number}{' = E' if candidate.number == number else ''}{_fewer(trial)}",
                candidate.generation + 1,
                ", ".join(map(str, candidate.parents)) or "–",
                candidate.operator.replace("+", " + "),
                share(result.accuracy) if result else trial.entry.outcome,
                share(result.transfer if result else None),
                compact(result.macs) if result else "–",
                brief(candidate.genotype),
            )
        )
    strong = [i for i, trial in enumerate(family) if trial.candidate.number == number]
    return table(headers, rows, strong=strong)
