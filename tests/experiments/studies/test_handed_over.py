"""Files that one job of a study leaves for the next: read within bounds, and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.benchmarks.tables import check_page
from experiments.studies.overtraining.jobs import Setting
from experiments.studies.search_strategies.jobs import baseline_of
from robustkit.errors import RunError

GROUPS = {"A": [0], "B": [], "C": [1]}


def setting(path: Path) -> Setting:
    of: dict[str, Any] = {"data": "digits", "model": "vgg3", "arm": "plain", "augment": "none"}
    return Setting(path=str(path), **of, count=1, lr=0.1, epochs=1, seed=0)


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"groups": GROUPS}, "required field 'reference'"),
        ({"reference": 0, "groups": GROUPS}, "reference: expected"),
        ({"reference": 1, "groups": {"A": [0]}}, "groups: 'B' is missing"),
        ({"reference": 1, "groups": {**GROUPS, "C": [2]}}, "images beyond the 2 of the test set"),
        ({"reference": 1, "groups": {**GROUPS, "C": [-1]}}, r"groups\.C\[0\]: expected"),
    ],
)
def test_chosen_images_are_checked(tmp_path: Path, told: Any, line: str) -> None:
    of = setting(tmp_path)
    of.choice().write_text(json.dumps(told))
    with pytest.raises(RunError, match=line):
        of.chosen(2)


def test_chosen_images_are_no_link(tmp_path: Path) -> None:
    of = setting(tmp_path)
    (tmp_path / "other.json").write_text(json.dumps({"reference": 1, "groups": GROUPS}))
    of.choice().symlink_to("other.json")
    with pytest.raises(RunError, match="symbolic link"):
        of.chosen(2)


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ([], "expected"),
        ({"1": {"accuracy": 0.5, "macs": 3}}, "'2' is missing"),
        ({"2": {"accuracy": 0.5, "macs": 0}}, r"2\.macs: expected"),
        ({"2": {"macs": 3}}, "accuracy"),
    ],
)
def test_baselines_are_checked(tmp_path: Path, told: Any, line: str) -> None:
    (tmp_path / "baseline.json").write_text(json.dumps(told))
    with pytest.raises(RunError, match=line):
        baseline_of(tmp_path, [2])


def test_a_page_of_somebody_else_is_left(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("a thesis\n")
    with pytest.raises(RunError, match="it is left as it is"):
        check_page(tmp_path / "page.md")
