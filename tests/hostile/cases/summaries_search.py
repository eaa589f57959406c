"""Summaries, settings and notes of evolutions and repairs that somebody edited."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.hostile.case import EITHER, Case, Ending, Place
from tests.hostile.edited_runs import (
    BROKEN,
    REPORT,
    copied,
    finished,
    unfinished,
    with_edit,
    with_file,
    with_summary_of,
)
from tests.hostile.edits import EDITS, at, nth, nth_path, numbered_edits, paths

VERBS = ("evolve", "repair")
# How many places there are in a summary of the kind, rounded up: every one is hit by some edit.
PLACES = {"evolve": 600, "repair": 140}
# Objects whose keys are names: another one is no key that a reader leaves out.
OPEN = {"per_class", "localised", "sizes", "robust", "transfer", "seconds", "sources"}
RARELY = 13  # of cases, one in so many is of `--resume` as well
UNFINISHED = unfinished("evolve")
RESUME = ("evolve", "--resume", "sent")
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
    "mathtext",
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
        for name, content in BROKEN.items():
            for command in ("report", "resume"):
                for file in ("summary.json", "env.json"):
                    yield Case(
                        f"summary/{verb}/{command}/{file}/{name}",
                        with_file(copied(verb), file, content, _command(verb, command)),
                        ends=EITHER if command == "resume" or file == "env.json" else (2,),
                    )
        for other in ("attack", "train", "explain", "adapt", "evolve", "repair"):
            if other != verb:
                prepare = with_summary_of(copied(verb), finished(other))
                yield Case(f"summary/{verb}/report/of {other}", prepare)
    yield from _notes()


def _summaries(verb: str) -> Iterator[Case]:
    for turn, (name, edit) in enumerate(numbered_edits(PLACES[verb])):
        number, _, kind = name.partition("/")
        yield Case(
            f"summary/{verb}/report/{kind}/{number}",
            with_edit(copied(verb), "summary.json", edit),
            ends=EITHER,
            after=_works(verb, turn) if kind == "extra" else _harmless,
        )
        if turn % RARELY == 0:
            kind = list(EDITS)[turn // RARELY % len(EDITS)]
            prepare = with_edit(
                copied(verb), "summary.json", nth(turn, kind), _command(verb, "resume")
            )
            name = f"summary/{verb}/resume/{kind}/{turn}"
            yield Case(name, prepare, ends=EITHER, after=_harmless)


def _settings(verb: str) -> Iterator[Case]:
    for key in READ[verb]:
        for turn, name in enumerate(CONFIG_EDITS):
            commands = ("report", "resume") if (turn + len(key)) % 7 == 0 else ("report",)
            for command in commands:
                yield Case(
                    f"settings/{verb}/{command}/{key}/{name}",
                    with_edit(
                        copied(verb),
                        "config.yaml",
                        at(("config", key), name),
                        _command(verb, command),
                    ),
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
                prepare = with_edit(UNFINISHED, file, at((key,), name), RESUME)
                yield Case(f"notes/{file}/{key}/{name}", prepare, ends=EITHER, seconds=120)
        for name, content in BROKEN.items():
            yield Case(f"notes/{file}/{name}", with_file(UNFINISHED, file, content, RESUME))
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
        prepare = with_file(UNFINISHED, "metrics.jsonl", line + "\n", RESUME)
        yield Case(f"notes/metrics.jsonl/{name}", prepare)


def _command(verb: str, command: str) -> tuple[str, ...]:
    return REPORT if command == "report" else (verb, "--resume", "sent")


def _works(verb: str, number: int) -> Callable[[Place, Ending], str | None]:
    def after(place: Place, ending: Ending) -> str | None:
        told = json.loads((place.run(verb) / "summary.json").read_text())
        assert len(list(paths(told))) <= PLACES[verb]
        if ending.code != 0 and not OPEN & set(nth_path(told, number)[-2:]):
            return "a key that no reader knows was refused"
        return _harmless(place, ending)

    return after


def _harmless(place: Place, ending: Ending) -> str | None:
    """A page that was drawn runs nothing that was not its own."""
    page = Path(place.here) / "sent" / "report.html"
    if ending.code == 0 and page.exists() and "<script>alert(1)" in page.read_text():
        return "a script came into the page"
    return None
