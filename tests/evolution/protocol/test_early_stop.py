"""Trials that end after half of their epochs: which, and that nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from evolution.objectives import parse_objectives
from evolution.protocol.config import EvolveConfig
from evolution.protocol.jobs import EarlyStop, TrainNet
from evolution.protocol.search import early_stop, trial_hash
from evolution.protocol.workspace import Workspace
from robustkit.runs import Entry, RunFolder
from tests.evolution.protocol.runs import INLINE, TINY, TWO_WORKERS, evolve, rows, summary, trials
from tests.evolution.protocol.test_end_to_end import forget

EPOCHS, MARGIN, FLOOR = 4, 0.02, 0.05
SEARCH = ["--strategy", "random", "--population", "5", "--generations", "1", "--baselines", "none"]
LONGER = [*TINY, *SEARCH, "--train-size", "600", "--epochs", str(EPOCHS), "--lam", "1"]
CURVE = [0.3, 0.5, 0.6, 0.65]
BOUNDED = parse_objectives("accuracy:max>=0.6,transfer:min")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run that stops trials, and the same in which each has all its epochs."""
    folder = tmp_path_factory.mktemp("early")
    stopping, whole = folder / "stopping", folder / "whole"
    assert evolve(*LONGER, *INLINE, "--early-stop", str(MARGIN), "--out", str(stopping)) == 0
    assert evolve(*LONGER, *INLINE, "--early-stop", "null", "--out", str(whole)) == 0
    return stopping, whole


def searched(folder: Path) -> dict[str, Entry]:
    of_searches = (each for each in trials(folder) if each.stage in ("evolve", "random"))
    return {each.id: each for each in of_searches if each.outcome == "Ok"}


def result(entry: Entry) -> dict[str, Any]:
    assert entry.result is not None
    return dict(entry.result)


def test_those_far_below_the_reference_are_stopped_and_no_others(runs: tuple[Path, Path]) -> None:
    """By the rule's definition, from the ledger of the run in which nothing was stopped."""
    stopping, whole = map(searched, runs)
    baselines = [result(each) for each in trials(runs[1]) if each.stage == "baseline"]
    baselines = [each for each in baselines if each["epochs"] == EPOCHS]
    unpenalised = [each for each in trials(runs[1]) if each.id.startswith("baseline/R2")]
    at_half = fmean(result(each)["curves"]["val_acc"][EPOCHS // 2 - 1] for each in unpenalised)
    bound = fmean(result(each)["accuracy"] for each in unpenalised) - FLOOR
    hopeless = {
        name
        for name, entry in whole.items()
        if result(entry)["curves"]["val_acc"][EPOCHS // 2 - 1] < min(at_half - MARGIN, bound)
    }
    assert len(baselines) == len(unpenalised) + 1 == 3
    assert stopping.keys() == whole.keys()
    assert 0 < len(hopeless) < len(whole)
    for name, entry in stopping.items():
        found, full = result(entry), result(whole[name])
        if name not in hopeless:
            assert found == full
            continue
        assert found["stopped_after"] == found["epochs"] == EPOCHS // 2
        for curve, values in full["curves"].items():
            assert found["curves"][curve] == values[: EPOCHS // 2]
        assert found["accuracy"] == found["curves"]["val_acc"][-1] < bound
        assert full["accuracy"] < bound  # it would not have been feasible in the end


def test_the_summary_and_the_report_count_them(runs: tuple[Path, Path]) -> None:
    stopped = {
        each.key: result(each)["stopped_after"]
        for each in searched(runs[0]).values()
        if "stopped_after" in result(each)
    }
    found = summary(runs[0])
    assert found["trials_stopped"] == len(stopped)
    assert found["epochs_saved"] == sum(EPOCHS - after for after in stopped.values())
    assert (summary(runs[1])["trials_stopped"], summary(runs[1])["epochs_saved"]) == (0, 0)
    pages = [(folder / "report.html").read_text(encoding="utf-8") for folder in runs]
    assert [f"stopped after {EPOCHS // 2} epochs" in page for page in pages] == [True, False]
    assert [f"saved {found['epochs_saved']} epochs" in page for page in pages] == [True, False]


def test_a_run_that_stops_trials_resumes_to_the_same(runs: tuple[Path, Path]) -> None:
    folder = runs[0]
    before_rows, before_summary = rows(folder), summary(folder)
    forget(folder, "judge", "final", "promote-evolve", "promote-random", "random", "evolve")
    assert evolve("--resume", str(folder), *TWO_WORKERS) == 0
    assert (rows(folder), summary(folder)) == (before_rows, before_summary)


def test_a_run_from_before_there_was_a_rule_stops_nothing(runs: tuple[Path, Path]) -> None:
    folder = RunFolder.open(runs[0])
    config = folder.file("config.yaml")
    lines = config.read_text().splitlines(keepends=True)
    assert Workspace(folder).config.early_stop == MARGIN
    config.write_text("".join(line for line in lines if "early_stop" not in line))
    try:
        assert Workspace(RunFolder.open(runs[0])).config.early_stop is None
    finally:
        config.write_text("".join(lines))


@pytest.mark.parametrize(
    ("curve", "margin", "after", "below"),
    [
        (CURVE, 0.1, 2, 0.4),
        (CURVE[:3], 0.1, 1, 0.2),
        (CURVE[:2], 0.1, 1, 0.2),
        ([0.7, 0.75, 0.6, 0.65], 0.05, 2, 0.6),  # never where it would be feasible
    ],
)
def test_the_rule_is_about_half_of_the_epochs(
    curve: list[float], margin: float, after: int, below: float
) -> None:
    found = early_stop(EvolveConfig(early_stop=margin), curve, BOUNDED)
    assert found is not None
    assert found.after == after
    assert found.below == pytest.approx(below)


def test_what_can_be_selected_is_not_stopped() -> None:
    config = EvolveConfig(early_stop=0.05, tolerance=0.2)
    found = early_stop(config, [0.7, 0.75, 0.6, 0.65], BOUNDED)
    assert found is not None
    assert found.below == pytest.approx(0.45)


@pytest.mark.parametrize(
    ("curve", "margin", "objectives"),
    [
        (CURVE, None, "accuracy:max>=0.6,transfer:min"),
        (CURVE[:1], 0.1, "accuracy:max>=0.6,transfer:min"),
        ([], 0.1, "accuracy:max>=0.6,transfer:min"),
        (CURVE, 0.1, "accuracy:max,transfer:min"),
        (CURVE, 0.1, "transfer:min"),
    ],
    ids=["no rule", "one epoch", "no curve", "no bound", "no accuracy"],
)
def test_without_rule_curve_or_bound_nothing_is_stopped(
    curve: list[float], margin: float | None, objectives: str
) -> None:
    config = EvolveConfig(early_stop=margin)
    assert early_stop(config, curve, parse_objectives(objectives)) is None


def test_the_hash_of_a_trial_has_the_rule_only_where_there_is_one() -> None:
    architecture = {"family": "zoo", "name": "small", "options": {}}
    trial = TrainNet("run", architecture, seed=1, part="trial", penalised=True, final=False)
    one, other = (replace(trial, early_stop=EarlyStop(2, below)) for below in (0.3, 0.4))
    assert len({trial_hash(job, "context") for job in (trial, one, other)}) == 3
