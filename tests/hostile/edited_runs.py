"""Run folders from elsewhere, in which one file is not what the run wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.hostile.case import Place
from tests.hostile.edits import DROP, Edit, spelt

Prepare = Callable[[Place], Sequence[str]]
Lay = Callable[[Place], Path]

REPORT = ("report", "sent")

BROKEN: dict[str, str | bytes] = {
    "nothing": "",
    "null": "null",
    "NaN": "NaN",
    "a number": "3",
    "a long number": "9" * 100_000,
    "a text": '"study"',
    "a list": "[]",
    "an empty object": "{}",
    "cut": '{"format": 1, "verb": ',
    "twice": '{"format": 1}{"format": 1}',
    "no UTF-8": b'{"data": "\xff\xfe"}',
    "UTF-16": '{"format": 1}'.encode("utf-16"),
    "binary": bytes(range(256)) * 40,
    "a lone surrogate": '{"study": "\\ud800"}',
    "brackets": "[" * 100_000,
    "brackets in an object": '{"nets": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "objects": '{"a":' * 100_000,
}
"""By name, files of JSON that hold nothing."""


def copied(kind: str) -> Lay:
    """Return what copies a finished run to the folder `sent`."""
    return lambda place: place.copy(kind, "sent")


def finished(kind: str) -> Lay:
    """Return what gives the finished run itself, which stays as it is."""
    return lambda place: place.run(kind)


def unfinished(kind: str) -> Lay:
    """Return what copies a run to the folder `sent`, as if it had been killed."""
    return lambda place: place.unfinished(kind, "sent")


def with_edit(lay: Lay, name: str, edit: Edit, command: Sequence[str] = REPORT) -> Prepare:
    """Edit the file `name`: JSON, YAML, or the first of many lines of JSON."""

    def prepare(place: Place) -> Sequence[str]:
        file = lay(place) / name
        if file.suffix == ".yaml":
            # JSON is YAML, and has room for what no dumper would write.
            text = spelt(edit(yaml.safe_load(file.read_text())), yaml=True)
        elif file.suffix == ".jsonl":
            first, *rest = file.read_text().splitlines()
            text = "\n".join([spelt(edit(json.loads(first))), *rest, ""])
        else:
            text = spelt(edit(json.loads(file.read_text())))
        file.write_text(text)
        return command

    return prepare


def with_file(
    lay: Lay, name: str, content: str | bytes, command: Sequence[str] = REPORT
) -> Prepare:
    """Write `content` over the file `name`."""

    def prepare(place: Place) -> Sequence[str]:
        written = content.encode() if isinstance(content, str) else content
        (lay(place) / name).write_bytes(written)
        return command

    return prepare


def with_summary_of(lay: Lay, other: Lay, command: Sequence[str] = REPORT) -> Prepare:
    """Give the run the summary of another."""

    def prepare(place: Place) -> Sequence[str]:
        summary = (other(place) / "summary.json").read_bytes()
        return with_file(lay, "summary.json", summary, command)(place)

    return prepare


def settings(changes: dict[str, Any]) -> Edit:
    """Return the edit of a config.yaml that gives options these values, or drops them."""

    def edit(saved: Any) -> Any:
        config = {**saved["config"], **changes}
        return {**saved, "config": {k: v for k, v in config.items() if v is not DROP}}

    return edit


def then(prepare: Prepare, command: Sequence[str]) -> Prepare:
    """Prepare the same, and give another command."""

    def prepared(place: Place) -> Sequence[str]:
        prepare(place)
        return command

    return prepared
