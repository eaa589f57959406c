"""What has changed between two benches, and whether by more than they vary."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from experiments.benchmarks.record import Record, Value, alone, cost, skipped, speedup
from experiments.benchmarks.results import (
    BETTER,
    SAME,
    UNKNOWN,
    WORSE,
    Measured,
    Results,
    changes,
    differences,
    unmatched,
)

BASE = Value("peer", "s", (1.0, 1.0, 1.0))


def ours(*values: float) -> Value:
    return Value("ours", "s", values)


def results(*records: Record, suite: str = "suite", cpu: str = "one") -> Results:
    measured = Measured(
        records=records, time="", commit=None, command=(), threads=1, seconds=1.0, setting={}
    )
    return Results({"cpu": cpu}, {"torch": "2"}, {suite: measured})


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ((1.0, 1.1, 1.2), (1.15, 1.3, 1.4), SAME),
        ((1.0, 1.1, 1.2), (1.3, 1.4, 1.5), WORSE),
        ((1.3, 1.4, 1.5), (1.0, 1.1, 1.2), BETTER),
        ((1.0,), (9.0, 9.1, 9.2), UNKNOWN),
    ],
)
def test_a_change_is_beyond_the_spreads_or_within(
    old: Sequence[float], new: Sequence[float], verdict: str
) -> None:
    pairs = (results(cost("x", ours(*old), BASE)), results(cost("x", ours(*new), BASE)))
    (change,) = changes(*pairs)
    assert change.verdict == verdict
    assert change.factor is not None
    assert change.factor == pytest.approx(ours(*new).median / ours(*old).median)
    # The same times told as a speed-up are the same verdict, and the factor's inverse.
    pairs = (results(speedup("x", ours(*old), BASE)), results(speedup("x", ours(*new), BASE)))
    (told,) = changes(*pairs)
    assert told.verdict == verdict
    assert told.factor is not None
    assert told.factor * change.factor == pytest.approx(1.0)


def test_what_only_one_of_them_has_is_named() -> None:
    old = results(alone("both", ours(1.0)), alone("old", ours(1.0)), alone("off", ours(1.0)))
    new = results(alone("both", ours(1.0)), alone("new", ours(1.0)), skipped("off", "no peer"))
    found = {change.what: change.verdict for change in changes(old, new)}
    assert found == {"both": UNKNOWN, "new": "new", "off": "no figure now", "old": "gone"}


def test_other_quantities_of_one_name_are_not_compared() -> None:
    old, new = results(cost("x", ours(1.0), BASE)), results(speedup("x", ours(1.0), BASE))
    assert next(changes(old, new)).verdict == "not the same quantity"


def test_suites_of_one_side_are_named_and_not_compared() -> None:
    old, new = results(alone("x", ours(1.0))), results(alone("x", ours(1.0)), suite="other")
    assert list(changes(old, new)) == []
    assert unmatched(old, new) == [
        "not compared, only in the old file: suite",
        "not compared, only in the new one: other",
    ]


def test_other_machines_and_versions_are_named() -> None:
    one, other = results(cpu="one"), results(cpu="two")
    assert differences(one, one) == []
    assert differences(one, other) == ["cpu one → two"]


def test_a_name_stands_for_one_record() -> None:
    with pytest.raises(ValueError, match="two records are called 'x'"):
        results(alone("x", ours(1.0)), alone("x", ours(2.0)))
