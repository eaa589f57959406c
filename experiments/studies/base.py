"""Claims of publications, our figures beside them, and what follows by a rule fixed beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustkit.errors import ConfigError
from robustkit.jobs.run import Piece
from robustkit.registry import Registry

NOT_GIVEN = "not given"  # what stands for a published figure where a claim is this house's own
VERDICTS = {True: "agrees", False: "disagrees", None: "not testable here"}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of the exhibit `exhibit`: `published` figures and `ours`, with n and intervals.

    `holds` comes from a rule of the study's `judge`; None where a figure is missing, or an
    interval leaves open which way it is.
    """

    exhibit: str
    what: str
    published: str
    ours: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        """`agrees`, `disagrees` or `not testable here`."""
        return VERDICTS[self.holds]

    def to_dict(self) -> dict[str, Any]:
        """As it stands in `summary.json` under `claims`."""
        return {
            "exhibit": self.exhibit,
            "claim": self.what,
            "published": self.published,
            "ours": self.ours,
            "verdict": self.verdict,
        }


def table(claims: Sequence[Claim]) -> str:
    """The claims in Markdown."""
    lines = ["| claim | published | ours | verdict |", "|---|---|---|---|"]
    lines += [
        f"| {each.what} | {each.published} | {each.ours} | {each.verdict} |" for each in claims
    ]
    return "\n".join(lines)


def counted(claims: Sequence[Claim]) -> dict[str, int]:
    """How many claims have each verdict, those without any included."""
    return {word: sum(each.verdict == word for each in claims) for word in VERDICTS.values()}


def clear_of(found: Mapping[str, Any], value: float) -> bool | None:
    """Whether an interval {low, high} lies above `value`; None where it holds it or is missing."""
    if found.get("low") is None or found["low"] <= value <= found["high"]:
        return None
    return bool(found["low"] > value)


def beyond(found: Mapping[str, Any], other: Mapping[str, Any]) -> bool | None:
    """Whether an interval {low, high} lies above another, False below it; None where they meet."""
    if found.get("low") is None or other.get("low") is None:
        return None
    if found["low"] > other["high"]:
        return True
    return False if found["high"] < other["low"] else None


def everywhere(verdicts: Sequence[bool | None]) -> bool | None:
    """True where all hold, False where one does not, None of nothing or of what is left open."""
    if False in verdicts:
        return False
    return None if None in verdicts or not verdicts else True


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


# The seven systems behind this house, in the order of the sources; a study of ours has none.
SYSTEMS = (
    "misalignment",
    "adversarial adaptation",
    "history repair",
    "filter contribution",
    "occlusion",
    "contribution maps",
    "over-training",
)
OURS = "ours"

EXPERIMENTS: Registry[Study] = Registry("experiment", ConfigError)
_EXHIBITS: Registry[tuple[Study, Exhibit | None]] = Registry("experiment", ConfigError)


def enter(study: Study) -> None:
    """Register a study and its exhibits; a second of any name is a bug.

    A study with one exhibit of its own name is that exhibit.
    """
    EXPERIMENTS.enter(study.name, study)
    for exhibit in study.exhibits:
        if exhibit.name != study.name:
            _EXHIBITS.enter(exhibit.name, (study, exhibit))
    _EXHIBITS.enter(study.name, (study, None))


def find(name: str) -> tuple[Study, Exhibit | None]:
    """The study called `name`, whole, or the study and the exhibit of it; or a `ConfigError`."""
    return _EXHIBITS.find(name)
