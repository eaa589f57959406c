"""Work cut into independent pieces: each is done once, and the ledger holds what came out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from robustkit.errors import RunError
from robustkit.jobs import Cluster, Executor, Job, open_executor
from robustkit.jobs.outcomes import Diverged, Ok, Outcome
from robustkit.reading import printable
from robustkit.runs import Entry, Ledger, RunFolder
from robustkit.runs.folder import EDITED
from robustkit.runs.summaries import check_summary

Say = Callable[[str], None]


def executor_of(config: Mapping[str, Any]) -> Executor:
    """The executor that a run's settings ask for; raises `ConfigError` for what it cannot do."""
    return open_executor(
        config["executor"],
        workers=config["workers"],
        timeout=config.get("timeout"),
        memory_gib=config.get("memory_gib"),
        cluster=Cluster(
            address=config["ray_address"],
            cpus_per_trial=config["cpus_per_trial"],
            gpus_per_trial=config["gpus_per_trial"],
        ),
    )


class Named(Job, Protocol):
    """A job that says in a few words what it does."""

    @property
    def id(self) -> str:
        """For a person."""


def results_of(
    jobs: Sequence[Named], config: Mapping[str, Any], say: Callable[[str], None]
) -> list[Any]:
    """What the jobs return, in their order, on the executor that the settings ask for.

    `say` is told of each when it has ended. Raises `RunError` where one ends in anything but a
    result.
    """
    found: dict[int, Any] = {}
    with executor_of(config) as executor:
        for job, outcome in executor.run(iter(jobs)):
            if not isinstance(outcome, Ok):
                raise RunError(f"{job.id}: {outcome.kind} ({outcome.reason})")
            found[id(job)] = outcome.value
            say(f"{job.id}: {outcome.seconds:.0f} s")
    return [found[id(job)] for job in jobs]


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
) -> list[Entry]:
    """Run what the ledger of `folder` does not yet hold, phase after phase; returns their trials.

    Raises `RunError` where a piece ends in anything but a result, and where the ledger holds a
    result of another kind; what is done stays done.
    """
    path = folder.file("ledger.sqlite")
    # First the executor: settings that it refuses leave nothing behind.
    with (
        executor_of(folder.config) as running,
        Ledger.open(path) if os.path.lexists(path) else Ledger.create(path) as ledger,
    ):
        asked = {piece.id: piece for pieces in phases for piece in pieces}
        _check(ledger.trials(), asked, arm, path)
        for pieces in phases:
            missing = [piece for piece in pieces if ledger.get(piece.id) is None]
            for piece, outcome in running.run(iter(missing)):
                if not isinstance(outcome, Ok):
                    raise RunError(
                        f"{piece.id}: {outcome.kind} ({outcome.reason}); {_hint(outcome)}"
                    )
                ledger.record(
                    Entry(
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


def _check(trials: Sequence[Entry], known: Mapping[str, Piece], arm: str, path: Path) -> None:
    """Raise `RunError`, naming ledger and trial, for one that none of the pieces has made.

    Of payloads, numbers are compared: paths are others once a folder has been moved.
    """
    for trial in trials:
        where = f"{path}: trial '{printable(trial.id)}'"
        if trial.id not in known or trial.arm != arm or trial.key != trial.id:
            raise RunError(f"{where}: none that this run would make: {EDITED}; start the run anew")
        if trial.outcome != Ok.__name__ or trial.result is None:
            raise RunError(f"{where}: {printable(trial.outcome)}, and only results are kept here")
        check_summary(trial.result, known[trial.id].kind, where)
        for name, value in json.loads(json.dumps(_plain(known[trial.id]))).items():
            if _numbers(value) and trial.payload.get(name, value) != value:
                raise RunError(
                    f"{where}: has another {name} than this run would give it: {EDITED}; "
                    "start the run anew"
                )


def _numbers(value: object) -> bool:
    return all(isinstance(x, int | float) for x in (value if isinstance(value, list) else [value]))


def _hint(outcome: Outcome) -> str:
    if isinstance(outcome, Diverged):
        return "it would again: start anew, with a smaller learning rate perhaps"
    return "--resume tries it again"


def _plain(piece: Any) -> dict[str, Any]:
    # The folder may be moved between two sessions; it is no part of what was done.
    return {name: value for name, value in asdict(piece).items() if name != "path"}
