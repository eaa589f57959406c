"""`robustkit evolve --benchmark`, whole: its folder, going on, its report, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evolution.benchmark.table import save_table, table_path
from robustkit.cli.main import main
from robustkit.runs import Ledger, RunFolder
from tests.evolution.benchmark.synthetic import synthetic_table

TINY = ["--population", "4", "--generations", "2", "--screen", "2", "--promote", "2"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "table.jsonl"
    save_table(synthetic_table(60), path)
    return path


@pytest.fixture(scope="module")
def finished(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["evolve", "--benchmark", str(table), *TINY, "--out", str(out)]) == 0
    return out


def refused(capsys: pytest.CaptureFixture[str], message: str, *arguments: str) -> None:
    assert main(["evolve", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("robustkit: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_a_run_has_ledger_summary_and_report(finished: Path) -> None:
    folder = RunFolder.open(finished, command="evolve")
    summary = folder.summary()
    assert summary is not None
    assert summary["evolve"]["epochs"] == summary["random"]["epochs"] == 32
    assert "data" not in folder.config
    page = (finished / "report.html").read_text()
    for title in ("Search history", "Front", "Networks", "How to read the results", "Settings"):
        assert title in page
    with Ledger.read(finished / "ledger.sqlite") as ledger:
        assert len(ledger.trials()) == 2 * (8 + 2)


def test_a_finished_run_is_left_as_it_is_and_redrawn(finished: Path) -> None:
    before = {path: path.read_bytes() for path in finished.iterdir() if path.name != ".lock"}
    assert main(["evolve", "--resume", str(finished)]) == 0
    assert {path: path.read_bytes() for path in before} == before
    (finished / "report.html").unlink()
    assert main(["report", str(finished)]) == 0
    assert (finished / "report.html").read_bytes() == before[finished / "report.html"]


def test_runs_are_listed_with_what_they_gained(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", str(finished.parent)]) == 0
    assert "transfer_gain" in capsys.readouterr().out


def test_a_stopped_run_goes_on_as_it_was(table: Path, finished: Path, tmp_path: Path) -> None:
    whole = RunFolder.open(finished)
    stopped = RunFolder.create(
        tmp_path / "run", command="evolve", config=whole.config, argv=["robustkit"]
    )
    with (
        Ledger.read(finished / "ledger.sqlite") as full,
        Ledger.create(stopped.file("ledger.sqlite")) as cut,
    ):
        for entry in full.in_order()[:5]:
            cut.record(entry)
    assert main(["evolve", "--resume", str(stopped.path), "--population", "4"]) == 0
    again, summary = stopped.summary(), whole.summary()
    assert again is not None
    assert summary is not None
    del again["seconds"], summary["seconds"]
    assert again == summary


def test_what_means_nothing_here_is_refused(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    given = ("--benchmark", str(table), "--out", str(out))
    for option, value in (
        ("--data", "digits"),
        ("--reference", "small"),
        ("--lam", "3"),
        ("--final-epochs", "2"),
        ("--workers", "4"),
        ("--reuse", "runs/other"),
        ("--scratch", "/tmp"),
    ):
        refused(capsys, f"{option} means nothing with --benchmark", *given, option, value)
    refused(capsys, "nothing was measured after 3 epochs", *given, "--epochs", "3")
    refused(capsys, "outside the benchmark's space", *given, "--kernels", "[3,9]")
    refused(capsys, "unknown strategy", *given, "--strategy", "nsga")
    assert not out.exists()


def test_a_table_that_is_none_is_one_line(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not table_path().exists():
        refused(capsys, "comes without the benchmark's table", "--benchmark")
    missing = tmp_path / "missing.jsonl"
    refused(capsys, str(missing), "--benchmark", str(missing))
    head, *rest = table.read_text().splitlines()
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join([json.dumps({**json.loads(head), "format": 2}), *rest]))
    refused(capsys, "a benchmark of format 2", "--benchmark", str(other))
    other.write_text("\n".join([head, *rest[:7]]))
    refused(capsys, "benchmark: 7 networks", "--benchmark", str(other))
    other.write_text("\n".join([head, *rest])[:-30])
    refused(capsys, "line 61: not JSON", "--benchmark", str(other))


def test_another_run_is_not_gone_on_with(
    table: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, "option 'seed' is 3", "--resume", str(finished), "--seed", "3")
    refused(capsys, "--lam means nothing", "--resume", str(finished), "--lam", "3")
    config = RunFolder.open(finished).config
    other = tmp_path / "table.jsonl"
    save_table(synthetic_table(40), other)
    changed = RunFolder.create(
        tmp_path / "run",
        command="evolve",
        config={**config, "benchmark": str(other)},
        argv=["robustkit"],
    )
    refused(capsys, "the table has changed", "--resume", str(changed.path))
    edited = RunFolder.create(
        tmp_path / "edited",
        command="evolve",
        config={name: value for name, value in config.items() if name != "screen"},
        argv=["robustkit"],
    )
    refused(capsys, "no 'screen'", "--resume", str(edited.path))
    trained = RunFolder.create(
        tmp_path / "trained", command="evolve", config={"data": "digits"}, argv=["robustkit"]
    )
    arguments = ("--resume", str(trained.path), "--benchmark", str(table))
    refused(capsys, "an evolution of trained networks", *arguments)
    refused(capsys, "--reuse", "--reuse", str(finished), "--inherit")


def test_a_damaged_ledger_is_one_line(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder.open(finished)
    copy = RunFolder.create(
        tmp_path / "run", command="evolve", config=folder.config, argv=["robustkit"]
    )
    (copy.path / "summary.json").write_bytes((finished / "summary.json").read_bytes())
    with (
        Ledger.read(finished / "ledger.sqlite") as full,
        Ledger.create(copy.file("ledger.sqlite")) as cut,
    ):
        entries = full.in_order()
        assert entries[0].result is not None
        entries[0].result["values"]["accuracy"] = 2.0
        for entry in entries:
            cut.record(entry)
    assert main(["report", str(copy.path)]) == 2
    error = capsys.readouterr().err
    assert "trial 'evolve/00000'" in error
    assert error.count("\n") == 1
