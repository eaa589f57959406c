"""What the reports of several verbs have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from robustkit.geometry import Geometry
from robustkit.report import Section, number, table


def settings_section(config: Mapping[str, Any]) -> Section:
    """Every option of the run with its value."""
    rows = [(name, _text(value)) for name, value in config.items()]
    return Section("settings", "Settings", table(["option", "value"], rows))


def warnings_of(models: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """What is suspect about the clean accuracy of each model of a summary, in sentences."""
    return {
        name: [f"{each['seen']}; {each['means']}" for each in model.get("warnings", [])]
        for name, model in models.items()
        if model.get("warnings")
    }


def warnings_section(warnings: Mapping[str, Sequence[str]]) -> list[Section]:
    """The top of a report where models are not what they should be; nothing otherwise."""
    if not warnings:
        return []
    html = Markup()
    for name, lines in warnings.items():
        for line in lines:
            html += Markup("<p><strong>{}</strong>: {}</p>").format(name, line)
    note = "Values below are of models as they were fed here, and may say nothing of them."
    return [Section("wrong", "Something is wrong here", html, note)]


def space_section(space: Mapping[str, Any]) -> list[Section]:
    """In which pixel space models were compared and what each does with its pictures.

    Nothing where a summary of an older version does not say.
    """
    if not space:
        return []
    channels, height, width = space["shape"]
    geometry = space["geometry"]
    how = "as stored" if geometry is None else Geometry.from_dict(geometry).describe()
    note = (
        f"All models see the same {channels}x{height}x{width} pictures in [0,1]: {how} "
        f"({space['whose']}). Attacks, ε and maps live there; what a model does with them before "
        "its first layer is its own affair."
    )
    rows = []
    for name, model in space["models"].items():
        published = model["published"]
        size = model["input_size"]
        resized = size is not None and size != [height, width]
        rows.append(
            [
                name,
                model["preprocessing"],
                "resized inside" if resized else "no",
                None if published is None else f"{100 * published['accuracy']:.1f} %",
                "; ".join(model["notes"]) or None,
            ]
        )
    headers = ["model", "preprocessing", "resizes", "published accuracy", "notes"]
    html = table(headers, rows)
    for line in space["notes"]:
        html += Markup("<p>{}</p>").format(line)
    return [Section("space", "Pixel space and models", html, note)]


def eps_text(eps: float) -> str:
    """ε as the field writes it: `8/255` where it is so many grey levels, else a decimal."""
    levels = 255 * eps
    whole = eps > 0 and abs(levels - round(levels)) < 1e-6
    return f"{round(levels)}/255" if whole else f"{eps:.4g}"


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else number(value)
