"""A published experiment of many independent pieces: jobs, a ledger of their results, a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from robustkit.compute import Ok
from robustkit.compute.executors import Executor, Job, open_executor
from robustkit.errors import RunError
from robustkit.runs import Ledger, RunFolder, Trial

Results = Mapping[str, dict[str, Any]]


class Piece(Job, Protocol):
    """A job that its `id` names in the ledger of the study."""

    @property
    def id(self) -> str:
        """Unique in the study."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A published experiment that no single verb runs.

    `phases(folder, quick, seed)` are the pieces, one phase after the other; `summarise` makes a
    summary of all results by id, `render` the comparison in Markdown of that summary.
    """

    name: str
    title: str
    source: str
    phases: Callable[[Path, bool, int], Sequence[Sequence[Piece]]]
    summarise: Callable[[Results], dict[str, Any]]
    render: Callable[[Mapping[str, Any]], str]


def run_study(study: Study, folder: RunFolder, say: Callable[[str], None]) -> dict[str, Any]:
    """Run what the ledger does not yet hold, and return the summary of all.

    Raises `RunError` where a piece ends in anything but a result; what is done stays done.
    """
    settings = folder.config
    path = folder.file("ledger.sqlite")
    # First the executor: settings that it refuses leave nothing behind.
    opened = open_executor(settings["executor"], workers=settings["workers"], timeout=None)
    with opened as executor, Ledger.open(path) if path.exists() else Ledger.create(path) as ledger:
        phases = study.phases(folder.path, settings["quick"], settings["seed"])
        for pieces in phases:
            missing = [piece for piece in pieces if ledger.get(piece.id) is None]
            _carry_out(missing, ledger, executor, say)
        results = {trial.id: trial.result or {} for trial in ledger.trials()}
    return study.summarise(results)


def _carry_out(
    pieces: Sequence[Piece], ledger: Ledger, executor: Executor, say: Callable[[str], None]
) -> None:
    for piece, outcome in executor.run(iter(pieces)):
        if not isinstance(outcome, Ok):
            raise RunError(f"{piece.id}: {outcome.kind} ({outcome.reason}); --resume goes on")
        ledger.record(
            Trial(
                id=piece.id,
                arm="study",
                key=piece.id,
                payload=_plain(piece),
                outcome=outcome.kind,
                result=outcome.value,
                seconds=outcome.seconds,
            )
        )
        say(f"{piece.id}: {outcome.seconds:.0f} s")


def _plain(piece: Any) -> dict[str, Any]:
    # The folder may be moved between two sessions; it is no part of what was done.
    return {name: value for name, value in asdict(piece).items() if name != "path"}
