from __future__ import annotations

from pathlib import Path

import pytest

from robustkit.cli.context import add_run_options, next_free, run_folder, settings
from robustkit.cli.parser import CommandParser, Options
from robustkit.errors import ConfigError, RunError
from robustkit.runs import RunFolder


def parse(*arguments: str, resumable: bool = True) -> Options:
    parser = CommandParser("evolve")
    parser.add_argument("--population", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    add_run_options(parser, resumable=resumable)
    options = parser.parse(arguments)
    assert options is not None
    return options


def start(*arguments: str, resumable: bool = True) -> RunFolder:
    options = parse(*arguments, resumable=resumable)
    with run_folder("evolve", options, settings("evolve", options)) as folder:
        return folder


def test_settings_are_the_options_without_housekeeping() -> None:
    options = parse("--population", "4", "--out", "x")
    assert settings("evolve", options) == {"population": 4, "seed": 0, "device": "auto"}


def test_a_new_folder_keeps_settings_and_command(tmp_path: Path) -> None:
    folder = start("--out", str(tmp_path / "run"), "--population", "4")
    assert folder.config == {"population": 4, "seed": 0, "device": "auto"}
    assert RunFolder.open(tmp_path / "run", command="evolve").config == folder.config
    assert folder.env["command"][:3] == ["robustkit", "evolve", "--out"]


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    start("--out", str(tmp_path / "run"))
    before = {file: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    with pytest.raises(RunError, match="run"):
        start("--out", str(tmp_path / "run"), "--population", "4")
    assert {file: file.read_bytes() for file in (tmp_path / "run").iterdir()} == before


def test_a_resumed_run_has_the_saved_settings(tmp_path: Path) -> None:
    start("--out", str(tmp_path / "run"), "--population", "4", "--seed", "5")
    options = parse("--resume", str(tmp_path / "run"), "--seed", "5")
    assert settings("evolve", options)["population"] == 4
    assert start("--resume", str(tmp_path / "run")).path == tmp_path / "run"


def test_a_setting_that_differs_is_refused_by_name(tmp_path: Path) -> None:
    start("--out", str(tmp_path / "run"), "--population", "4")
    options = parse("--resume", str(tmp_path / "run"), "--population", "6")
    with pytest.raises(RunError, match=r"population.*6.*4"):
        settings("evolve", options)


def test_the_default_value_given_by_hand_counts_as_given(tmp_path: Path) -> None:
    start("--out", str(tmp_path / "run"), "--population", "4")
    options = parse("--resume", str(tmp_path / "run"), "--population", "8")
    with pytest.raises(RunError, match="population"):
        settings("evolve", options)


def test_out_and_resume_exclude_each_other(tmp_path: Path) -> None:
    start("--out", str(tmp_path / "run"))
    options = parse("--resume", str(tmp_path / "run"), "--out", "x")
    with pytest.raises(ConfigError, match="--out and --resume exclude each other"):
        settings("evolve", options)


def test_what_is_no_run_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nowhere"):
        settings("evolve", parse("--resume", str(tmp_path / "nowhere")))


@pytest.mark.parametrize(
    ("resumable", "hint"),
    [(True, "go on with: robustkit evolve --resume"), (False, "start anew with: robustkit evolve")],
)
def test_an_interrupt_says_how_to_go_on(tmp_path: Path, resumable: bool, hint: str) -> None:
    options = parse("--out", str(tmp_path / "run"), resumable=resumable)
    with (
        pytest.raises(KeyboardInterrupt, match=hint),
        run_folder("evolve", options, settings("evolve", options)),
    ):
        raise KeyboardInterrupt


def test_the_next_free_folder_skips_what_exists(tmp_path: Path) -> None:
    assert next_free("train", tmp_path) == tmp_path / "train-1"
    (tmp_path / "train-1").mkdir()
    (tmp_path / "train-2").touch()
    assert next_free("train", tmp_path) == tmp_path / "train-3"


def test_without_out_the_next_free_folder_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert start().path == Path("runs/evolve-1")
    assert start().path == Path("runs/evolve-2")
