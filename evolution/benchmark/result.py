"""The result of a run on the benchmark: its summary and its ledger, checked when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from evolution.benchmark.config import BenchmarkConfig
from evolution.benchmark.search import (
    PROMOTED,
    SEARCHES,
    Searched,
    Spent,
    Values,
    seen_front,
    selected,
)
from evolution.genotype import Candidate, Genotype, Trial
from evolution.objectives import dominated_area
from robustkit.errors import ModelError, RunError
from robustkit.reading import check_kind
from robustkit.runs import Entry
from robustkit.runs.summaries import Amount, Count, Number, Points, Result, Share

Area = Annotated[float, Meta(ge=0, le=100)]


class Measures(Result, frozen=True, kw_only=True):
    """A training's numbers; `transfer` and `unseen` are means over the references."""

    accuracy: Share
    transfer: Share
    unseen: Share | None
    macs: Amount
    params: Amount


class Network(Result, frozen=True, kw_only=True):
    """A network that was found: as its training was drawn, and as it is expected."""

    number: Count
    key: str
    seen: Measures
    expected: Measures


class SearchResult(Result, frozen=True, kw_only=True):
    """One search: what it spent, what it selected, and the front of its trials as drawn.

    `area` is what the networks on that front dominate by what is expected of them, `area_seen` by
    their draws, in points of accuracy; see `dominated_area`.
    """

    trials: Number
    epochs: Number
    area: Area
    area_seen: Area
    selected: Network
    front: list[Network]


class Summary(Result, frozen=True, kw_only=True):
    """Evolution and its random control on a table of `networks` networks.

    `baseline` is the reference vgg5's own architecture under the penalty, as expected; `threshold`
    the accuracy asked for. Gains are evolution's over random search, by what is expected: of the
    area in points of accuracy, of the selected networks' transfer in percentage points.
    """

    networks: Number
    table: str
    baseline: Measures
    threshold: Share
    evolve: SearchResult
    random: SearchResult
    area_gain: Points
    transfer_gain: Points
    accuracy_gain: Points
    seconds: Amount


def summarise(
    searches: dict[str, Searched],
    config: BenchmarkConfig,
    baseline: Values,
    *,
    networks: int,
    table: str,
    seconds: float,
) -> Summary:
    """Return the summary of both searches; `baseline` is that of `evolution.benchmark.search`."""
    threshold = max(0.0, baseline["accuracy"] - config.tolerance)
    corner = baseline["accuracy"] - config.floor
    results = {name: _search_result(search, threshold, corner) for name, search in searches.items()}
    evolve, random = (results[name] for name in SEARCHES)
    best, control = evolve.selected.expected, random.selected.expected
    return Summary(
        networks=networks,
        table=table,
        baseline=_measures(baseline),
        threshold=threshold,
        evolve=evolve,
        random=random,
        area_gain=evolve.area - random.area,
        transfer_gain=100 * (control.transfer - best.transfer),
        accuracy_gain=100 * (best.accuracy - control.accuracy),
        seconds=seconds,
    )


def pairs(trials: Sequence[Spent], *, expected: bool) -> list[tuple[float, float]]:
    """Return accuracy and transfer of trials, as drawn or as expected."""
    values = [each.expected if expected else each.seen for each in trials]
    return [(each["accuracy"], each["transfer"]) for each in values]


def _search_result(search: Searched, threshold: float, corner: float) -> SearchResult:
    front = seen_front(search.whole)
    return SearchResult(
        trials=len(search.trials),
        epochs=search.trials[-1].total,
        area=dominated_area(pairs(front, expected=True), corner),
        area_seen=dominated_area(pairs(front, expected=False), corner),
        selected=_network(selected(search.promoted or search.whole, threshold)),
        front=[_network(each) for each in front],
    )


def _network(spent: Spent) -> Network:
    candidate = spent.trial.candidate
    return Network(
        number=candidate.number,
        key=candidate.genotype.key(),
        seen=_measures(spent.seen),
        expected=_measures(spent.expected),
    )


def _measures(values: Values) -> Measures:
    return Measures(
        accuracy=values["accuracy"],
        transfer=values["transfer"],
        unseen=values.get("unseen"),
        macs=values["macs"],
        params=values["params"],
    )


# -------------------------------------------------------------------------------- the ledger


class _Values(Result, frozen=True, kw_only=True):
    """The numbers of a trial that a report draws; others are there besides."""

    accuracy: Share
    transfer: Share
    macs: Amount
    params: Amount
    unseen: Share | None = None


class _Drawn(Result, frozen=True, kw_only=True):
    values: _Values
    expected: _Values


class _Payload(Result, frozen=True, kw_only=True):
    genotype: dict[str, object]
    number: Count
    parents: list[Count]
    operator: str
    generation: Count
    epochs: Number


def read_searches(entries: Sequence[Entry], config: BenchmarkConfig) -> dict[str, Searched]:
    """Return both searches from the entries of a ledger in the order in which they ended.

    Raises `RunError`, naming the entry, for one that is no trial of such a run.
    """
    trials: dict[str, list[Spent]] = {name: [] for name in SEARCHES}
    total = dict.fromkeys(SEARCHES, 0)
    for entry in entries:
        name = entry.stage.removeprefix(PROMOTED)
        promoted = name != entry.stage
        if name not in trials or entry.outcome != "Ok" or entry.result is None:
            raise RunError(f"trial '{entry.id}' is none of a search on the benchmark")
        payload = check_kind(entry.payload, _Payload, f"trial '{entry.id}'", error=RunError)
        drawn = check_kind(entry.result, _Drawn, f"trial '{entry.id}'", error=RunError)
        allowed = (config.epochs,) if name == "random" or promoted else config.rungs
        if payload.epochs not in allowed:
            raise RunError(f"trial '{entry.id}': {payload.epochs} epochs, and there are {allowed}")
        total[name] += 0 if promoted else payload.epochs
        trials[name].append(
            Spent(
                _trial(entry, payload, drawn.values),
                _plain(drawn.expected),
                payload.epochs,
                total[name],
                promoted,
            )
        )
    for name, found in trials.items():
        if not any(each.epochs == config.epochs and not each.promoted for each in found):
            raise RunError(f"the ledger has no whole trial of the search '{name}'")
    return {name: Searched(name, config.epochs, tuple(found)) for name, found in trials.items()}


def _trial(entry: Entry, payload: _Payload, values: _Values) -> Trial:
    try:
        genotype = Genotype.from_dict(payload.genotype)
    except ModelError as error:
        raise RunError(f"trial '{entry.id}': {error}") from None
    parents = tuple(payload.parents)
    candidate = Candidate(payload.number, genotype, parents, payload.operator, payload.generation)
    return Trial(candidate, entry.outcome, _plain(values), entry.reason, entry.seconds)


def _plain(values: _Values) -> dict[str, float]:
    return {name: value for name, value in values.to_json().items() if value is not None}
