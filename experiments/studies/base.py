"""The parts of a study: jobs, a summary, and claims that a rule fixed beforehand decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypedDict, TypeVar

from robustkit.errors import ConfigError
from robustkit.reading import Json
from robustkit.registry import Registry
from robustkit.report import markdown_table
from robustkit.runs.summaries import Result
from robustkit.stats import Estimate

NOT_GIVEN = "not given"  # published value of a claim that is our own
VERDICTS = {True: "agrees", False: "disagrees", None: "not testable here"}
SCALES = {
    "smoke": "a rehearsal on embedded data",
    "small": "what two cores do in two hours",
    "paper": "the publication's size, for a GPU or for days",
}
# The published systems, in the order of the sources; OURS marks a study without a publication.
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

J = TypeVar("J", bound="StudyJob | CommandRun")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of the paper's `item`: the `published` value and `ours`, with n and interval.

    `holds` comes from a rule in the study's `claims`; it is None where a value is missing or its
    interval leaves both answers open.
    """

    item: str
    what: str
    published: str
    ours: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        """Return `agrees`, `disagrees` or `not testable here`."""
        return VERDICTS[self.holds]

    def to_json(self) -> dict[str, str]:
        """Return the entry of this claim in `summary.json`."""
        return {
            "exhibit": self.item,
            "claim": self.what,
            "published": self.published,
            "ours": self.ours,
            "verdict": self.verdict,
        }


def table(claims: Sequence[Claim]) -> str:
    """Return the claims as a Markdown table."""
    return markdown_table(
        ["claim", "published", "ours", "verdict"],
        [[claim.what, claim.published, claim.ours, claim.verdict] for claim in claims],
    )


def counted(claims: Sequence[Claim]) -> dict[str, int]:
    """Return the number of claims by verdict, zeros included."""
    return {word: sum(claim.verdict == word for claim in claims) for word in VERDICTS.values()}


def clear_of(estimate: Estimate, value: float) -> bool | None:
    """Return whether the interval lies above `value`; None where it contains it or is missing."""
    if estimate.low is None or estimate.high is None or estimate.low <= value <= estimate.high:
        return None
    return bool(estimate.low > value)


def below(estimate: Estimate, value: float = 0.0) -> bool | None:
    """Return whether the interval lies below `value`; None where it contains it or is missing."""
    above = clear_of(estimate, value)
    return None if above is None else not above


def beyond(estimate: Estimate, other: Estimate) -> bool | None:
    """Return True where the interval lies above the other's, False below, None where they meet."""
    if estimate.low is None or estimate.high is None or other.low is None or other.high is None:
        return None
    if estimate.low > other.high:
        return True
    return False if estimate.high < other.low else None


def everywhere(holds: Sequence[bool | None]) -> bool | None:
    """Return True if all are True, False if any is False, None if none is given or any is open."""
    if False in holds:
        return False
    return None if None in holds or not holds else True


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings of a study's run: its folder, one of `SCALES`, a seed and a device.

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
        """Return whether this is a rehearsal on embedded data."""
        return self.scale == "smoke"


@dataclass(frozen=True)
class StudyJob:
    """A job of a study. A subclass adds its settings, the type `kind` of its result, and `run`.

    `id` is unique in the study. Its parts between slashes are the keys of the result in a summary
    that the study does not make itself; whoever wants to know what a job did reads its settings.
    """

    id: str
    timeout: float | None = field(default=None, kw_only=True)

    kind: ClassVar[Any]

    def run(self) -> Any:
        """Return the result, a value of `kind`; the ledger keeps it as JSON."""
        raise NotImplementedError


@dataclass(frozen=True)
class CommandRun:
    """A run of another `command` in the folder `name` inside the study's.

    Its result is its summary, of which the study reads `kind`; `check(summary, where)` raises
    `RunError` for what a type cannot express.
    """

    name: str
    command: str
    arguments: tuple[str, ...]
    kind: type[Any]
    check: Callable[[Any, str], None] = lambda summary, where: None

    @property
    def id(self) -> str:
        """Return the name of the run in logs and errors."""
        return f"{self.command}/{self.name}"


class Results:
    """The typed results of a study, each beside the job or the command that gave it."""

    def __init__(self, results: Iterable[tuple[StudyJob | CommandRun, Any]]) -> None:
        self._results = tuple(results)

    def of(self, source: type[J], kind: type[R]) -> list[tuple[J, R]]:
        """Return the jobs of one class, in the order of their ids, with their results of `kind`.

        Commands with results of another kind are left out. Raises `TypeError` where such a job
        has results of another kind.
        """
        matching: list[tuple[J, R]] = [
            (job, result)
            for job, result in self._results
            if isinstance(job, source) and (job.kind == kind or not isinstance(job, CommandRun))
        ]
        for job, _ in matching:
            if job.kind != kind:
                raise TypeError(f"{job.id}: its results are of {job.kind}, not of {kind}")
        return matching

    def by_id(self) -> Json:
        """Return results by the parts of their ids: that of `train/3/0` at `train`, `3`, `0`."""
        tree: Json = {}
        for job, result in self._results:
            *parts, last = job.id.split("/")
            inner = tree
            for part in parts:
                inner = inner.setdefault(part, {})
            inner[last] = result
        return tree


class Header(TypedDict):
    """The first entries of every study's summary: see `StudySummary`."""

    scale: str
    exhibit: str | None
    study: str


class StudySummary(Result, frozen=True, kw_only=True):
    """The summary of a study; a subclass adds its results. `exhibit` is the item of the paper."""

    scale: str = "small"
    exhibit: str | None = None
    study: str


@dataclass(frozen=True, kw_only=True)
class PaperItem:
    """A table, a figure or a claim of the paper that a study reproduces.

    `shows` says where the paper has it; `needs` selects the jobs and commands whose results it
    takes; `claimed` is False where it has tables but no claims.
    """

    name: str
    shows: str
    needs: Callable[[StudyJob | CommandRun], bool] = lambda job: True
    claimed: bool = True


@dataclass(frozen=True, kw_only=True)
class Study:
    """A published experiment, or a question of our own.

    What it is: `system`, the published system, or `OURS`; `source`, the publication or the
    question; `scales`, those of `SCALES` it has, with data and duration in a line; `items` of the
    paper (none: one of the study's own name); `deviations` from the publication at every scale and
    at `small` alone; `options` it uses of "device", "weights" and "images".

    What it does: `prepare(plan)` makes files that commands read, where they are not there;
    `commands(plan)` are run then, and `jobs(plan)`, list after list, each list in
    parallel; `summarise` makes the summary of all results, of the type `summary` (None: results lie
    in it by the parts of their ids), and `check(summary, where)` raises `RunError` for what a type
    cannot express. Of a checked summary
    `claims` decides the claims, `render` makes the page in Markdown, and `figures` yields names and
    SVG. All of these accept the results of a single item.
    """

    name: str
    title: str
    source: str
    scales: Mapping[str, str]
    jobs: Callable[[Plan], Sequence[Sequence[StudyJob]]]
    summary: type[Any]
    render: Callable[[Any], str]
    claims: Callable[[Any], Sequence[Claim]]
    system: str = OURS
    items: tuple[PaperItem, ...] = ()
    deviations: tuple[str, ...] = ()
    small_deviations: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    prepare: Callable[[Plan], None] = lambda plan: None
    commands: Callable[[Plan], Sequence[CommandRun]] = lambda plan: ()
    summarise: Callable[[Results, Header], StudySummary] | None = None
    check: Callable[[Any, str], None] = lambda summary, where: None
    figures: Callable[[Any], Iterable[tuple[str, str]]] = lambda summary: ()

    def __post_init__(self) -> None:
        if not self.items:
            object.__setattr__(self, "items", (PaperItem(name=self.name, shows=self.title),))


EXPERIMENTS: Registry[Study] = Registry("experiment", ConfigError)
_ITEMS: Registry[tuple[Study, PaperItem | None]] = Registry("experiment", ConfigError)


def register(study: Study) -> None:
    """Register a study and its items; raises `ValueError` for a name that is taken.

    An item that has the name of its study is not registered apart.
    """
    EXPERIMENTS.enter(study.name, study)
    for item in study.items:
        if item.name != study.name:
            _ITEMS.enter(item.name, (study, item))
    _ITEMS.enter(study.name, (study, None))


def find(name: str) -> tuple[Study, PaperItem | None]:
    """Return the study called `name`, or the study and its item; raises `ConfigError`."""
    return _ITEMS.find(name)
