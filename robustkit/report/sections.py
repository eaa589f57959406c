"""Sections that the reports of several commands share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from msgspec import UNSET, UnsetType

from robustkit.geometry import Geometry
from robustkit.report import Section, number, table
from robustkit.runs.summaries import Finding, PixelSpace


def settings_section(config: Mapping[str, Any]) -> Section:
    """Every option of the run with its value."""
    rows = [(name, _text(value)) for name, value in config.items()]
    return Section("settings", "Settings", table(["option", "value"], rows))


def warnings_section(findings: Mapping[str, Sequence[Finding]]) -> list[Section]:
    """Return the top of a report where the clean accuracy of models is suspect; else nothing."""
    html = Markup()
    for name, suspect in findings.items():
        for each in suspect:
            text = f"{each.seen}; {each.means}"
            html += Markup("<p><strong>{}</strong>: {}</p>").format(name, text)
    if not html:
        return []
    note = "Values below are of models as they were fed here, and may say nothing of them."
    return [Section("wrong", "Something is wrong here", html, note)]


def space_section(space: PixelSpace | UnsetType) -> list[Section]:
    """Return in which pixel space models were compared, and what each does with its pictures.

    Nothing where a summary of an older version does not say.
    """
    if space is UNSET:
        return []
    channels, height, width = space.shape
    how = "as stored"
    if space.geometry is not None:
        how = Geometry.from_dict(space.geometry.to_json()).describe()
    note = (
        f"All models see the same {channels}x{height}x{width} pictures in [0,1]: {how} "
        f"({space.whose}). Attacks, ε and maps live there; what a model does with them before "
        "its first layer is its own affair."
    )
    rows = []
    for name, model in space.models.items():
        resized = model.input_size is not None and model.input_size != [height, width]
        published = model.published
        rows.append(
            [
                name,
                model.preprocessing,
                "resized inside" if resized else "no",
                None if published is None else f"{100 * published.accuracy:.1f} %",
                "; ".join(model.notes) or None,
            ]
        )
    headers = ["model", "preprocessing", "resizes", "published accuracy", "notes"]
    html = table(headers, rows)
    for line in space.notes:
        html += Markup("<p>{}</p>").format(line)
    return [Section("space", "Pixel space and models", html, note)]


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else number(value)
