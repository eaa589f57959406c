"""The Pareto front: accuracy against transfer, the cost as size, every architecture on request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from evolution.protocol.result import Scores
from evolution.report.comparison import GREEN, SHOWN
from evolution.report.format import architecture_lines, brief, compact, measures_text, plural, share
from evolution.report.history import SEARCH_COLOURS
from evolution.report.run_data import (
    SEARCHES,
    CandidateTrial,
    Evidence,
    distinct,
    front_keys,
    lowest_shown,
)
from robustkit.report import Section, chart, figure, svg, table

Group = Sequence[CandidateTrial]  # the trials of one network


def pareto_section(evidence: Evidence) -> Section:
    """Return a chart of all networks, those on the front marked."""
    groups = [
        ok
        for group in distinct(evidence.trials)
        if (ok := [trial for trial in group if trial.result])
    ]
    if not groups:
        return Section("front", "Pareto front", Markup("<p>No trial succeeded.</p>"))
    front = front_keys(evidence)
    caption = (
        "Every network evaluated, once, at the budget of a trial; the area of a dot is its cost in "
        "MACs. Ringed: on the Pareto front of "
        f"{_objectives(evidence)}, all candidates of both searches taken together. Point at or "
        "click a dot for its architecture and numbers. Triangles at the left edge are less "
        "accurate than the axis shows."
    )
    note = (
        f"{plural(len(front), 'network')} of {len(groups)} on the front. Down and to the right "
        "is better."
    )
    details = Markup("<details><summary>The front as a table</summary>{}</details>")
    html = figure(_drawn(evidence, groups, front), caption) + details.format(_table(groups, front))
    return Section("front", "Pareto front", html, note)


def _objectives(evidence: Evidence) -> str:
    names = [part.split(":")[0] for part in evidence.config.objectives.split(",")]
    return ", ".join(name.strip() for name in names)


def _drawn(evidence: Evidence, groups: Sequence[Group], front: set[str]) -> Markup:

    lowest = lowest_shown(evidence)
    most = max(1.0, *(float(_result(group).macs) for group in groups))
    roles = {evidence.selected(role).key: role for role in ("RS", "E")}
    tips = {}
    with chart(10, 5) as drawing:
        axes = drawing.subplots()
        # Large dots first, so that small ones lie on top and can be pointed at.
        for group in sorted(groups, key=lambda group: -_result(group).macs):
            gid = f"front-{group[0].key}"
            _dot(axes, group, lowest, most, group[0].key in front).set_gid(gid)
            tips[gid] = _tip(group, group[0].key in front, roles.get(group[0].key))
        for group in groups:
            if (role := roles.get(group[0].key)) is not None:
                _name(axes, group, role, lowest)
        tips |= _references(axes, evidence)
        axes.margins(y=0.12)
        axes.set_xlim(lowest - 0.02 * (axes.get_xlim()[1] - lowest), None)
        axes.set(xlabel="validation accuracy (%)", ylabel="transfer from R on validation (%)")
        _legend(axes)
        return svg(drawing, alt="Accuracy and transfer of every network evaluated", tips=tips)


def _dot(axes: Any, group: Group, lowest: float, most: float, on_front: bool) -> Any:
    result = _result(group)
    accuracy = 100 * result.accuracy
    style: dict[str, object] = {
        "s": 20 + 330 * result.macs / most,
        "color": _colour(group),
        "alpha": 0.75 if on_front else 0.4,
        "zorder": 3,
    }
    if on_front:
        style |= {"edgecolors": "#000000", "linewidths": 1.6}
    else:
        style |= {"linewidths": 0}
    if accuracy < lowest:
        style |= {"marker": "<", "s": 45}
    return axes.scatter([max(accuracy, lowest)], [100 * result.transfer], **style)


def _name(axes: Any, group: Group, role: str, lowest: float) -> None:
    result = _result(group)
    at = (max(100 * result.accuracy, lowest), 100 * result.transfer)
    # Where the axis is near, the name goes to the other side.
    near = at[0] < lowest + 0.1 * (axes.get_xlim()[1] - lowest)
    axes.annotate(
        SHOWN[role],
        at,
        xytext=(30 if near else -30, -20),
        textcoords="offset points",
        ha="left" if near else "right",
        arrowprops={"arrowstyle": "-", "linewidth": 0.9, "color": "#000000"},
        va="center",
        weight="bold",
        zorder=5,
    )


def _references(axes: Any, evidence: Evidence) -> dict[str, str]:
    """Draw R's architecture at trial budget, without and with the penalty."""
    tips = {}
    for name in ("R2", "Rp"):
        measured = evidence.baseline(name)
        if measured is None:
            continue
        at = (100 * measured.accuracy, 100 * measured.transfer)
        style = {"facecolors": "#ffffff", "edgecolors": "#000000", "linewidths": 1.4}
        mark = axes.scatter(*([value] for value in at), marker="D", s=44, **style)
        mark.set_gid(f"front-{name}")
        axes.annotate(
            SHOWN[name], at, xytext=(9, 0), textcoords="offset points", va="center", zorder=5
        )
        penalty = "with" if name == "Rp" else "without"
        tips[f"front-{name}"] = (
            f"R's architecture at trial budget, {penalty} the penalty\n{measures_text(measured)}"
        )
    return tips


def _legend(axes: Any) -> None:
    from matplotlib.lines import Line2D

    def dot(colour: str, label: str, **style: Any) -> Line2D:
        return Line2D([], [], marker="o", ls="", color=colour, label=label, **style)

    handles = [dot(SEARCH_COLOURS[search], name) for search, name in SEARCHES.items()]
    handles.append(dot(GREEN, "in both searches"))
    ring = {"markerfacecolor": "none", "markeredgewidth": 1.5}
    handles.append(dot("#000000", "on the front", **ring))
    axes.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)


def _tip(group: Group, on_front: bool, role: str | None) -> str:
    candidates = [f"{SEARCHES[trial.search]} {trial.candidate.number}" for trial in group]
    title = ", ".join(candidates[:4]) + (
        f" and {len(candidates) - 4} more" if len(candidates) > 4 else ""
    )
    marks = [*([f"selected as {SHOWN[role]}"] if role else [])]
    marks += ["on the front"] if on_front else []
    lines = [title + (f" ({', '.join(marks)})" if marks else ""), measures_text(_result(group))]
    return "\n".join([*lines, "", *architecture_lines(group[0].candidate.genotype)])


def _table(groups: Sequence[Group], front: set[str]) -> Markup:
    shown = [group for group in groups if group[0].key in front]
    shown.sort(key=lambda group: _result(group).transfer)
    headers = ("candidate", "accuracy", "transfer", "|cos|", "MACs", "parameters", "blocks")
    rows = [
        (
            f"{SEARCHES[group[0].search]} {group[0].candidate.number}",
            share(_result(group).accuracy),
            f"{share(_result(group).transfer)}, n = {_result(group).transfer_n:,}",
            f"{_result(group).cos_abs:.3f}",
            compact(_result(group).macs),
            _result(group).params,
            brief(group[0].candidate.genotype),
        )
        for group in shown
    ]
    return table(headers, rows)


def _result(group: Group) -> Scores:
    result = group[0].result
    assert result is not None
    return result


def _colour(group: Group) -> str:
    searches = {trial.search for trial in group}
    return GREEN if len(searches) > 1 else SEARCH_COLOURS[searches.pop()]
