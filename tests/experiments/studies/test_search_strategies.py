"""The study of strategies: its measure against counted squares, its rules, all of it in small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.studies.search_strategies.jobs import (
    SEARCHES,
    SMOKE,
    Evaluated,
    Summary,
    common,
    config_of,
    lowest_epochs,
)
from experiments.studies.search_strategies.study import claims, hypervolume, render
from robustkit.cli.main import main
from tests.experiments.studies.completing import completed

TENTHS = st.integers(0, 10)


@given(st.lists(st.tuples(TENTHS, TENTHS), max_size=6), TENTHS)
def test_the_hypervolume_is_the_squares_that_are_dominated(
    points: list[tuple[int, int]], corner: int
) -> None:
    nets = [Evaluated(accuracy=a / 10, transfer=t / 10) for a, t in points]
    squares = sum(
        any(a > x and 10 - t > y for a, t in points) for x in range(corner, 10) for y in range(10)
    )
    failed = Evaluated(accuracy=None, transfer=None)
    assert hypervolume([*nets, failed], corner / 10) == pytest.approx(squares, abs=1e-9)


def test_every_search_has_the_same_epochs() -> None:
    base = common(0, smoke=False)
    for search in SEARCHES:
        config = config_of(search, base)
        assert config.search_epochs == base.search_epochs
        known = lowest_epochs(base)
        assert config.epochs in known
    assert lowest_epochs(base) == (1, 2, 4)


def ends(**values: list[float]) -> dict[str, Any]:
    return {
        name: {str(seed): {"hypervolume": {"1": value}} for seed, value in enumerate(of)}
        for name, of in values.items()
    }


def told(searches: dict[str, Any]) -> dict[str, bool | None]:
    summary = completed(Summary, {"searches": searches, "reference": {"0": ...}})
    return {claim.what: claim.holds for claim in claims(summary)}


def test_a_claim_needs_an_interval_clear_of_zero() -> None:
    found = told(ends(random=[1.0, 1.1, 0.9], nsga2=[2.0, 2.1, 1.9], ageing=[0.5, 2.0, 1.4]))
    assert found["nsga2 finds more than random"] is True
    assert found["random finds more than nsga2"] is False
    assert found["ageing finds more than random"] is None
    alone = told(ends(random=[1.0], nsga2=[2.0]))
    assert alone["nsga2 finds more than random"] is None


def test_the_study_in_small(tmp_path: Path) -> None:
    out = tmp_path / "study"
    flags = ["--scale=smoke", "--executor", "inline", "--out", str(out)]
    assert main(["reproduce", "search-strategies", *flags]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["searches"]) == set(SMOKE)
    for of in summary["searches"].values():
        (run,) = of.values()
        assert 0 < run["epochs"] <= common(0, smoke=True).search_epochs
        volumes = list(run["hypervolume"].values())
        assert len(volumes) == 4
        assert all(each >= 0 for each in volumes)
        assert 1 <= len(run["nets"]) <= 4
    assert (out / "courses.svg").is_file()
    assert "| halving |" in render(Summary.from_json(summary, "summary"))
