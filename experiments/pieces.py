"""Work cut into independent pieces: each is done once, and the ledger holds what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from experiments.executing import executor_of
from experiments.summaries import check_summary
from robustkit.compute import Diverged, Ok, Outcome
from robustkit.compute.executors import Job
from robustkit.errors import RunError
from robustkit.runs import Ledger, RunFolder, Trial

Say = Callable[[str], None]


class Piece(Job, Protocol):
    """A job that its `id` names in the ledger of the run."""

    @property
    def id(self) -> str:
        """Unique in the run."""

    @property
    def kind(self) -> Any:
        """What its result is: a `TypedDict`, as `check_kind` takes it."""


def carry_out(
    phases: Sequence[Sequence[Piece]],
    folder: RunFolder,
    *,
    arm: str,
    say: Say,
) -> list[Trial]:
    """Run what the ledger of `folder` does not yet hold, phase after phase; returns their trials.

    Raises `RunError` where a piece ends in anything but a result, and where the ledger holds a
    result of another kind; what is done stays done.
    """
    path = folder.file("ledger.sqlite")
    # First the executor: settings that it refuses leave nothing behind.
    with (
        executor_of(folder.config) as running,
        Ledger.open(path) if path.exists() else Ledger.create(path) as ledger,
    ):
        asked = {piece.id: piece for pieces in phases for piece in pieces}
        for trial in ledger.trials():
            if trial.id in asked:
                where = f"{path}: the result of '{trial.id}'"
                check_summary(trial.result, asked[trial.id].kind, where)
        for pieces in phases:
            missing = [piece for piece in pieces if ledger.get(piece.id) is None]
            for piece, outcome in running.run(iter(missing)):
                if not isinstance(outcome, Ok):
                    raise RunError(
                        f"{piece.id}: {outcome.kind} ({outcome.reason}); {_hint(outcome)}"
                    )
                ledger.record(
                    Trial(
                        id=piece.id,
                        arm=arm,
                        key=piece.id,
                        payload=_plain(piece),
                        outcome=outcome.kind,
                        result=outcome.value,
                        seconds=outcome.seconds,
                    )
                )
                say(f"{piece.id}: {outcome.seconds:.0f} s")
        return [trial for trial in ledger.trials() if trial.id in asked]


def _hint(outcome: Outcome) -> str:
    if isinstance(outcome, Diverged):
        return "it would again: start anew, with a smaller learning rate perhaps"
    return "--resume tries it again"


def _plain(piece: Any) -> dict[str, Any]:
    # The folder may be moved between two sessions; it is no part of what was done.
    return {name: value for name, value in asdict(piece).items() if name != "path"}
