"""The study of strategies on the benchmark: its rule, its costs, and all of it in small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evolution.benchmark.measure import REFERENCES
from evolution.benchmark.surrogate import open_surrogate
from evolution.benchmark.table import save_table
from experiments.studies.benchmark_strategies.jobs import (
    BLOCK,
    DEFAULT,
    SEARCHES,
    SHARES,
    SMOKE,
    Search,
    blocks,
    config_of,
    reference_of,
)
from experiments.studies.benchmark_strategies.study import chosen, gain
from robustkit.cli.main import main
from tests.evolution.benchmark.synthetic import synthetic_table


def test_every_search_has_the_same_epochs() -> None:
    for search in SEARCHES:
        for seed in range(4):
            config = config_of(search, seed, smoke=False)
            assert config.search_epochs == DEFAULT.search_epochs
            assert f"transfer_{reference_of(seed)}:min" in config.objectives


def test_even_and_odd_seeds_share_no_reference() -> None:
    even, odd = ({reference_of(seed) for seed in range(first, 200, 2)} for first in (0, 1))
    assert not even & odd
    assert even | odd == set(REFERENCES)


def test_blocks_have_every_seed_once() -> None:
    jobs = blocks(("nsga2",), range(3, 3 + 2 * BLOCK + 5), rough=False, smoke=False)
    seeds = [seed for job in jobs for seed in range(job.first, job.first + job.count)]
    assert seeds == list(range(3, 3 + 2 * BLOCK + 5))
    assert len({job.id for job in jobs}) == len(jobs) == 3


def ends(*areas: float) -> Search:
    count, shares = len(areas), len(SHARES)
    return Search(
        area=list(areas),
        transfer=[0.1] * count,
        margin=[0.0] * count,
        low=[0.0] * shares,
        median=[0.0] * shares,
        high=[0.0] * shares,
    )


def test_the_rule_looks_at_even_seeds_alone() -> None:
    searches = {
        "nsga2": ends(1.0, 1.0, 1.1, 1.0, 0.9, 1.0),
        "better": ends(2.0, 0.0, 2.2, 0.0, 2.1, 0.0),
        "unclear": ends(0.5, 9.0, 3.0, 9.0, 1.0, 9.0),
        "worse": ends(0.2, 9.0, 0.2, 9.0, 0.1, 9.0),
    }
    assert chosen(searches) == ["better"]
    judged = gain(searches, "better", "nsga2", 1)
    assert judged.value == pytest.approx(-1.0)
    assert judged.n == 3
    assert gain(searches, "better", "nsga2").n == 6
    assert gain(searches, "better", "nsga2", 0, first=1).value == judged.value  # index 1 is seed 2
    assert chosen(searches, first=1) == ["unclear", "worse"]


def test_the_study_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "table.jsonl"
    save_table(synthetic_table(60), table)
    monkeypatch.setattr("evolution.benchmark.table.TABLE", str(table))
    open_surrogate.cache_clear()
    out = tmp_path / "study"
    flags = ["--scale=smoke", "--executor", "inline", "--out", str(out)]
    try:
        assert main(["reproduce", "benchmark-strategies", *flags]) == 0
    finally:
        open_surrogate.cache_clear()
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["smooth"]) == set(SMOKE)
    assert summary["seeds"] == 4
    assert all(len(of["area"]) == 4 for of in summary["smooth"].values())
    assert summary["smooth"]["nsga2"]["area"] != summary["rough"]["nsga2"]["area"]
    page = (out / "comparison.md").read_text()
    assert "Rough landscape" in page
    assert "Kendall" in page
