"""The report of an evaluation: robust accuracy, its curve over ε, and what casts doubt on it."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from robustkit.commands.attack.result import RobustRate, Summary, read
from robustkit.report import (
    Section,
    chart,
    duration,
    eps_text,
    figure,
    label,
    percent_of,
    svg,
    table,
    write_page,
)
from robustkit.report.sections import settings_section, space_section, warnings_section
from robustkit.runs import RunFolder
from robustkit.runs.summaries import DataSettings, read_settings
from robustkit.stats import KnownRate


def write_report(folder: RunFolder) -> Path:
    """Draw `report.html` from the folder's summary; returns its path.

    Raises `RunError` when the evaluation has not finished, and, naming the entry, for
    what was edited in its files.
    """
    summary = read(folder)
    data = read_settings(folder, DataSettings).data
    sections = [
        *warnings_section({name: model.warnings for name, model in summary.models.items()}),
        _accuracies(summary),
        *([_curve(summary)] if len(summary.eps) > 1 else []),
        _doubts(summary),
        *space_section(summary.pixel_space),
        settings_section(folder.config),
    ]
    return write_page(
        folder,
        "Robust accuracy",
        sections,
        subtitle=f"{summary.n:,} images of {data} in {duration(summary.seconds.total)}",
    )


def _accuracies(summary: Summary) -> Section:
    """One row per net and radius: clean, after each attack in turn, and after all."""
    specs = summary.attacks
    headers = ["net", "ε", "clean accuracy", *(f"after {spec}" for spec in specs), "doubts"]
    rows = []
    for name, model in summary.models.items():
        for point in model.curve:
            after = [percent_of(point.per_attack[spec]) for spec in specs]
            clean = percent_of(model.clean)
            doubts = len(model.diagnostics) or "none"
            rows.append([name, eps_text(point.eps), clean, *after, doubts])
    note = (
        f"Share of all {summary.n:,} images that the net still classifies correctly, with its "
        "95 % Wilson interval. Each attack sees only what the ones before it have left, and what "
        "fell within a smaller ε counts as fallen within a larger one; the last column of accuracy "
        "is the worst case over all."
    )
    return Section("robust", "Robust accuracy", table(headers, rows), note)


def _curve(summary: Summary) -> Section:

    with chart(6.4, 3.4) as drawing:
        axes = drawing.subplots()
        for name, model in summary.models.items():
            points: list[tuple[float, KnownRate | RobustRate]] = [(0.0, model.clean)]
            points += [(each.eps, each) for each in model.curve]
            radii = [eps for eps, _ in points]
            accuracies = [point.value for _, point in points]
            (line,) = axes.plot(radii, accuracies, marker="o", label=label(name))
            lows = [point.low for _, point in points]
            highs = [point.high for _, point in points]
            axes.fill_between(radii, lows, highs, color=line.get_color(), alpha=0.15, linewidth=0)
        axes.set(xlabel=label(f"ε ({summary.norm})"), ylabel="robust accuracy", ylim=(0, 1))
        axes.set_xticks([0.0, *summary.eps], ["0", *map(eps_text, summary.eps)])
        axes.legend()
        drawn = svg(drawing, alt="robust accuracy of each net over the radius of the attack")
    caption = "Bands are 95 % intervals; at ε = 0 stands the clean accuracy."
    return Section("curve", "Over ε", figure(drawn, caption))


def _doubts(summary: Summary) -> Section:
    rows = [
        [name, finding.name, finding.seen, finding.means]
        for name, model in summary.models.items()
        for finding in model.diagnostics
    ]
    note = (
        "Zero gradients, softmax outputs, random answers, one step beating ten, blind search "
        "beating gradients, accuracy that does not fall with ε, broken rules, train mode."
    )
    html = (
        table(["net", "finding", "seen", "what it means"], rows)
        if rows
        else Markup("<p>None of the checks found anything.</p>")
    )
    return Section("doubts", "Are the figures evidence?", html, note)
