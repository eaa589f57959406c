"""A study of somebody's, named by `--extend`: listed, run, drawn again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.studies import EXPERIMENTS, base
from robustkit.cli.main import main

MODULE = "tests.experiments.studies.new_study"


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    EXPERIMENTS.pop("label-noise", None)
    base._ITEMS.pop("label-noise", None)


def test_a_study_of_sixty_lines_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = (Path(__file__).parent / "new_study.py").read_text().splitlines()
    assert sum(bool(line.strip()) for line in code) <= 80
    out = tmp_path / "run"
    flags = [f"--extend={MODULE}", "--scale=smoke", "--executor=inline", f"--out={out}"]
    assert main(["reproduce", "label-noise", *flags]) == 0
    page = capsys.readouterr().out
    assert "| noise | robust accuracy, % |" in page
    assert "1 claims: 0 agrees, 0 disagrees, 1 not testable here." in page
    summary = json.loads((out / "summary.json").read_text())
    assert {noise: set(of) for noise, of in summary["trained"].items()} == {
        "0": {"0", "1"},
        "0.3": {"0", "1"},
    }
    assert main(["report", str(out)]) == 0
