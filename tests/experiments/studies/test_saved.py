"""Finished studies whose files were edited, damaged or exchanged: a line that names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.studies.evidence import evidence
from robustkit.cli.main import main

COMMITTED = Path(__file__).parents[3] / "experiments" / "results" / "digit-shift" / "summary.json"


@pytest.fixture
def study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder of a finished study, in a folder of its own."""
    folder = tmp_path / "all" / "one"
    folder.mkdir(parents=True)
    shutil.copy(COMMITTED, folder)
    (folder / "env.json").write_text("{}")
    assert main(["reproduce", "digit-shift", "--print_config"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    saved = {"format": 1, "verb": "reproduce", "config": config}
    (folder / "config.yaml").write_text(yaml.safe_dump(saved))
    return folder


def _changed(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        saved = yaml.safe_load((folder / "config.yaml").read_text())
        saved["config"] |= values
        kept = {name: value for name, value in saved["config"].items() if value is not ...}
        (folder / "config.yaml").write_text(yaml.safe_dump({**saved, "config": kept}))

    return change


def _said(text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "summary.json").write_text(text)

    return change


CHANGES: list[tuple[Callable[[Path], None], str]] = [
    (_said("{"), "summary.json: not JSON"),
    (_said("[" * 100_000), "summary.json: lists and objects are nested"),
    (_said('"study"'), "summary.json is damaged: it holds no JSON object"),
    (
        _said(json.dumps({"study": "digit-shift"})),
        "missing required field 'sources'",
    ),
    (_said(json.dumps({"study": "occlusion"})), "of the study 'occlusion', not of 'digit-shift'"),
    (_changed(name="nothing"), "config.yaml: unknown experiment 'nothing'"),
    (_changed(name=...), "'name'"),
    (_changed(name=None), "name"),
    (_changed(seed=-1), "config.yaml: seed must be at least 0"),
    (_changed(scale="paper"), "config.yaml: --scale paper: 'digit-shift' has smoke and small"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
@pytest.mark.parametrize("command", ["--evidence", "--resume", "report"])
def test_what_is_no_finished_study_is_one_line(
    command: str,
    change: Callable[[Path], None],
    said: str,
    study: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(study)
    before = {path.name: path.read_bytes() for path in study.glob("*.*")}
    arguments = {
        "--evidence": ["reproduce", "--evidence", str(study.parent)],
        "--resume": ["reproduce", "--resume", str(study)],
        "report": ["report", str(study)],
    }
    assert main(arguments[command]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    after = {path.name: path.read_bytes() for path in study.glob("*.*")}
    assert after == {**before, **({".lock": b""} if ".lock" in after else {})}


def test_what_is_beside_a_summary_has_to_be_its_own(study: Path) -> None:
    place = study.parent
    page = evidence(place)
    assert f"]({place}/one/comparison.md)" in page
    saved = yaml.safe_load((study / "config.yaml").read_text())
    (study / "config.yaml").write_text(yaml.safe_dump({**saved, "verb": "train"}))
    with pytest.raises(Exception, match="of a run of 'train', not of 'reproduce'"):
        evidence(place)
    (study / "config.yaml").unlink()
    with pytest.raises(Exception, match=r"config\.yaml: No such file"):
        evidence(place)
    with pytest.raises(Exception, match="name the folder that this one lies in"):
        evidence(study)
    with pytest.raises(Exception, match="nowhere: no such folder"):
        evidence(place / "nowhere")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--scale", "smoke"], "NAME is missing"),
        (["occlusion", "--list"], "--list prints and stops, so NAME does nothing beside it"),
        (["--evidence", ".", "--list"], "--evidence prints and stops, so --list does nothing"),
        (["occlusion", "--scale", "smoke", "--seed", "-1", "--out", "run"], "seed must be at"),
    ],
)
def test_options_that_do_nothing_are_refused(
    flags: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *flags]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_settings_of_a_run_name_the_study_that_is_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    assert main(["reproduce", "asynchronous-bias", "--scale=smoke", "--print_config"]) == 0
    file.write_text(capsys.readouterr().out)
    out = tmp_path / "run"
    assert main(["reproduce", "--config", str(file), "--out", str(out)]) == 0
    assert json.loads((out / "summary.json").read_text())["study"] == "asynchronous-bias"
    again = tmp_path / "again"
    assert main(["reproduce", f"--config={out / 'config.yaml'}", "--out", str(again)]) == 0
    assert (again / "comparison.md").read_text() == (out / "comparison.md").read_text()
