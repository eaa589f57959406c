"""The front against its definition, and failures kept off it."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from evolution.genotype import Candidate, Genotype, Trial
from evolution.objectives import Objective, front, parse_objectives
from robustkit.models.blueprint import Block

GENOTYPE = Genotype((Block(),))
OBJECTIVES = parse_objectives("accuracy:max,transfer:min,macs:min")
BOUNDED = parse_objectives("accuracy:max>=0.5,transfer:min,macs:min<=1")
KINDS = ("Ok", "Ok", "Ok", "Diverged", "Timeout")

numbers = st.sampled_from((0.0, 0.25, 0.5, 1.0, 2.0, math.nan, math.inf, -math.inf))
tables = st.lists(st.tuples(numbers, numbers, numbers, st.sampled_from(KINDS)), max_size=12)
Row = tuple[float, float, float, str]


def scored(rows: list[Row]) -> list[Trial]:
    names = [objective.name for objective in OBJECTIVES]
    return [
        Trial(
            Candidate(number, GENOTYPE, (), "sample", 0),
            row[3],
            dict(zip(names, row[:3], strict=True)) if row[3] == "Ok" else None,
        )
        for number, row in enumerate(rows)
    ]


def slow_front(rows: list[Row], objectives: tuple[Objective, ...]) -> list[int]:
    """Every pair compared by the definition."""

    def usable(row: Row) -> bool:
        return row[3] == "Ok" and all(math.isfinite(number) for number in row[:3])

    def beats(a: Row, b: Row) -> bool:
        miss_a, miss_b = (
            sum(o.violation(v) for o, v in zip(objectives, row[:3], strict=True)) for row in (a, b)
        )
        if miss_a != miss_b:
            return miss_a < miss_b
        pairs = [(a[0], b[0]), (-a[1], -b[1]), (-a[2], -b[2])]
        return all(x >= y for x, y in pairs) and any(x > y for x, y in pairs)

    usable_rows = [row for row in rows if usable(row)]
    return [
        number
        for number, row in enumerate(rows)
        if usable(row) and not any(beats(other, row) for other in usable_rows)
    ]


@given(tables, st.sampled_from((OBJECTIVES, BOUNDED)), st.randoms(use_true_random=False))
def test_the_front_is_what_no_other_dominates(
    rows: list[Row], objectives: tuple[Objective, ...], shuffler: random.Random
) -> None:
    told = scored(rows)
    shuffler.shuffle(told)
    found = [each.candidate.number for each in front(told, objectives)]
    assert found == slow_front(rows, objectives)


def test_a_nan_does_not_win() -> None:
    rows = [(math.nan, math.nan, math.nan, "Ok"), (0.1, 0.9, 9.0, "Ok"), (1.0, 0.0, 0.0, "Lost")]
    assert [each.candidate.number for each in front(scored(rows), OBJECTIVES)] == [1]
