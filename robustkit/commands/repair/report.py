"""The report of a repair: the effect of the patch, the search, and examples of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup
from torch import Tensor

from robustkit.commands.repair.pipeline import KINDS, load_examples
from robustkit.commands.repair.result import AttackSteps, RunResult, Summary, read
from robustkit.data import to_unit
from robustkit.repair import RepairMetrics
from robustkit.repair.repair import Interval
from robustkit.report import (
    PALETTE,
    Section,
    cards,
    chart,
    duration,
    eps_text,
    figure,
    image_uri,
    percent,
    percent_of,
    svg,
    table,
    write_page,
)
from robustkit.report.pictures import picture
from robustkit.report.sections import settings_section
from robustkit.runs import RunFolder
from robustkit.runs.summaries import DataSettings, read_settings, where_of


def trace_figure(runs: Sequence[RunResult]) -> Markup:
    """Return a chart of the best fitness over iterations, a line for each run."""

    with chart(6.4, 2.8) as drawing:
        axes = drawing.subplots()
        for run in runs:
            trace = [math.nan if fitness is None else fitness for fitness in run.trace]
            axes.plot(range(1, len(trace) + 1), trace, color=PALETTE[0], alpha=0.7)
            if (before := run.fitness_before) is not None:
                axes.axhline(before, color=PALETTE[-1], linewidth=1, linestyle="--")
        axes.set(xlabel="iteration", ylabel="fitness")
        return svg(drawing, alt="best fitness over the iterations of each run")


def runs_figure(summary: Summary) -> Markup:
    """Return a chart of RR over BR of every run, and of accuracies, repaired on and held out."""

    with chart(7.2, 3.0) as drawing:
        rates, boxes = drawing.subplots(1, 2, width_ratios=(3, 2))
        sets: dict[str, list[RepairMetrics]] = {"repaired on": [*summary.runs]}
        if summary.held_out is not None:
            sets["held out"] = [run.held_out for run in summary.runs if run.held_out is not None]
        accuracies, before = [], []
        for colour, (name, runs) in zip(PALETTE, sets.items(), strict=False):
            pairs = [(run.rr, run.br) for run in runs]
            known = [(rr, br) for rr, br in pairs if rr is not None and br is not None]
            rates.scatter(
                [100 * rr for rr, _ in known],
                [100 * br for _, br in known],
                color=colour,
                label=name,
            )
            accuracies.append([100 * run.acc_after for run in runs])
            before.append(100 * runs[0].acc_before)
        rates.set(xlabel="repair rate, %", ylabel="break rate, %")
        rates.margins(0.12)
        rates.set_xlim(left=0)
        rates.set_ylim(bottom=0)
        rates.legend()
        boxes.boxplot(accuracies, widths=0.5)
        boxes.set_xticks(range(1, len(sets) + 1), list(sets))
        for column, value in enumerate(before, start=1):
            boxes.hlines(value, column - 0.4, column + 0.4, color=PALETTE[1], linestyle="--")
        boxes.set(ylabel="accuracy, %")
        return svg(drawing, alt="repair and break rates, and accuracies, of every run")


SIDE = 84  # pixels of the page


def gallery_section(folder: RunFolder, summary: Summary) -> Section:
    """Return the section of the first images repaired, and the first broken."""
    kept, classes = load_examples(folder)
    totals = {
        "repaired": len(summary.repaired_indices),
        "broken": len(summary.broken_indices),
    }
    html = Markup()
    for kind in KINDS:
        shown, total = len(kept[f"{kind}.index"]), totals[kind]
        html += Markup("<h3>{}</h3>").format(f"{kind.capitalize()}: {shown} of {total:,}")
        html += _images(kept, kind, classes) if shown else Markup("<p>None.</p>")
    note = "Their class, and the predictions before and after."
    return Section("images", "Images", html, note)


def _images(kept: dict[str, Tensor], kind: str, classes: list[str]) -> Markup:
    figures = Markup()
    for row in range(len(kept[f"{kind}.index"])):
        pixels = picture(to_unit(kept[f"{kind}.image"][row]))
        true, before, after = (
            classes[int(kept[f"{kind}.{name}"][row])] for name in ("labels", "before", "after")
        )
        scale = max(1, round(2 * SIDE / max(pixels.shape[:2])))
        figures += Markup(
            '<div style="width:{}px">'
            '<img src="{}" alt="{}" width="{}" height="{}" style="display:block">'
            "<small><b>{}</b><br>{} → {}<br>image {}</small></div>"
        ).format(
            SIDE + 24,
            image_uri(pixels, scale),
            true,
            SIDE,
            SIDE,
            true,
            before,
            after,
            int(kept[f"{kind}.index"][row]),
        )
    return Markup('<div style="display:flex;flex-wrap:wrap;gap:12px">{}</div>').format(figures)


def write_report(folder: RunFolder) -> Path:
    """Write `report.html` from the contents of the folder; return its path.

    Raises `RunError` when the repair has not finished.
    """
    summary, settings = read(folder), read_settings(folder, DataSettings)
    sections = [
        _metrics(summary),
        *_localisation(summary),
        *_search(summary),
        *_runs(summary),
        _classes(summary),
        gallery_section(folder, summary),
        *_side_effects(folder, summary),
        settings_section(folder.config),
    ]
    subtitle = (
        f"{summary.method}, {summary.n_neg:,} failures of {settings.data}; "
        f"{duration(summary.seconds)}"
    )
    return write_page(folder, "Repair", sections, subtitle=subtitle)


def _metrics(summary: Summary) -> Section:
    sets = {"repaired on": summary, "held out": summary.held_out}
    rows = [
        [
            name,
            f"{metrics.n:,}",
            _exact(metrics.acc_before),
            _exact(metrics.acc_after),
            _rate(metrics.rr, metrics.rr_interval, metrics.n_neg),
            _rate(metrics.br, metrics.br_interval, metrics.n_pos),
        ]
        for name, metrics in sets.items()
        if metrics is not None
    ]
    html = cards(
        [
            ("weights changed", summary.changed, _layers(summary)),
            ("failures repaired", len(summary.repaired_indices), f"of {summary.n_neg:,}"),
            ("successes broken", len(summary.broken_indices), f"of {summary.n_pos:,}"),
        ]
    )
    html += table(["images", "n", "accuracy before", "after", "repair rate", "break rate"], rows)
    notes = [
        "Repair rate: failures that are right now; break rate: images that were right and are "
        "wrong now; with 95 % Wilson intervals."
    ]
    if summary.held_out is None:
        notes.append(
            "Evaluated on the very images that were repaired on, as in the source: the rates say "
            "nothing about other images."
        )
    elif summary.held_out.dropped:
        notes.append(
            f"{summary.held_out.dropped:,} held-out images were left out, being among those "
            "repaired on."
        )
    if summary.unchanged:
        notes.append("Nothing was fitter than the model as it is: the patch is empty.")
    return Section("figures", "What the repair did", html, " ".join(notes))


def _layers(summary: Summary) -> str:
    layers = ", ".join(f"{count:,} in {name}" for name, count in summary.localised.items())
    return f"chosen: {layers}" if layers else "by gradient descent"


def _localisation(summary: Summary) -> list[Section]:
    located = summary.localisation
    if located is None:
        return []
    counts = {
        "neg": summary.n_neg,
        "pos": summary.n_pos,
        "deg": summary.n_deg,
        "imp": summary.n_imp,
    }
    meanings = {
        "neg": "failures to be repaired",
        "pos": "right",
        "deg": "right at the checkpoint before, wrong now",
        "imp": "wrong at the checkpoint before, right now",
    }
    html = table(["images", "n", ""], [[k, counts[k], meanings[k]] for k in counts])
    html += table(["set of weights", "size"], [[k, v] for k, v in located.sizes.items()])
    html += table(["layer", "weights chosen"], [[k, v] for k, v in summary.localised.items()])
    for note in located.notes:
        html += Markup("<p>{}</p>").format(note)
    note = f"N_g, how many weights a ranking takes: {located.top:,}."
    return [Section("localisation", "Which weights", html, note)]


def _search(summary: Summary) -> list[Section]:
    if not any(run.trace for run in summary.runs):
        return []
    caption = (
        "Fitness of the best candidate so far, iteration by iteration; dashed, the model as it is. "
        f"Candidates were scored by: {summary.scored_by}."
    )
    return [Section("search", "The search", figure(trace_figure(summary.runs), caption))]


def _runs(summary: Summary) -> list[Section]:
    if len(summary.runs) < 2:
        return []
    caption = (
        "Left: repair rate over break rate of every run. Right: accuracy after the repair; dashed, "
        "before."
    )
    rows = [
        [
            f"{number}{' (chosen)' if number == summary.best else ''}",
            *_rates(run),
            *((None, None, None) if run.held_out is None else _rates(run.held_out)),
            run.iterations,
        ]
        for number, run in enumerate(summary.runs)
    ]
    headers = ["run", "accuracy", "RR", "BR", "held-out accuracy", "RR ", "BR ", "iterations"]
    html = figure(runs_figure(summary), caption) + table(headers, rows)
    note = "The run that gained most in fitness is chosen, on the images repaired on alone."
    return [Section("runs", "Every run", html, note)]


def _classes(summary: Summary) -> Section:
    rows: list[list[str | float | None]] = [
        [name, counts.n, counts.right_before, counts.right_after, counts.repaired, counts.broken]
        for name, counts in summary.per_class.items()
        if counts.repaired or counts.broken or counts.right_before != counts.right_after
    ]
    headers = ["class", "images", "right before", "right after", "repaired", "broken"]
    html = table(headers, rows) if rows else Markup("<p>No class changed.</p>")
    return Section("classes", "Class by class", html, "Classes in which anything changed.")


def _side_effects(folder: RunFolder, summary: Summary) -> list[Section]:
    effects = summary.side_effects
    if effects is None:
        return []
    attack = AttackSteps.from_json(effects.attack, where_of(folder))
    robust = table(
        ["model", f"accuracy under PGD-{attack.steps}"],
        [[name, percent_of(rate, with_n=True)] for name, rate in effects.robust.items()],
    )
    transfer = table(
        ["MI-FGSM made on, scored on", "fooled"],
        [[pair, percent_of(rate, with_n=True)] for pair, rate in effects.transfer.items()],
    )
    findings = Markup().join(
        Markup("<p>{}: {}: {}; {}</p>").format(name, finding.name, finding.seen, finding.means)
        for name, rate in effects.robust.items()
        for finding in rate.diagnostics
    )
    note = (
        f"On {effects.n:,} images at ε = {eps_text(effects.eps)}. A patch that moves few weights "
        "should leave both as they were; transfer is over the images both get right."
    )
    return [Section("attacks", "Under attack", robust + transfer + findings, note)]


def _rates(metrics: RepairMetrics) -> tuple[str | None, ...]:
    return _exact(metrics.acc_after), _exact(metrics.rr), _exact(metrics.br, 3)


def _exact(rate: float | None, digits: int = 2) -> str | None:
    return None if rate is None else f"{100 * rate:.{digits}f} %"


def _rate(rate: float | None, interval: Interval, among: int) -> Markup | str:
    return "– (n = 0)" if rate is None else percent(rate, *interval, among, digits=2)
