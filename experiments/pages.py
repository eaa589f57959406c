"""What the reports of several verbs have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustkit.errors import RunError
from robustkit.runs import RunFolder
from robustkit.runs.report import Section, number, table


def finished(folder: RunFolder) -> dict[str, Any]:
    """The summary of a run; raises `RunError` when it has not finished."""
    summary = folder.summary()
    if summary is None:
        raise RunError(f"{folder.path}: not finished, there is nothing to report yet")
    return summary


def settings_section(config: Mapping[str, Any]) -> Section:
    """Every option of the run with its value."""
    rows = [(name, _text(value)) for name, value in config.items()]
    return Section("settings", "Settings", table(["option", "value"], rows))


def eps_text(eps: float) -> str:
    """ε as the field writes it: `8/255` where it is so many grey levels, else a decimal."""
    levels = 255 * eps
    whole = eps > 0 and abs(levels - round(levels)) < 1e-6
    return f"{round(levels)}/255" if whole else f"{eps:.4g}"


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else number(value)
