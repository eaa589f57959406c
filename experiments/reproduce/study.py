"""A published experiment of many independent pieces: jobs, a ledger of their results, a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.pieces import Piece, carry_out
from robustkit.runs import RunFolder

Results = Mapping[str, dict[str, Any]]
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
    trials = carry_out(
        study.phases(_plan(folder)),
        folder,
        arm="study",
        say=say,
    )
    return study.summarise({trial.id: trial.result or {} for trial in trials})


def _plan(folder: RunFolder) -> Plan:
    config = folder.config
    size = next((size for size in SIZES if config.get(size)), "small")
    chosen = {name: config[name] for name in ("seed", "weights", "images")}
    return Plan(folder=folder.path.resolve(), size=size, device=config["device"], **chosen)
