from __future__ import annotations

from pathlib import Path

import pytest

from experiments.cli import main
from robustkit.runs import RunFolder


def make(path: Path, verb: str = "train", *, finished: bool = True) -> RunFolder:
    folder = RunFolder.create(path, verb=verb, config={"seed": 0}, command=["robustkit", verb])
    if finished:
        folder.write_summary({"clean_acc": 0.5})
    return folder


def test_runs_are_listed_with_their_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "one")
    make(tmp_path / "two", "evolve", finished=False)
    (tmp_path / "something-else").mkdir()
    assert main(["runs", str(tmp_path)]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    listed = {row[0]: (row[1], row[3]) for row in rows}
    assert listed == {
        str(tmp_path / "one"): ("train", "finished"),
        str(tmp_path / "two"): ("evolve", "unfinished"),
    }


def test_a_damaged_run_does_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "one")
    make(tmp_path / "two").file("summary.json").write_text("{")
    assert main(["runs", str(tmp_path)]) == 0
    states = [line.split("\t")[3] for line in capsys.readouterr().out.splitlines()]
    assert sorted(states) == ["damaged", "finished"]


def test_no_runs_are_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == 0
    assert "no runs under runs" in capsys.readouterr().out


def test_a_directory_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "nowhere"]) == 2
    assert capsys.readouterr().err == "robustkit: error: nowhere is not a folder\n"


def test_only_a_run_has_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_a_run_of_a_verb_without_reports_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "run", "juggle")
    assert main(["report", str(tmp_path / "run")]) == 2
    assert "runs of 'juggle' have no report" in capsys.readouterr().err


def test_an_unfinished_training_has_no_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "run", finished=False)
    assert main(["report", str(tmp_path / "run")]) == 2
    assert "not finished" in capsys.readouterr().err


def test_figures_are_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make(tmp_path / "one").path
    (tmp_path / "figures").mkdir()
    assert main(["report", str(run), "--figures", str(tmp_path / "figures")]) == 2
    assert "figures exists already" in capsys.readouterr().err
    assert not (run / "report.html").exists()
