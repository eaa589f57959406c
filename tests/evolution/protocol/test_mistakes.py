"""Mistakes in what `evolve` is asked for: one line, exit code 2, nothing overwritten."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evolution import command as evolve
from robustkit import models
from robustkit.cli import context as launch
from robustkit.cli.main import main
from robustkit.cli.parser import CommandParser
from robustkit.runs import Ledger

TINY = ["--population", "4", "--generations", "2", "--executor", "inline", "--train-size", "60"]
PARTS = ("train", "test")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that was stopped before its first trial."""
    parser = CommandParser("evolve")
    evolve.add_arguments(parser)
    options = parser.parse([*TINY, "--out", str(tmp_path / "run")])
    assert options is not None
    config = launch.settings("evolve", options)
    with launch.run_folder("evolve", options, config) as folder:
        Ledger.create(folder.file("ledger.sqlite")).close()
    return folder.path


def content(folder: Path) -> dict[str, bytes]:
    """Every file of the folder; the lock is no content."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != ".lock"]
    return {str(file): file.read_bytes() for file in files}


def refused(capsys: pytest.CaptureFixture[str], message: str, *arguments: str) -> None:
    assert main(["evolve", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("robustkit: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "digist"], "did you mean 'digits'?"),
        (["--population", "1"], "population must be at least 2, not 1"),
        (["--eps", "1.5"], "eps must be in [0"),
        (["--eps", "-0.1"], "eps must be in [0"),
        (["--eps", "8/0"], "--eps: expected a number or a fraction"),
        (["--seed", "-1"], "seed must be at least 0"),
        (["--generation", "3"], "did you mean '--generations'?"),
        (["--reference", "smal"], "did you mean 'small'?"),
        (["--executor", "process"], "did you mean 'processes'?"),
        (["--strategy", "nsga"], "nsga2"),
        (["--data", "npz:nowhere.npz"], "nowhere.npz"),
        (["--penalty-views", "uniform", "--eps", "0.003"], "eps must be at least 1/255"),
        (["--penalty-views", "mixed", "--views", "2"], "'none' makes 1 view, not 2"),
        (["--penalty-every", "0"], "penalty_every must be at least 1, not 0"),
        (["--lam-ramp", "9"], "lam_ramp must be at most the 3 epochs"),
        (["--lam-ramp", "-1"], "lam_ramp must be at least 0"),
        (["--early-stop", "1.5"], "early_stop must be in [0,1] or null, not 1.5"),
        (["--early-stop", "soon"], "--early-stop"),
    ],
)
def test_a_mistake_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    out = tmp_path / "run"
    refused(capsys, message, *TINY, "--out", str(out), *arguments)
    assert not out.exists()


def test_an_unknown_key_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "evolve.yaml"
    file.write_text("populations: 4\n")
    out = tmp_path / "run"
    refused(capsys, "did you mean 'population'?", "--config", str(file), "--out", str(out))
    assert not out.exists()


def test_a_reference_for_other_classes_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "three.safetensors"
    models.save(models.build("small", num_classes=3, in_channels=1, image_size=16, seed=0), file)
    refused(capsys, "3 classes", *TINY, "--reference", str(file), "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_images_that_are_not_square_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = {"y_train": np.arange(40) % 2, "y_test": np.arange(10) % 2}
    for part in PARTS:
        arrays[f"x_{part}"] = np.zeros((len(arrays[f"y_{part}"]), 16, 20), np.uint8)
    np.savez(tmp_path / "wide.npz", **arrays)  # type: ignore[arg-type]
    given = [*TINY, "--train-size", "20", "--data", f"npz:{tmp_path / 'wide.npz'}"]
    refused(capsys, "20x16 pixels", *given, "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_not_overwritten(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(run)
    refused(capsys, "exists already", *TINY, "--out", str(run))
    assert content(run) == before


def test_a_changed_setting_is_refused_by_name(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(run)
    refused(capsys, "'population' is 6", "--resume", str(run), "--population", "6")
    assert content(run) == before


def _garbage(ledger: Path) -> None:
    ledger.write_bytes(b"not a database " * 100)


def _truncated(ledger: Path) -> None:
    content = ledger.read_bytes()
    ledger.write_bytes(content[: len(content) // 2])


def _newer(ledger: Path) -> None:
    with sqlite3.connect(ledger) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()


@pytest.mark.parametrize("damage", [_garbage, _truncated, _newer])
def test_a_ledger_that_cannot_be_read_is_named_and_kept(
    run: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None]
) -> None:
    damage(run / "ledger.sqlite")
    before = (run / "ledger.sqlite").read_bytes()
    refused(capsys, "ledger.sqlite", "--resume", str(run))
    assert (run / "ledger.sqlite").read_bytes() == before


def test_a_space_without_networks_is_found_out_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, "max_params 1", "--max-params", "1", "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_lacks_a_setting_is_named(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("  population:", "  pupulation:"))
    refused(capsys, "config.yaml: no 'population'", "--resume", str(run))


def test_a_run_that_lost_its_ledger_is_not_started_over(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "ledger.sqlite").unlink()
    (run / "nets").mkdir()
    refused(capsys, "ledger.sqlite is missing", "--resume", str(run))
