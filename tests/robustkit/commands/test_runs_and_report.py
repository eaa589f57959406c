from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from robustkit.cli.main import main
from robustkit.runs import RunFolder


def make(path: Path, verb: str = "train", *, finished: bool = True) -> RunFolder:
    folder = RunFolder.create(path, command=verb, config={"seed": 0}, argv=["robustkit", verb])
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


def test_two_runs_are_compared_where_they_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed, accuracy in (("a", 0, 0.5), ("b", 1, 0.75)):
        config = {"seed": seed, "lr": 0.1, "nested": {"deep": [1, 2]}, "long": list(range(99))}
        folder = RunFolder.create(tmp_path / name, command="train", config=config, argv=[])
        folder.write_summary({"clean_acc": accuracy, "same": 1, "nets": {"R": {"acc": seed}}})
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert main(["runs", "--compare", a, b]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["", a, b],
        ["config.seed", "0", "1"],
        ["summary.clean_acc", "0.5", "0.75"],
        ["summary.nets.R.acc", "0", "1"],
    ]
    assert main(["runs", "--compare", a, a]) == 0
    assert capsys.readouterr().out == "no difference\n"
    assert main(["runs", "--compare", a]) == 2
    assert main(["runs", "--compare", a, str(tmp_path / "nowhere")]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_runs_are_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "runs" / "one")
    make(tmp_path / "runs" / "two", "evolve", finished=False)
    make(tmp_path / "runs" / "broken").file("summary.json").write_text("{")
    file = tmp_path / "all.json"
    assert main(["runs", str(tmp_path / "runs"), "--export", str(file)]) == 0
    rows = json.loads(file.read_text())
    assert {row["verb"]: row.get("summary.clean_acc") for row in rows} == {
        "train": 0.5,
        "evolve": None,
    }
    table = tmp_path / "all.csv"
    assert main(["runs", str(tmp_path / "runs"), "--export", str(table)]) == 0
    with table.open(newline="") as opened:
        read = list(csv.DictReader(opened))
    assert [row["config.seed"] for row in read] == ["0", "0"]
    assert {row["summary.clean_acc"] for row in read} == {"0.5", ""}
    assert main(["runs", str(tmp_path / "runs"), "--export", str(tmp_path / "all.xls")]) == 2
    assert "as .csv or .json" in capsys.readouterr().err


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
