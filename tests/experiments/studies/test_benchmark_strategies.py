"""The study of strategies on the benchmark: its rule, its costs, and all of it in small."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from evolution.benchmark.measure import CLASSES, INPUT_SHAPE, REFERENCES, SPACE
from evolution.benchmark.surrogate import open_surrogate
from evolution.benchmark.table import save_table
from evolution.genotype import Trial
from evolution.strategies import open_strategy
from evolution.variation import mutate
from experiments.studies.benchmark_strategies.jobs import (
    BLOCK,
    COMBINATIONS_SMOKE,
    DEFAULT,
    EVERY,
    FOURFOLD,
    SHARES,
    SMOKE,
    Search,
    blocks,
    config_of,
    reference_of,
)
from experiments.studies.benchmark_strategies.peers import (
    PEERS,
    gene_by_gene,
    gene_choices,
    genes_of,
    genotype_of_genes,
)
from experiments.studies.benchmark_strategies.study import chosen, gain
from robustkit.cli.main import main
from tests.evolution.benchmark.synthetic import synthetic_table


def test_every_search_has_the_same_epochs() -> None:
    for search in EVERY:
        budget = 4 if search.endswith(FOURFOLD) else 1
        for seed in range(4):
            config = config_of(search, seed, smoke=False)
            assert config.search_epochs == budget * DEFAULT.search_epochs
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


def test_flat_genes_and_genotypes_are_the_same() -> None:
    choices, rng = gene_choices(SPACE), random.Random(0)
    for _ in range(50):
        genotype = mutate(gene_by_gene(rng, SPACE), rng, SPACE)[0]
        genes = genes_of(genotype)
        assert all(gene in choices[name] for name, gene in genes.items())
        assert genotype_of_genes(genes.__getitem__) == genotype


@pytest.mark.parametrize("name", sorted(PEERS))
def test_peers_start_alike_keep_the_limits_and_learn(name: str) -> None:
    settings = DEFAULT.settings(accuracy=0.5, seed=1)
    ours = open_strategy("nsga2", settings).ask()
    firsts: list[list[str]] = []
    lasts: list[list[str]] = []
    for flip in (1, -1):
        search, number = PEERS[name](settings), 0
        while asked := search.ask():
            if number == 0 and name == "tpe":
                assert [each.genotype for each in asked] == [each.genotype for each in ours]
            assert all(SPACE.fits(each.genotype, INPUT_SHAPE, CLASSES) for each in asked)
            values = [float(len(each.genotype.blocks)) for each in asked]
            search.tell(
                {
                    each.number: Trial(
                        each,
                        "Ok" if each.number % 5 else "Diverged",
                        dict.fromkeys(("accuracy", "transfer", "macs"), flip * value),
                    )
                    for each, value in zip(asked, values, strict=True)
                }
            )
            number += len(asked)
            (firsts if number == len(asked) else lasts).append([e.genotype.key() for e in asked])
        assert number == settings.budget
    assert firsts[0] == firsts[1]
    assert lasts[: len(lasts) // 2] != lasts[len(lasts) // 2 :]


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


@pytest.mark.parametrize(
    ("study", "searches"),
    [("benchmark-strategies", SMOKE), ("benchmark-combinations", COMBINATIONS_SMOKE)],
)
def test_the_studies_in_small(
    study: str, searches: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "table.jsonl"
    save_table(synthetic_table(60), table)
    monkeypatch.setattr("evolution.benchmark.table.TABLE", str(table))
    open_surrogate.cache_clear()
    out = tmp_path / "study"
    flags = ["--scale=smoke", "--executor", "inline", "--out", str(out)]
    try:
        assert main(["reproduce", study, *flags]) == 0
    finally:
        open_surrogate.cache_clear()
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["smooth"]) == set(searches)
    assert summary["seeds"] == 4
    assert all(len(of["area"]) == 4 for of in summary["smooth"].values())
    assert summary["smooth"]["nsga2"]["area"] != summary["rough"]["nsga2"]["area"]
    page = (out / "comparison.md").read_text()
    assert "Rough landscapes" in page
    assert "Kendall" in page
