"""The study of asynchrony in small, and the workers it simulates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evolution.protocol.jobs import TrainNet
from experiments.studies.asynchronous_bias.jobs import (
    SimulatedSearch,
    Summary,
    cost,
    geometric_mean,
    noise,
)
from experiments.studies.asynchronous_bias.study import STRATEGIES, WORKERS, render
from experiments.studies.simulated import SimulatedWorkers
from robustkit.cli.main import main
from robustkit.models import Block, Blueprint, Head


def job(channels: int, seed: int) -> TrainNet:
    blueprint = Blueprint(blocks=(Block(channels=channels),), head=Head())
    return TrainNet(
        run_path="run",
        architecture={"family": "blueprint", "blueprint": blueprint.to_dict()},
        seed=seed,
        part="trial",
        penalised=True,
        final=False,
    )


def test_small_nets_end_first_and_report_noise() -> None:
    workers = SimulatedWorkers(2, cost, noise)
    jobs = [job(64, 0), job(8, 1), job(8, 2), job(8, 3)]
    ended = [(each.seed, outcome) for each, outcome in workers.run(iter(jobs))]
    assert [seed for seed, _ in ended] == [1, 2, 3, 0]
    again = SimulatedWorkers(1, cost, noise)
    other = {each.seed: outcome for each, outcome in again.run(iter(jobs))}
    assert all(outcome == other[seed] for seed, outcome in ended)
    assert geometric_mean([1, 100]) == pytest.approx(10)


def test_random_search_is_drawn_nowhere() -> None:
    """It learns nothing, so both modes breed the very same nets."""
    found = [
        SimulatedSearch("x", "random", mode, 4, population=4, generations=3, seed=0).run()
        for mode in ("steady", "generational")
    ]
    assert found[0] == found[1]


def test_the_study_in_small(tmp_path: Path) -> None:
    out = tmp_path / "study"
    flags = ["--scale=smoke", "--executor", "inline", "--out", str(out)]
    assert main(["reproduce", "asynchronous-bias", *flags]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["log2_ratio"]) == set(STRATEGIES)
    assert all(set(cells) == set(map(str, WORKERS)) for cells in summary["log2_ratio"].values())
    assert "| random | 1.00 [1.00, 1.00] | 1.00 [1.00, 1.00] |" in render(
        Summary.from_json(summary, "summary")
    )
