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
    listed = differences(study, summary)
    if listed:
        parts += ["## What differs", listed]
    return "\n\n".join(parts) + "\n"


def differences(study: Study, summary: Mapping[str, Any]) -> str:
    """What sets a run apart from the publication, a list in Markdown; empty where nothing does."""
    scale = summary.get("scale", "small")
    listed = study.only_small if scale == "small" else (f"Scale *{scale}*: {study.scales[scale]}.",)
    return "\n".join(f"- {each}" for each in (*listed, *study.deviations))


def _tally(study: Study, found: list[Any]) -> str:
    counts = ", ".join(f"{count} {word}" for word, count in claims.counted(found).items())
    whose = "" if study.system == OURS else f" Published: {study.source}."
    return f"{len(found)} claims: {counts}.{whose}"
