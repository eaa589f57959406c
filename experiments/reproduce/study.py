"""A published experiment: runs of verbs, independent jobs, a ledger of results, claims, a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.pieces import Piece
from experiments.reproduce.claims import Claim

Results = Mapping[str, dict[str, Any]]
SCALES = {
    "smoke": "a rehearsal on embedded data",
    "small": "what two cores do in two hours",
    "paper": "the publication's size, for a GPU or for days",
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was asked of a study: its run folder, one of `SCALES`, a seed, where nets are to run.

    `weights` and `images` are the user's own: a file of weights and a folder of pictures.
    """

    folder: Path
    scale: str = "small"
    seed: int = 0
    device: str = "cpu"
    weights: str | None = None
    images: str | None = None

    @property
    def smoke(self) -> bool:
        """A rehearsal on embedded data."""
        return self.scale == "smoke"


@dataclass(frozen=True)
class VerbRun:
    """A run of another verb, in the folder `name` inside the study's.

    Its result is its summary, of the `kind` that the study reads; `check(summary, where)` raises
    `RunError` for what no type can say.
    """

    name: str
    verb: str
    arguments: tuple[str, ...]
    kind: type[Any]
    check: Callable[[Any, str], None] = lambda summary, where: None

    @property
    def id(self) -> str:
        """Its name among the study's results."""
        return f"{self.verb}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A published table or figure, or a claim of the text, that a study reproduces.

    `shows` says where it stands in the publication; `needs` which results it takes, by their ids;
    without `claimed` there are tables of it alone.
    """

    name: str
    shows: str
    needs: Callable[[str], bool] = lambda identity: True
    claimed: bool = True


@dataclass(frozen=True, kw_only=True)
class Study:
    """A published experiment.

    `scales` says in a line what each of `SCALES` that it has takes for data and how long.
    `runs(plan)` are runs of other verbs, which come first; `phases(plan)` the pieces, one phase
    after the other; `summarise` makes a summary of all results by id. It is of the `kind`, a
    `TypedDict`, and `check(summary, where)` raises `RunError` for what no type can say. Of a
    checked summary `judge` makes claims, `render` the comparison in Markdown, `draw` figures, names
    and SVG. `system` is the published system, `OURS` where the question is this house's own.
    `deviations` set every run of it apart from the publication, `only_small` those of `small`
    besides. `takes` are the options it has a use for: "device"; "weights" and "images" of the
    user, which its paper scale is made of. An exhibit's results are a part of the study's:
    `summarise`, `judge`, `render` and `draw` make do with any part that has an exhibit.
    """

    name: str
    system: str
    title: str
    source: str
    scales: Mapping[str, str]
    exhibits: tuple[Exhibit, ...]
    deviations: tuple[str, ...]
    phases: Callable[[Plan], Sequence[Sequence[Piece]]]
    summarise: Callable[[Results], dict[str, Any]]
    kind: type[Any]
    judge: Callable[[Any], Sequence[Claim]]
    render: Callable[[Any], str]
    check: Callable[[Any, str], None] = lambda summary, where: None
    runs: Callable[[Plan], Sequence[VerbRun]] = lambda plan: ()
    draw: Callable[[Any], Iterable[tuple[str, str]]] = lambda summary: ()
    takes: tuple[str, ...] = ()
    only_small: tuple[str, ...] = ()
