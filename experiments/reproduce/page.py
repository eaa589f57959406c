"""`comparison.md` of a finished study: its tables, its claims, and what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.reproduce import claims
from experiments.reproduce.registry import OURS
from experiments.reproduce.running import judged
from experiments.reproduce.study import Exhibit, Study


def comparison(study: Study, exhibit: Exhibit | None, summary: Mapping[str, Any]) -> str:
    """The whole page in Markdown."""
    found = judged(study, exhibit, summary)
    parts = [study.render(summary).rstrip()]
    if found:
        parts += ["## Claims", claims.table(found), _tally(study, found)]
    parts += _differs(study, summary)
    return "\n\n".join(parts) + "\n"


def _differs(study: Study, summary: Mapping[str, Any]) -> list[str]:
    """What sets `small` apart from the publication; of the other scales what they are."""
    scale = summary.get("scale", "small")
    if scale != "small":
        return [f"Scale *{scale}*: {study.scales[scale]}."]
    listed = "\n".join(f"- {each}" for each in study.deviations)
    return ["## What differs", listed] if listed else []


def _tally(study: Study, found: list[Any]) -> str:
    counts = ", ".join(f"{count} {word}" for word, count in claims.counted(found).items())
    whose = "" if study.system == OURS else f" Published: {study.source}."
    return f"{len(found)} claims: {counts}.{whose}"
