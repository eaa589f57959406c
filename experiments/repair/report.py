"""The report of a repair: what it mended, what it broke, and by what."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from experiments.pages import eps_text, settings_section
from experiments.repair.drawings import runs_figure, trace_figure
from experiments.repair.gallery import gallery_section
from experiments.repair.result import Interval, Outcome, Settings, Summary, read_summary
from experiments.summaries import Rate, read_settings
from robustkit.runs import RunFolder, write_text
from robustkit.runs.report import Section, cards, duration, figure, percent, render_report, table


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
