"""Summaries, settings and notes of evolutions and repairs that somebody edited."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.hostile.case import EITHER, Case, Ending, Place
from tests.hostile.cases.edits import EDITS, edited, paths, spelt

VERBS = ("evolve", "repair")
# How many places there are in a summary of the kind, rounded up: every one is hit by some edit.
PLACES = {"evolve": 520, "repair": 230}
# Objects whose keys are names: another one is no key that a reader leaves out.
OPEN = {"per_class", "localised", "sizes", "robust", "transfer", "seconds"}
RARELY = 13  # of cases, one in so many is of `--resume` as well
WHOLE: dict[str, str | bytes] = {
    "empty": "",
    "null": "null",
    "list": "[]",
    "number": "3",
    "empty object": "{}",
    "cut": '{"format": 1, "verb": ',
    "not UTF-8": b'{"data": "\xff\xfe"}',
    "byte order mark of UTF-16": '{"format": 1}'.encode("utf-16"),
    "binary": bytes(range(256)) * 40,
    "deep": '{"nets": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "twice": '{"format": 1}{"format": 1}',
}
CONFIG_EDITS = (
    "drop",
    "null",
    "text for it",
    "list for it",
    "object for it",
    "huge integer",
    "negative",
    "deep",
    "escape",
    "maths",
    "HTML",
    "10,000 characters",
    "zero",
    "extra",
)
READ: dict[str, tuple[str, ...]] = {
    "evolve": (
        *("population", "generations", "objectives", "tolerance", "epochs", "reference", "attack"),
        *("norm", "eps", "strategy", "lam", "final_seeds", "kinds", "channels", "max_macs"),
        *("halving", "mode", "phi", "optimizer", "floor", "data"),
    ),
    "repair": ("data", "method", "model"),
}


def cases() -> Iterator[Case]:
    """Report and resume of runs in whose JSON or YAML something else stands."""
    for verb in VERBS:
        yield from _summaries(verb)
        yield from _settings(verb)
        for name, content in WHOLE.items():
            for command in ("report", "resume"):
                for file in ("summary.json", "env.json"):
                    yield Case(
                        f"summary/{verb}/{command}/{file}/{name}",
                        _replaced(verb, file, content, command),
                        ends=EITHER if command == "resume" or file == "env.json" else (2,),
                    )
        for other in ("attack", "train", "explain", "adapt", "evolve", "repair"):
            if other != verb:
                yield Case(f"summary/{verb}/report/of {other}", _swapped(verb, other))
    yield from _notes()


def _summaries(verb: str) -> Iterator[Case]:
    names = list(EDITS)
    for place in range(PLACES[verb]):
        name = names[(place + place // len(names)) % len(names)]
        yield Case(
            f"summary/{verb}/report/{name}/{place}",
            _edit(verb, "summary.json", place, name, "report"),
            ends=EITHER,
            after=_works(verb, place) if name == "extra" else _harmless,
        )
        if place % RARELY == 0:
            name = names[place // RARELY % len(names)]
            yield Case(
                f"summary/{verb}/resume/{name}/{place}",
                _edit(verb, "summary.json", place, name, "resume"),
                ends=EITHER,
                after=_harmless,
            )


def _settings(verb: str) -> Iterator[Case]:
    for key in READ[verb]:
        for turn, name in enumerate(CONFIG_EDITS):
            commands = ("report", "resume") if (turn + len(key)) % 7 == 0 else ("report",)
            for command in commands:
                yield Case(
                    f"settings/{verb}/{command}/{key}/{name}",
                    _setting(verb, key, name, command),
                    ends=EITHER,
                    after=_harmless,
                )


def _notes() -> Iterator[Case]:
    """What an evolution that goes on reads besides: R's note, its events, the data's digests."""
    for file, keys in (
        ("reference.json", ("given", "notes", "left_out", "published")),
        ("data.json", ("train", "test")),
    ):
        for turn, key in enumerate(keys):
            for name in list(EDITS)[turn::4]:
                yield Case(
                    f"notes/{file}/{key}/{name}", _note(file, key, name), ends=EITHER, seconds=120
                )
        for name, content in WHOLE.items():
            yield Case(f"notes/{file}/{name}", _unfinished_with(file, content))
    for name, line in {
        "text": '{"event": "finished", "wall_seconds": "long"}',
        "negative": '{"event": "finished", "wall_seconds": -1}',
        "huge": '{"event": "finished", "wall_seconds": 1e300}',
        "infinite": '{"event": "finished", "wall_seconds": 1e999}',
        "NaN": '{"event": "finished", "wall_seconds": NaN}',
        "list": "[1]",
        "no JSON": "finished",
        "deep": "[" * 1000 + "]" * 1000,
    }.items():
        yield Case(f"notes/metrics.jsonl/{name}", _unfinished_with("metrics.jsonl", line + "\n"))


def _arguments(verb: str, command: str) -> Sequence[str]:
    return ["report", "sent"] if command == "report" else [verb, "--resume", "sent"]


def _edit(
    verb: str, file: str, number: int, name: str, command: str
) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        path = place.copy(verb, "sent") / file
        told = json.loads(path.read_text())
        places = list(paths(told))
        assert len(places) <= PLACES[verb], len(places)
        path.write_text(spelt(edited(told, places[number % len(places)], EDITS[name])))
        return _arguments(verb, command)

    return prepare


def _replaced(
    verb: str, file: str, content: str | bytes, command: str
) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.copy(verb, "sent")
        place.write(f"sent/{file}", content)
        return _arguments(verb, command)

    return prepare


def _swapped(verb: str, other: str) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        path = place.copy(verb, "sent") / "summary.json"
        path.write_bytes((place.run(other) / "summary.json").read_bytes())
        return ["report", "sent"]

    return prepare


def _setting(verb: str, key: str, name: str, command: str) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        path = place.copy(verb, "sent") / "config.yaml"
        told = yaml.safe_load(path.read_text())
        # JSON is YAML, and has room for what no dumper would write.
        path.write_text(spelt(edited(told, ("config", key), EDITS[name])))
        return _arguments(verb, command)

    return prepare


def _note(file: str, key: str, name: str) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        path = place.unfinished("evolve", "sent") / file
        told: Any = json.loads(path.read_text())
        path.write_text(spelt(edited(told, (key,), EDITS[name])))
        return ["evolve", "--resume", "sent"]

    return prepare


def _unfinished_with(file: str, content: str | bytes) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.unfinished("evolve", "sent")
        place.write(f"sent/{file}", content)
        return ["evolve", "--resume", "sent"]

    return prepare


def _works(verb: str, number: int) -> Callable[[Place, Ending], str | None]:
    def after(place: Place, ending: Ending) -> str | None:
        places = list(paths(json.loads((place.run(verb) / "summary.json").read_text())))
        beside = places[number % len(places)][:-1]
        if ending.code != 0 and not OPEN & set(beside[-1:]):
            return "a key that no reader knows was refused"
        return _harmless(place, ending)

    return after


def _harmless(place: Place, ending: Ending) -> str | None:
    """A page that was drawn runs nothing that was not its own."""
    page = Path(place.here) / "sent" / "report.html"
    if ending.code == 0 and page.exists() and "<script>alert(1)" in page.read_text():
        return "a script came into the page"
    return None
