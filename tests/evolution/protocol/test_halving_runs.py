"""Whole runs with rungs and inherited weights: what they write, and that they resume to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from evolution.protocol.workspace import Workspace
from robustkit.cli.main import main
from robustkit.errors import RunError
from robustkit.runs import Entry, Ledger, RunFolder
from tests.evolution.protocol.kills import compare, torment
from tests.evolution.protocol.runs import INLINE, TINY, TWO_WORKERS, evolve, rows, summary, trials

HALVED = ["--mode", "steady", "--epochs", "2", "--halving", "2", "--generations", "3"]
INHERITED = ["--inherit", "--generations", "3"]


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("halved") / "run"
    assert evolve(*TINY, *INLINE, *HALVED, "--inherit", "--out", str(folder)) == 0
    return folder


def in_order(folder: Path, *arms: str) -> list[Entry]:
    with Ledger.open(folder / "ledger.sqlite") as ledger:
        return [trial for trial in ledger.in_order() if trial.stage in arms]


def test_candidates_begin_with_one_epoch_and_the_best_get_two(halved: Path) -> None:
    lower, whole = (in_order(halved, arm) for arm in ("rungs-evolve", "evolve"))
    assert {each.payload["epochs"] for each in lower} == {1}
    assert all(each.result is None or each.result["epochs"] == 1 for each in lower)
    assert all(each.result is None or each.result["epochs"] == 2 for each in whole)
    numbers = [each.payload["number"] for each in whole]
    assert len(set(numbers)) == len(numbers) >= 1
    assert set(numbers) <= {each.payload["number"] for each in lower}
    assert len(lower) + 2 * len(whole) <= 2 * 3 * 2  # the epochs of 2 x 3 trials
    assert len(lower) > 3 * 2 / 2
    seen = 0
    for promoted, trial in enumerate(in_order(halved, "rungs-evolve", "evolve")):
        seen += trial.stage == "rungs-evolve"
        assert (promoted + 1 - seen) * 2 <= seen  # never more than one of two


def test_only_the_lowest_rung_inherits(halved: Path) -> None:
    bred = [each for each in in_order(halved, "rungs-evolve") if each.payload["parents"]]
    assert bred
    assert all(each.outcome != "Ok" or "inherited" in (each.result or {}) for each in bred)
    assert all(0 <= (each.result or {"inherited": 0})["inherited"] <= 1 for each in bred)
    others = [each for each in trials(halved) if each not in bred]
    assert not any("inherited" in (each.result or {}) for each in others)
    assert not any("identity" in each.payload for each in bred)  # it is of this run alone


def test_the_summary_and_the_report_tell_of_the_rungs(halved: Path) -> None:
    found = summary(halved)
    lower = len(in_order(halved, "rungs-evolve"))
    assert found["trials_on_lower_rungs"] == lower
    assert found["trials_by_arm"]["evolve"] == len(in_order(halved, "evolve"))
    assert "R2/1" in found["baseline"]
    page = (halved / "report.html").read_text(encoding="utf-8")
    assert "evolution, lower rungs" in page
    assert f"and {lower} on lower rungs" in page


def test_a_halved_search_survives_kills(halved: Path, tmp_path: Path) -> None:
    """Also in the middle of it, where the weights that trials have left are still needed."""
    flags = [*INLINE, *HALVED, "--inherit"]
    assert len(torment(tmp_path / "runs", 3, flags, seed=4)) == 3
    compare(tmp_path / "runs", halved)


def test_inheritance_is_the_same_on_any_number_of_workers(tmp_path: Path) -> None:
    whole, other = tmp_path / "whole", tmp_path / "other"
    assert evolve(*TINY, *TWO_WORKERS, *INHERITED, "--out", str(whole)) == 0
    assert not (whole / "scratch").exists()
    assert evolve(*TINY, *INLINE, *INHERITED, "--out", str(other)) == 0
    assert (rows(other), summary(other)) == (rows(whole), summary(whole))
    assert any("inherited" in (each.result or {}) for each in trials(whole))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--halving", "2"], "halving goes with mode 'steady'"),
        (["--halving", "1", "--mode", "steady"], "halving must be at least 2, not 1"),
        (["--halving", "2", "--mode", "steady"], "at least 2 epochs of a trial to divide, not 1"),
        (
            ["--halving", "2", "--mode", "steady", "--epochs", "8", "--generations", "1"],
            "the last of 4 rungs is reached after 47 epochs with 2 under way, and 2 x 1 candidates",
        ),
        (["--inherit", "--promote", "0"], "promote must be at least 1"),
        (["--inherit", "--reuse", "somewhere"], "--inherit with --reuse"),
    ],
)
def test_what_does_not_go_together_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], told: str
) -> None:
    assert main(["evolve", *TINY, *flags, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_lost_weights_of_a_parent_are_told_for_what_they_are(halved: Path) -> None:
    with pytest.raises(RunError, match="weights that a candidate is to inherit are gone"):
        Workspace(RunFolder.open(halved)).inherited("0123456789abcdef")


def test_a_run_folder_tells_its_rungs(halved: Path) -> None:
    config = RunFolder.open(halved).config
    assert (config["halving"], config["inherit"], config["in_flight"]) == (2, True, 1)
