"""Finished studies whose summary or settings were edited: drawn, or refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.hostile.case import EITHER, REFUSED, Case, Ending, Place
from tests.hostile.edits import EXTRA, edits, top_extra
from tests.hostile.warm import warm

RESULTS = Path(__file__).parents[3] / "experiments" / "results"
MOST = 40  # edits of a summary
OTHER = {"digit-shift": "occlusion"}
SETTINGS: dict[str, Any] = {
    "no name": {"name": ...},
    "name of nobody": {"name": "nothing"},
    "name is a list": {"name": ["digit-shift"]},
    "name with escapes": {"name": "\x1b[2J"},
    "no seed": {"seed": ...},
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


def _laid(place: Place, study: Path, name: str = "sent") -> Path:
    """A copy of a committed run, as a run folder that is complete."""
    warm("report", "reproduce")
    folder = place.here / "all" / name
    folder.mkdir(parents=True)
    for file in ("summary.json", "config.yaml"):
        shutil.copy(study / file, folder)
    (folder / "env.json").write_text('{"command": ["robustkit"]}')
    return folder


def _summary(
    study: Path, edit: Callable[[Any], str], *, page: bool
) -> Callable[..., Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        folder = _laid(place, study)
        told = json.loads((study / "summary.json").read_text())
        (folder / "summary.json").write_text(edit(told))
        return ["reproduce", "--evidence", "all"] if page else ["report", "all/sent"]

    return prepare


def _settings(study: Path, changes: dict[str, Any], verb: str) -> Callable[..., Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        folder = _laid(place, study)
        saved = yaml.safe_load((folder / "config.yaml").read_text())
        config = {**saved["config"], **changes}
        saved["config"] = {key: value for key, value in config.items() if value is not ...}
        (folder / "config.yaml").write_text(yaml.safe_dump(saved))
        if verb == "evidence":
            return ["reproduce", "--evidence", "all"]
        return ["report", "all/sent"] if verb == "report" else ["reproduce", "--resume", "all/sent"]

    return prepare


def _text(text: str | bytes) -> Callable[..., Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        folder = _laid(place, RESULTS / "digit-shift")
        content = text.encode() if isinstance(text, str) else text
        (folder / "summary.json").write_bytes(content)
        return ["report", "all/sent"]

    return prepare


def _swapped(study: Path, other: Path) -> Callable[..., Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        folder = _laid(place, study)
        shutil.copy(other / "summary.json", folder)
        return ["report", "all/sent"]

    return prepare


def _renamed(study: Path, other: Path) -> Callable[..., Sequence[str]]:
    """Another study's summary that says it is of this one."""

    def prepare(place: Place) -> Sequence[str]:
        folder = _laid(place, study)
        own = json.loads((study / "summary.json").read_text())
        told = json.loads((other / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps({**told, "study": own["study"]}))
        return ["report", "all/sent"]

    return prepare


def _drawn(place: Place, ending: Ending) -> str | None:
    page = place.here / "all" / "sent" / "comparison.md"
    return None if page.is_file() else "no comparison.md was drawn"


def cases() -> Iterator[Case]:
    """Every committed study, edited; then settings, and files that are none."""
    studies = list(_studies())
    for study in studies:
        told = json.loads((study / "summary.json").read_text())
        for number, (name, edit) in enumerate(edits(told, MOST)):
            page = number % 4 == 3
            verb = "evidence" if page else "report"
            prepare = _summary(study, edit, page=page)
            yield Case(f"{verb}/study/{study.name}/{name}", prepare, ends=EITHER)
        prepare = _summary(study, top_extra, page=False)
        yield Case(f"report/study/{study.name}/an unknown key", prepare, (0,), after=_drawn)
    for study, other in zip(studies, [*studies[1:], studies[0]], strict=True):
        same = json.loads((study / "summary.json").read_text())["study"]
        alike = same == json.loads((other / "summary.json").read_text())["study"]
        ends = EITHER if alike else REFUSED
        name = f"{study.name}/the summary of {other.name}"
        yield Case(f"report/study/{name}", _swapped(study, other), ends)
        yield Case(f"report/study/{name}, renamed", _renamed(study, other), ends)
    for name, changes in SETTINGS.items():
        for verb in ("report", "evidence", "resume"):
            prepare = _settings(RESULTS / "digit-shift", changes, verb)
            fine = name == "an unknown key" and verb != "resume"
            # What is resumed is read as options are: "0" is a number there.
            text = name == "seed is a text" and verb == "resume"
            ends = (0,) if fine else EITHER if text else REFUSED
            yield Case(f"{verb}/study/settings/{name}", prepare, ends)
    files: dict[str, str | bytes] = {
        "nothing": "",
        "no JSON": "{",
        "a list": "[]",
        "a text": '"study"',
        "brackets": "[" * 100_000,
        "no UTF-8": b'{"study": "\xff"}',
        "a lone surrogate": '{"study": "\\ud800"}',
        "nothing but its name": '{"study": "digit-shift"}',
        "study is a list": '{"study": ["digit-shift"]}',
        "study has escapes": '{"study": "\\u001b[2J"}',
        "scale is a list": '{"study": "digit-shift", "scale": []}',
    }
    for name, content in files.items():
        yield Case(f"report/study/summary/{name}", _text(content))
