"""Two measurements of the same things: what has changed, and whether by more than they vary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from experiments.benchmarks.record import Record
from experiments.benchmarks.results import Results

SAME, BETTER, WORSE = (
    "within the spreads",
    "better, beyond the spreads",
    "worse, beyond the spreads",
)
UNKNOWN = "one round: spread unknown"


@dataclass(frozen=True)
class Change:
    """A record then and now; `factor` is new by old, `verdict` what to make of it."""

    suite: str
    what: str
    old: Record | None
    new: Record | None
    factor: float | None
    verdict: str


def changes(old: Results, new: Results) -> Iterator[Change]:
    """A change for every record of the suites that are in both, in the order of the new ones.

    The medians' ratios have changed beyond the spreads where no ratio that the old quartiles allow
    is one that the new ones allow.
    """
    for suite, measured in new.suites.items():
        if suite not in old.suites:
            continue
        before = {record.what: record for record in old.suites[suite].records}
        for record in measured.records:
            yield _change(suite, record.what, before.pop(record.what, None), record)
        for what, record in before.items():
            yield Change(suite, what, record, None, None, "gone")


def unmatched(old: Results, new: Results) -> list[str]:
    """Lines about suites that only one of the two has."""
    lines = []
    for text, one, other in (("only in the old file", old, new), ("only in the new one", new, old)):
        names = [name for name in one.suites if name not in other.suites]
        if names:
            lines.append(f"not compared, {text}: {', '.join(names)}")
    return lines


def _change(suite: str, what: str, old: Record | None, new: Record) -> Change:
    if old is None:
        return Change(suite, what, None, new, None, "new")
    if old.value is None or new.value is None:
        which = "then" if old.value is None else "now"
        return Change(suite, what, old, new, None, f"no figure {which}")
    if (old.ratio_of, old.higher, *_units(old)) != (new.ratio_of, new.higher, *_units(new)):
        return Change(suite, what, old, new, None, "not the same quantity")
    factor = new.value / old.value if old.value else None
    return Change(suite, what, old, new, factor, _verdict(old, new))


def _units(record: Record) -> tuple[str | None, str | None]:
    ours, peer = (figure.unit if figure else None for figure in (record.ours, record.peer))
    return ours, peer


def _verdict(old: Record, new: Record) -> str:
    if old.span is None or new.span is None:
        return UNKNOWN
    if new.span[0] > old.span[1]:
        return BETTER if new.higher else WORSE
    if new.span[1] < old.span[0]:
        return WORSE if new.higher else BETTER
    return SAME
