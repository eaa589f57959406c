"""Finished studies whose summary or settings were edited: drawn, or refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.hostile.case import EITHER, REFUSED, Case, Ending, Place
from tests.hostile.edited_runs import (
    BROKEN,
    Lay,
    Prepare,
    settings,
    with_edit,
    with_file,
    with_summary_of,
)
from tests.hostile.edits import DROP, EDITS, EXTRA, edits
from tests.hostile.warm import warm

COMMANDS = {
    "report": ("report", "all/sent"),
    "evidence": ("reproduce", "--evidence", "all"),
    "resume": ("reproduce", "--resume", "all/sent"),
}
RESULTS = Path(__file__).parents[3] / "experiments" / "results"
DIGITS = RESULTS / "digit-shift"
MOST = 40  # edits of a summary
SETTINGS: dict[str, Any] = {
    "no name": {"name": DROP},
    "name of nobody": {"name": "nothing"},
    "name is a list": {"name": ["digit-shift"]},
    "name with escapes": {"name": "\x1b[2J"},
    "no seed": {"seed": DROP},
    "seed is a text": {"seed": "0"},
    "seed is true": {"seed": True},
    "seed is negative": {"seed": -1},
    "seed is huge": {"seed": 10**60},
    "scale is a list": {"scale": ["small"]},
    "scale of nobody": {"scale": "galactic"},
    "scale is null": {"scale": None},
    "an unknown key": {EXTRA: 3},
}


def _studies() -> Iterator[Path]:
    """The committed runs of studies."""
    for path in sorted(RESULTS.glob("*/summary.json")):
        if b'"study"' in path.read_bytes()[:400_000] and "reproduce" in path.read_text()[:400]:
            yield path.parent


def _laid(study: Path) -> Lay:
    """Return what copies a committed run to the folder `all/sent`, as one that is complete."""

    def lay(place: Place) -> Path:
        warm("report", "reproduce")
        folder = place.here / "all" / "sent"
        folder.mkdir(parents=True)
        for file in ("summary.json", "config.yaml"):
            shutil.copy(study / file, folder)
        (folder / "env.json").write_text('{"command": ["robustkit"]}')
        return folder

    return lay


def _committed(study: Path) -> Lay:
    return lambda place: study


def _renamed(study: Path, other: Path) -> Prepare:
    """Another study's summary that says it is of this one."""
    told = json.loads((other / "summary.json").read_text())

    def edit(own: Any) -> Any:
        return {**told, "study": own["study"]}

    return with_edit(_laid(study), "summary.json", edit, COMMANDS["report"])


def _drawn(place: Place, ending: Ending) -> str | None:
    page = place.here / "all" / "sent" / "comparison.md"
    return None if page.is_file() else "no comparison.md was drawn"


def cases() -> Iterator[Case]:
    """Every committed study, edited; then settings, and files that are none."""
    studies = list(_studies())
    for study in studies:
        told = json.loads((study / "summary.json").read_text())
        for number, (name, edit) in enumerate(edits(told, MOST)):
            verb = "evidence" if number % 4 == 3 else "report"
            prepare = with_edit(_laid(study), "summary.json", edit, COMMANDS[verb])
            yield Case(f"{verb}/study/{study.name}/{name}", prepare, ends=EITHER)
        extra = EDITS["extra"]
        prepare = with_edit(_laid(study), "summary.json", extra, COMMANDS["report"])
        yield Case(f"report/study/{study.name}/an unknown key", prepare, (0,), after=_drawn)
    for study, other in zip(studies, [*studies[1:], studies[0]], strict=True):
        same = json.loads((study / "summary.json").read_text())["study"]
        alike = same == json.loads((other / "summary.json").read_text())["study"]
        ends = EITHER if alike else REFUSED
        name = f"{study.name}/the summary of {other.name}"
        prepare = with_summary_of(_laid(study), _committed(other), COMMANDS["report"])
        yield Case(f"report/study/{name}", prepare, ends)
        yield Case(f"report/study/{name}, renamed", _renamed(study, other), ends)
    for name, changes in SETTINGS.items():
        for verb in ("report", "evidence", "resume"):
            edit = settings(changes)
            prepare = with_edit(_laid(DIGITS), "config.yaml", edit, COMMANDS[verb])
            fine = name == "an unknown key" and verb != "resume"
            # What is resumed is read as options are: "0" is a number there.
            text = name == "seed is a text" and verb == "resume"
            ends = (0,) if fine else EITHER if text else REFUSED
            yield Case(f"{verb}/study/settings/{name}", prepare, ends)
    files = {
        **BROKEN,
        "nothing but its name": '{"study": "digit-shift"}',
        "study is a list": '{"study": ["digit-shift"]}',
        "study has escapes": '{"study": "\\u001b[2J"}',
        "scale is a list": '{"study": "digit-shift", "scale": []}',
    }
    for name, content in files.items():
        prepare = with_file(_laid(DIGITS), "summary.json", content, COMMANDS["report"])
        yield Case(f"report/study/summary/{name}", prepare)
