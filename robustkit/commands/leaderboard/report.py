"""The page of a leaderboard, and its tables for other tools."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from markupsafe import Markup

from robustkit.commands.leaderboard.result import Entry, Summary, in_order, read
from robustkit.report import (
    PALETTE,
    Section,
    chart,
    duration,
    eps_text,
    figure,
    format_percent,
    label,
    svg,
    table,
    write_page,
)
from robustkit.report.sections import settings_section, space_section, warnings_section
from robustkit.runs import RunFolder
from robustkit.runs.summaries import DataSettings, read_settings

NOTE = (
    "Success: the share of the images that all nets classify correctly on which a net errs that is "
    "not the attack's source (nor has its weights), the mean over pairs, with a 95 % interval over "
    "images. Ranks: an attack is ahead of another where their difference, image by image, is "
    "beyond doubt at 5 % for all pairs of attacks together (Holm); those that cannot be told apart "
    "share ranks. Seconds and passes are of one image and one source, on the device that is named."
)


def write_report(folder: RunFolder) -> Path:
    """Draw `report.html` from what the folder holds and return its path.

    Raises `RunError` when the leaderboard has not finished, and, naming the entry, for what was
    edited in its files.
    """
    summary = read(folder)
    data = read_settings(folder, DataSettings).data
    sections = [
        *warnings_section(summary.warnings),
        _ranking(summary),
        cost_section(summary),
        *_pairs(summary),
        *_refused(summary),
        _nets(summary),
        *space_section(summary.pixel_space),
        settings_section(folder.config),
    ]
    return write_page(
        folder,
        "Leaderboard of transfer attacks",
        sections,
        subtitle=f"{len(summary.attacks)} attacks at {summary.norm} ε = {eps_text(summary.eps)}; "
        f"{summary.n:,} images of {data}; {duration(summary.seconds.total)}",
    )


def ranks_of(entry: Entry) -> str:
    """Return the ranks that an attack may have: "1", "2–5", or a dash without any."""
    if entry.best is None:
        return "–"
    return str(entry.best) if entry.best == entry.worst else f"{entry.best}–{entry.worst}"


def table_rows(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of plain values, best first: what `leaderboard.csv` holds."""
    pairs = [(source, target) for source in summary.sources for target in summary.targets]
    head = ["attack", "best_rank", "worst_rank", "success", "low", "high", "n"]
    head += ["seconds_per_image", "passes_per_image", *(f"{a} -> {b}" for a, b in pairs)]
    rows = []
    for name in in_order(summary):
        entry = summary.attacks[name]
        score = entry.score
        found = [] if score is None else [score.value, score.low, score.high, score.n]
        cells = [
            entry.cells[a][b].value if a in entry.cells and b in entry.cells[a] else None
            for a, b in pairs
        ]
        values = [entry.best, entry.worst, *(found or [None] * 4), entry.seconds, entry.passes]
        rows.append([name, *(_plain(value) for value in (*values, *cells))])
    return head, rows


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def latex(summary: Summary) -> str:
    """Return the ranking as a LaTeX table, for `booktabs`."""
    lines = [r"\begin{tabular}{llrr}", r"\toprule", r"rank & attack & success (\%) & s/image \\"]
    lines.append(r"\midrule")
    for name in in_order(summary):
        entry = summary.attacks[name]
        score = "--" if entry.score is None else format_percent(entry.score)
        seconds = "--" if entry.seconds is None else f"{entry.seconds:.2g}"
        cells = (ranks_of(entry).replace("–", "--"), _texed(name), _texed(score), seconds)
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _texed(text: str) -> str:
    for plain, written in (("\\", r"\textbackslash{}"), ("%", r"\%"), ("&", r"\&"), ("_", r"\_"),
                           ("#", r"\#"), ("−", "$-$"), ("–", "--")):  # fmt: skip
        text = text.replace(plain, written)
    return text


def _ranking(summary: Summary) -> Section:
    rows = []
    for name in in_order(summary):
        entry = summary.attacks[name]
        score = "–" if entry.score is None else format_percent(entry.score)
        rows.append((name, ranks_of(entry), score, _number(entry.seconds), _number(entry.passes)))
    head = ("attack", "rank", "success, %", "seconds an image", "passes an image")
    caption = f"n = {summary.n_common:,} images; {summary.device}."
    html = _bars(summary) + table(head, rows, caption=caption, sortable=True)
    return Section("ranking", "Ranking", html, NOTE)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _scored(summary: Summary) -> list[tuple[str, Entry]]:
    entries = [(name, summary.attacks[name]) for name in in_order(summary)]
    return [(name, each) for name, each in entries if each.score is not None]


def _bars(summary: Summary) -> Markup:
    """Draw the successes with their intervals, best above."""
    scored = _scored(summary)
    if not scored:
        return Markup("")
    widest = max(len(name) for name, _ in scored)
    with chart(5.5 + 0.07 * widest, 0.24 * len(scored) + 0.8) as drawing:
        axes: Any = drawing.subplots()
        for place, (_, entry) in enumerate(scored):
            score = entry.score
            assert score is not None
            assert score.value is not None
            middle = 100 * score.value
            low, high = (100 * (score.value if v is None else v) for v in (score.low, score.high))
            axes.errorbar(middle, place, xerr=[[middle - low], [high - middle]], fmt="o",
                          color=PALETTE[0], markersize=4, elinewidth=1.2)  # fmt: skip
        axes.set_yticks(range(len(scored)), [label(name) for name, _ in scored])
        axes.invert_yaxis()
        axes.set_xlabel("success on nets other than the source, %")
        alt = "success of every attack with its interval, best first"
        return figure(svg(drawing, alt=alt), "Success with 95 % intervals over images.")


def cost_section(summary: Summary) -> Section:
    """Return what success costs: passes against success."""
    known = [
        (name, entry)
        for name, entry in _scored(summary)
        if entry.passes and entry.score is not None
    ]
    if not known:
        html = Markup("<p>Every set was in the cache already: what they took is not known.</p>")
        return Section("cost", "What success costs", html)
    tips = {}
    with chart(7.4, 4.6) as drawing:
        axes: Any = drawing.subplots()
        axes.set_xscale("log")
        axes.set(xlabel="forward passes an image (logarithmic)", ylabel="success, %")
        texts = []
        for number, group in enumerate(_in_places(known)):
            (name, place), *others = group.items()
            (dot,) = axes.plot(*place, "o", color=PALETTE[0], markersize=5)
            dot.set_gid(f"cost-{number}")
            tips[f"cost-{number}"] = "\n".join(
                f"{each}: {value:.1f} %, {passes:.3g} passes"
                for each, (passes, value) in group.items()
            )
            text = label(name) + (f" and {len(others)} more" if others else "")
            texts.append(axes.annotate(text, place, fontsize=7, xytext=(4, 3),
                                       textcoords="offset points"))  # fmt: skip
        _hide_overlapping(drawing, texts)
        alt = "success of every attack against its forward passes per image"
        caption = (
            "Most passes have a backward one. Names stand where there is room; each dot tells its "
            "own when it is pointed at."
        )
        drawn = figure(svg(drawing, alt=alt, tips=tips), caption)
    return Section("cost", "What success costs", drawn)


def _in_places(known: list[tuple[str, Entry]]) -> list[dict[str, tuple[float, float]]]:
    """Return passes and success in percent by attack, those that would hide each other together."""
    groups: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    for name, entry in known:
        assert entry.score is not None
        assert entry.passes is not None
        passes, value = entry.passes, 100 * (entry.score.value or 0.0)
        groups.setdefault((f"{passes:.2g}", f"{value:.1f}"), {})[name] = (passes, value)
    return list(groups.values())


def _hide_overlapping(drawing: Any, texts: Iterable[Any]) -> None:
    """Leave out the texts that would lie on one before them."""
    drawing.draw_without_rendering()
    shown: list[Any] = []
    for text in texts:
        box = text.get_window_extent()
        if any(box.overlaps(other) for other in shown):
            text.set_visible(False)
        else:
            shown.append(box)


def _pairs(summary: Summary) -> Iterable[Section]:
    """Yield success by source and target, in percent."""
    parts = []
    for source in summary.sources:
        rows = []
        for name in in_order(summary):
            cells = summary.attacks[name].cells.get(source)
            if cells is not None:
                rates = [cells[target] for target in summary.targets]
                rows.append((name, *(format_percent(rate) for rate in rates)))
        if rows:
            heads = [f"{each} (itself)" if each == source else each for each in summary.targets]
            parts.append(table(("attack", *heads), rows, caption=f"Made on {source}."))
    if parts:
        note = "Over the images that all nets get right, in percent, with Wilson's intervals."
        yield Section("pairs", "Source by source", Markup("\n").join(parts), note)


def _refused(summary: Summary) -> Iterable[Section]:
    """Yield which attacks some sources do not admit, and why."""
    rows = [
        (name, source, reason)
        for name in in_order(summary)
        for source, reason in summary.attacks[name].refused.items()
    ]
    if rows:
        note = "An attack that some source does not admit has no rank; its other cells are above."
        html = table(("attack", "source", "why"), rows)
        yield Section("refused", "Attacks that do not go with a source", html, note)


def _nets(summary: Summary) -> Section:
    rows = [(name, f"{100 * share:.1f} %") for name, share in summary.clean.items()]
    return Section("nets", "The nets", table(("net", "accuracy, clean"), rows))
