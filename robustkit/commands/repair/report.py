"""The report of a repair: what it mended, what it broke, and by what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup
from torch import Tensor

from robustkit.commands.repair.pipeline import KINDS, load_examples
from robustkit.commands.repair.result import (
    Interval,
    Outcome,
    RunResult,
    Settings,
    Summary,
    read_summary,
)
from robustkit.data import to_unit
from robustkit.report import (
    PALETTE,
    Section,
    cards,
    duration,
    figure,
    house_style,
    image_uri,
    percent,
    render_report,
    svg,
    table,
)
from robustkit.report.pictures import picture
from robustkit.report.sections import eps_text, settings_section
from robustkit.runs import RunFolder, write_text
from robustkit.runs.summaries import Rate, read_settings


def trace_figure(runs: Sequence[RunResult]) -> Markup:
    """Best fitness over iterations, a line for each run."""
    from matplotlib.figure import Figure

    with house_style():
        drawing = Figure(figsize=(6.4, 2.8), layout="constrained")
        axes = drawing.subplots()
        for run in runs:
            trace = [math.nan if each is None else each for each in run["trace"]]
            axes.plot(range(1, len(trace) + 1), trace, color=PALETTE[0], alpha=0.7)
            if (before := run["fitness_before"]) is not None:
                axes.axhline(before, color=PALETTE[-1], linewidth=1, linestyle="--")
        axes.set(xlabel="iteration", ylabel="fitness")
        return svg(drawing, alt="best fitness over the iterations of each run")


def runs_figure(summary: Summary) -> Markup:
    """RR over BR of every run, and a box of the accuracies, repaired on and held out."""
    from matplotlib.figure import Figure

    with house_style():
        drawing = Figure(figsize=(7.2, 3.0), layout="constrained")
        rates, boxes = drawing.subplots(1, 2, width_ratios=(3, 2))
        sets: dict[str, list[Outcome]] = {"repaired on": [*summary["runs"]]}
        if summary["held_out"] is not None:
            others = (run["held_out"] for run in summary["runs"])
            sets["held out"] = [each for each in others if each is not None]
        accuracies, before = [], []
        for colour, (name, runs) in zip(PALETTE, sets.items(), strict=False):
            told = [(run["rr"], run["br"]) for run in runs]
            known = [(rr, br) for rr, br in told if rr is not None and br is not None]
            rates.scatter(
                [100 * rr for rr, _ in known],
                [100 * br for _, br in known],
                color=colour,
                label=name,
            )
            accuracies.append([100 * run["acc_after"] for run in runs])
            before.append(100 * runs[0]["acc_before"])
        rates.set(xlabel="repair rate, %", ylabel="break rate, %")
        rates.margins(0.12)
        rates.set_xlim(left=0)
        rates.set_ylim(bottom=0)
        rates.legend()
        boxes.boxplot(accuracies, widths=0.5)
        boxes.set_xticks(range(1, len(sets) + 1), list(sets))
        for place, value in enumerate(before, start=1):
            boxes.hlines(value, place - 0.4, place + 0.4, color=PALETTE[1], linestyle="--")
        boxes.set(ylabel="accuracy, %")
        return svg(drawing, alt="repair and break rates, and accuracies, of every run")


SIDE = 84  # pixels of the page


def gallery_section(folder: RunFolder, summary: Summary) -> Section:
    """The first images repaired, and the first broken."""
    kept, classes = load_examples(folder)
    totals = {
        "repaired": len(summary["repaired_indices"]),
        "broken": len(summary["broken_indices"]),
    }
    html = Markup()
    for kind in KINDS:
        shown, total = len(kept[f"{kind}.index"]), totals[kind]
        html += Markup("<h3>{}</h3>").format(f"{kind.capitalize()}: {shown} of {total:,}")
        html += _images(kept, kind, classes) if shown else Markup("<p>None.</p>")
    note = "Their class, and what the model said before and after."
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
    """Draw `report.html` from what the folder holds; returns its path.

    Raises `RunError` when the repair has not finished.
    """
    summary, settings = read_summary(folder), read_settings(folder, Settings)
    sections = [
        _figures(summary),
        *_localisation(summary),
        *_search(summary),
        *_runs(summary),
        _classes(summary),
        gallery_section(folder, summary),
        *_side_effects(summary),
        settings_section(folder.config),
    ]
    page = render_report(
        "Repair",
        sections,
        subtitle=f"{summary['method']}, {summary['n_neg']:,} failures of {settings['data']}; "
        f"{duration(summary['seconds'])}",
        env=folder.env,
        command=folder.command,
    )
    path = folder.file("report.html")
    write_text(path, page)
    return path


def _figures(summary: Summary) -> Section:
    sets: dict[str, Outcome | None] = {"repaired on": summary, "held out": summary["held_out"]}
    rows = [
        [
            name,
            f"{found['n']:,}",
            _exact(found["acc_before"]),
            _exact(found["acc_after"]),
            _rate(found["rr"], found["rr_interval"], found["n_neg"]),
            _rate(found["br"], found["br_interval"], found["n_pos"]),
        ]
        for name, found in sets.items()
        if found is not None
    ]
    html = cards(
        [
            ("weights changed", summary["changed"], _where(summary)),
            ("failures repaired", len(summary["repaired_indices"]), f"of {summary['n_neg']:,}"),
            ("successes broken", len(summary["broken_indices"]), f"of {summary['n_pos']:,}"),
        ]
    )
    html += table(["images", "n", "accuracy before", "after", "repair rate", "break rate"], rows)
    notes = [
        "Repair rate: failures that are right now; break rate: images that were right and are "
        "wrong now; with 95 % Wilson intervals."
    ]
    if summary["held_out"] is None:
        notes.append(
            "Judged on the very images that were repaired on, as the source does: the figures say "
            "nothing of other images."
        )
    elif summary["held_out"]["dropped"]:
        notes.append(
            f"{summary['held_out']['dropped']:,} held-out images were left out, being among those "
            "repaired on."
        )
    if summary["unchanged"]:
        notes.append("Nothing was fitter than the model as it is: the patch is empty.")
    return Section("figures", "What the repair did", html, " ".join(notes))


def _where(summary: Summary) -> str:
    layers = ", ".join(f"{count:,} in {name}" for name, count in summary["localised"].items())
    return f"chosen: {layers}" if layers else "by gradient descent"


def _localisation(summary: Summary) -> list[Section]:
    located = summary["localisation"]
    if located is None:
        return []
    counts = {
        "neg": summary["n_neg"],
        "pos": summary["n_pos"],
        "deg": summary["n_deg"],
        "imp": summary["n_imp"],
    }
    meanings = {
        "neg": "failures to be repaired",
        "pos": "right",
        "deg": "right at the checkpoint before, wrong now",
        "imp": "wrong at the checkpoint before, right now",
    }
    html = table(["images", "n", ""], [[k, counts[k], meanings[k]] for k in counts])
    html += table(["set of weights", "size"], [[k, v] for k, v in located["sizes"].items()])
    html += table(["layer", "weights chosen"], [[k, v] for k, v in summary["localised"].items()])
    for note in located["notes"]:
        html += Markup("<p>{}</p>").format(note)
    note = f"N_g, how many weights a ranking takes: {located['top']:,}."
    return [Section("localisation", "Which weights", html, note)]


def _search(summary: Summary) -> list[Section]:
    if not any(run["trace"] for run in summary["runs"]):
        return []
    caption = (
        "Fitness of the best candidate so far, iteration by iteration; dashed, the model as it is. "
        f"Candidates were scored by: {summary['scored_by']}."
    )
    return [Section("search", "The search", figure(trace_figure(summary["runs"]), caption))]


def _runs(summary: Summary) -> list[Section]:
    if len(summary["runs"]) < 2:
        return []
    caption = (
        "Left: repair rate over break rate of every run. Right: accuracy after the repair; dashed, "
        "before."
    )
    rows = [
        [
            f"{number}{' (chosen)' if number == summary['best'] else ''}",
            _exact(run["acc_after"]),
            _exact(run["rr"]),
            _exact(run["br"], 3),
            *(
                (None, None, None)
                if run["held_out"] is None
                else (
                    _exact(run["held_out"]["acc_after"]),
                    _exact(run["held_out"]["rr"]),
                    _exact(run["held_out"]["br"], 3),
                )
            ),
            run["iterations"],
        ]
        for number, run in enumerate(summary["runs"])
    ]
    headers = ["run", "accuracy", "RR", "BR", "held-out accuracy", "RR ", "BR ", "iterations"]
    html = figure(runs_figure(summary), caption) + table(headers, rows)
    note = "The run that gained most in fitness is chosen, on the images repaired on alone."
    return [Section("runs", "Every run", html, note)]


def _classes(summary: Summary) -> Section:
    rows: list[list[str | float | None]] = [
        [
            name,
            each["n"],
            each["right_before"],
            each["right_after"],
            each["repaired"],
            each["broken"],
        ]
        for name, each in summary["per_class"].items()
        if each["repaired"] or each["broken"] or each["right_before"] != each["right_after"]
    ]
    headers = ["class", "images", "right before", "right after", "repaired", "broken"]
    html = table(headers, rows) if rows else Markup("<p>No class changed.</p>")
    return Section("classes", "Class by class", html, "Classes in which anything changed.")


def _side_effects(summary: Summary) -> list[Section]:
    found = summary["side_effects"]
    if found is None:
        return []
    robust = table(
        ["model", f"accuracy under PGD-{found['attack']['steps']}"],
        [[name, _interval(rate)] for name, rate in found["robust"].items()],
    )
    transfer = table(
        ["MI-FGSM made on, scored on", "misled"],
        [[pair, _interval(rate)] for pair, rate in found["transfer"].items()],
    )
    doubts = Markup().join(
        Markup("<p>{}: {}: {}; {}</p>").format(name, each["name"], each["seen"], each["means"])
        for name, rate in found["robust"].items()
        for each in rate["diagnostics"]
    )
    note = (
        f"On {found['n']:,} images at ε = {eps_text(found['eps'])}. A patch that moves few weights "
        "should leave both as they were; transfer is over the images both get right."
    )
    return [Section("attacks", "Under attack", robust + transfer + doubts, note)]


def _exact(rate: float | None, digits: int = 2) -> str | None:
    return None if rate is None else f"{100 * rate:.{digits}f} %"


def _rate(rate: float | None, interval: Interval, among: int) -> Markup | str:
    low, high = interval
    if rate is None or low is None or high is None:
        return "– (n = 0)"
    return Markup("{} <small>[{}, {}], n = {}</small>").format(
        f"{100 * rate:.2f} %", f"{100 * low:.2f}", f"{100 * high:.2f}", f"{among:,}"
    )


def _interval(rate: Rate) -> Markup:
    return percent(rate["rate"], rate["low"], rate["high"], rate["n"])
