"""Figures and records: a ratio comes from two figures, and what is written is what is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from experiments.benchmarks.record import Record, Value, alone, cost, per_second, skipped, speedup
from robustkit.errors import RunError

SLOW = Value("slow", "s", (4.0, 2.0, 3.0))
FAST = Value("fast", "s", (1.0, 1.5, 2.0, 1.4, 1.6))


def test_a_figure_is_a_median_with_its_spread() -> None:
    assert (SLOW.median, SLOW.spread) == (3.0, (2.0, 4.0))  # few values: the ends
    assert (FAST.median, FAST.spread) == (1.5, (1.4, 1.6))  # quartiles
    assert Value("once", "s", (1.0,)).spread is None
    assert per_second("made", "images", 10, [2.0, 5.0]).values == (5.0, 2.0)


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (SLOW, "slow 3 s (2–4, n 3)"),
        (Value("step", "s", (0.0123,)), "step 12.3 ms (n 1)"),
        (Value("tick", "s", (2e-7,)), "tick 0.2 µs (n 1)"),
        (Value("held", "bytes", (3.0 * 2**20,)), "held 3 MiB (n 1)"),
        (Value("held", "bytes", (12.0,)), "held 12 bytes (n 1)"),
        (Value("made", "images/s", (1234.6,)), "made 1,235 images/s (n 1)"),
    ],
)
def test_a_figure_reads_in_units_of_its_size(figure: Value, text: str) -> None:
    assert str(figure) == text


@pytest.mark.parametrize("values", [(), (1.0, float("nan")), (float("inf"),)])
def test_a_figure_without_numbers_is_none(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="no finite values"):
        Value("nothing", "s", values)


def test_a_ratio_is_of_the_medians_and_of_two_figures_only() -> None:
    assert cost("c", SLOW, FAST).ratio == pytest.approx(2.0)
    assert speedup("s", FAST, SLOW).ratio == pytest.approx(2.0)
    assert speedup("s", FAST, SLOW, differs="other maps").ratio is None
    assert alone("a", SLOW).ratio is None
    assert alone("a", SLOW).value == 3.0
    assert skipped("k", "no peer").value is None


def test_the_span_of_a_ratio_covers_what_the_spreads_allow() -> None:
    low, high = 2.0 / 1.6, 4.0 / 1.4
    assert cost("c", SLOW, FAST).span == pytest.approx((low, high))
    assert speedup("s", FAST, SLOW).span == pytest.approx((low, high))
    assert alone("a", SLOW).span == (2.0, 4.0)
    assert cost("c", SLOW, Value("once", "s", (1.0,))).span is None


@pytest.mark.parametrize(
    ("record", "kept"),
    [
        (cost("c", SLOW, FAST, at_most=2.0), True),
        (cost("c", SLOW, FAST, at_most=1.9), False),
        (speedup("s", FAST, SLOW, at_least=2.0), True),
        (speedup("s", FAST, SLOW, at_least=2.1), False),
        (speedup("s", FAST, SLOW, at_least=1.0, differs="other maps"), False),
        (alone("a", SLOW, at_most=3.0), True),
        (alone("a", SLOW, at_most=2.9), False),
        (cost("c", SLOW, FAST), None),
        (skipped("k", "no peer"), None),
    ],
)
def test_what_is_claimed_is_kept_or_missed(record: Record, kept: bool | None) -> None:
    assert record.kept is kept


@pytest.mark.parametrize(
    "record",
    [
        cost("c", SLOW, FAST, at_most=2.0, note="a note"),
        speedup("s", FAST, SLOW, differs="other maps"),
        alone("a", SLOW),
        skipped("k", "no peer"),
        Record(what="rate", ours=per_second("made", "images", 3, [2.0]), higher=True),
    ],
)
def test_a_record_survives_its_file(record: Record) -> None:
    assert Record.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_no_ratio_is_written_without_both_figures() -> None:
    for record in (cost("c", SLOW, FAST), alone("a", SLOW), skipped("k", "no peer")):
        written = record.to_dict()
        assert (written["ratio"] is None) or (written["ours"] and written["peer"])
    figure = cost("c", SLOW, FAST).to_dict()["ours"]
    assert figure["median"] == 3.0
    assert (figure["low"], figure["high"], figure["rounds"]) == (2.0, 4.0, 3)
    assert figure["spread"] == "least and greatest"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Record(what="x"), "either our figure, or a reason"),
        (lambda: Record(what="x", ours=SLOW, skipped="no peer"), "either our figure, or a reason"),
        (lambda: Record(what="x", ours=SLOW, ratio_of="peer"), "no ratio 'peer'"),
        (lambda: cost("x", SLOW, Value("held", "bytes", (1.0,))), "s beside bytes"),
        (lambda: cost("x", SLOW, Value("zero", "s", (0.0,))), "nothing to divide by in 'zero'"),
    ],
)
def test_records_that_say_nothing_are_refused(make: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"ours": {"name": "x", "unit": "s", "values": ["1"]}},
            r"values\[0\]: expected 'float'",
        ),
        ({"ours": {"name": "x", "unit": 1, "values": [1]}}, r"ours\.unit: expected 'str'"),
        (
            {"ours": {"name": "x", "unit": "s", "values": []}},
            "expected 'array' of length >= 1",
        ),
        ({"bound": "3"}, r"bound: expected 'int \| float \| null'"),
        ({"bound": True}, "bound: expected .*, got 'bool'"),
        ({"what": None}, "what: expected 'str', got 'null'"),
        ({"ours": None}, "either our figure, or a reason"),
        ({"higher_is_better": "no"}, "higher_is_better: expected 'bool'"),
    ],
)
def test_what_is_no_record_is_told(change: dict[str, Any], match: str) -> None:
    with pytest.raises(RunError, match=match):
        Record.from_dict(cost("c", SLOW, FAST).to_dict() | change)
