"""A published experiment of many independent pieces: jobs, a ledger of their results, a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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


SIZES = ("quick", "small", "published")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was asked of a study: its run folder, one of `SIZES`, a seed, where nets are to run.

    `weights` and `images` are the user's own: a file of weights and a folder of pictures.
    """

    folder: Path
    size: str = "small"
    seed: int = 0
    device: str = "cpu"
    weights: str | None = None
    images: str | None = None

    @property
    def quick(self) -> bool:
        """A rehearsal on embedded data."""
        return self.size == "quick"


@dataclass(frozen=True, kw_only=True)
class Study:
    """A published experiment that no single verb runs.

    `phases(plan)` are the pieces, one phase after the other; `summarise` makes a summary of all
    results by id, `render` the comparison in Markdown of that summary, `draw` figures of it, names
    and SVG. `takes` are the options it has a use for: "published", a size out of reach of two
    cores; "device"; "weights" and "images" of the user.
    """

    name: str
    title: str
    source: str
    phases: Callable[[Plan], Sequence[Sequence[Piece]]]
    summarise: Callable[[Results], dict[str, Any]]
    render: Callable[[Mapping[str, Any]], str]
    draw: Callable[[Mapping[str, Any]], Iterable[tuple[str, str]]] = lambda summary: ()
    takes: tuple[str, ...] = ()


def run_study(study: Study, folder: RunFolder, say: Callable[[str], None]) -> dict[str, Any]:
    """Run what the ledger does not yet hold, and return the summary of all.

    Raises `RunError` where a piece ends in anything but a result; what is done stays done.
    """
    settings = folder.config
    path = folder.file("ledger.sqlite")
    # First the executor: settings that it refuses leave nothing behind.
    opened = open_executor(settings["executor"], workers=settings["workers"], timeout=None)
    with opened as executor, Ledger.open(path) if path.exists() else Ledger.create(path) as ledger:
        for pieces in study.phases(_plan(folder)):
            missing = [piece for piece in pieces if ledger.get(piece.id) is None]
            _carry_out(missing, ledger, executor, say)
        results = {trial.id: trial.result or {} for trial in ledger.trials()}
    return study.summarise(results)


def _plan(folder: RunFolder) -> Plan:
    config = folder.config
    size = next((size for size in SIZES if config.get(size)), "small")
    chosen = {name: config[name] for name in ("seed", "weights", "images")}
    return Plan(folder=folder.path, size=size, device=config["device"], **chosen)


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
