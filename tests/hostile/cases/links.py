"""Run folders with links, pipes, devices and second names in them: nothing outside is touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.hostile.case import EITHER, REFUSED, Case, Place

VERBS = {
    "evolve": "evolve",
    "repair": "repair",
    "checkpoints": "explain",
    "adapt": "adapt",
    "reproduce": "reproduce",
}
WRITTEN = (
    ".lock",
    "metrics.jsonl",
    "summary.json",
    "report.html",
    "config.yaml",
    "env.json",
    "ledger.sqlite",
    "ledger.sqlite-journal",
    "checkpoint",
)


def _replaced(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _link(path: Path, place: Place) -> None:
    _replaced(path)
    name = "precious.jsonl" if path.suffix == ".jsonl" else "precious.txt"
    path.symlink_to(place.outside / name)


def _link_to_folder(path: Path, place: Place) -> None:
    _replaced(path)
    path.symlink_to(place.outside / "folder")


def _dangling(path: Path, place: Place) -> None:
    _replaced(path)
    path.symlink_to(place.outside / "folder" / "made-by-nobody")


def _pipe(path: Path, place: Place) -> None:
    _replaced(path)
    os.mkfifo(path)


def _hard_link(path: Path, place: Place) -> None:
    _replaced(path)
    os.link(place.outside / "precious.jsonl", path)


def _folder(path: Path, place: Place) -> None:
    _replaced(path)
    path.mkdir()


KINDS: dict[str, Callable[[Path, Place], None]] = {
    "link": _link,
    "link to a folder": _link_to_folder,
    "dangling link": _dangling,
    "pipe": _pipe,
}


def cases() -> Iterator[Case]:
    """Resume and report on folders in which one entry is not what it seems."""
    for run, verb in VERBS.items():
        for name in WRITTEN:
            for kind, change in KINDS.items():
                yield Case(f"resume/{run}/{name}/{kind}", _resumed(run, verb, name, change))
        for finished in (True, False):
            yield Case(
                f"resume/{run}/metrics.jsonl/hard link/{'finished' if finished else 'unfinished'}",
                _resumed(run, verb, "metrics.jsonl", _hard_link, finished=finished),
                # A finished repair is told from its summary, and nothing is written.
                ends=EITHER if finished else REFUSED,
            )
    for run in (*VERBS, "train", "attack", "transfer", "explain", "detect", "shift"):
        for name in ("summary.json", "config.yaml", "env.json", "metrics.jsonl", "ledger.sqlite"):
            for kind, change in (KINDS | {"folder": _folder}).items():
                # Not every kind of run has, or reads, every file.
                yield Case(f"report/{run}/{name}/{kind}", _reported(run, name, change), ends=EITHER)
    for kind, change in KINDS.items():
        yield Case(f"runs/summary.json/{kind}", _listed("summary.json", change), ends=(0,))
        yield Case(f"runs/config.yaml/{kind}", _listed("config.yaml", change), ends=(0,))


def _resumed(
    run: str,
    verb: str,
    name: str,
    change: Callable[[Path, Place], None],
    *,
    finished: bool = False,
) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        folder = place.copy(run, "sent") if finished else place.unfinished(run, "sent")
        change(folder / name, place)
        return [verb, "--resume", "sent"]

    return prepare


def _reported(
    run: str, name: str, change: Callable[[Path, Place], None]
) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        change(place.copy(run, "sent") / name, place)
        return ["report", "sent"]

    return prepare


def _listed(name: str, change: Callable[[Path, Place], None]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.copy("attack", "all/sound")
        change(place.copy("attack", "all/sent") / name, place)
        return ["runs", "all"]

    return prepare
