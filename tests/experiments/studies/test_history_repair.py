"""Summaries of history-repair: what a cell without a repair leaves out, and what it must hold."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.studies.history_repair.jobs import Cell, Summary, check
from experiments.studies.history_repair.tables import render
from robustkit.errors import RunError

NO_SETS = dict.fromkeys(("pos", "neg", "deg", "imp"))
SCORES = {"acc_after": 0.75, "rr": 0.5, "br": 0.0}
REPAIRED = {
    "before": 0.7,
    "n": 40,
    "held_out_before": 0.6,
    "held_out_n": 20,
    "sets": {**NO_SETS, "pos": 28, "neg": 12},
    "seconds": 1.0,
    "runs": [{"repaired": SCORES, "held_out": SCORES}],
}


def summary_of(rows: dict[str, Any]) -> Summary:
    saved = {"study": "history-repair", "models": {"gtsrb(5)": {"all": rows}}}
    return Summary.from_json(saved, "summary.json")


def test_a_failed_cell_is_written_as_its_reason_alone() -> None:
    assert Cell(failed="no weight").to_json() == {"failed": "no weight"}


@pytest.mark.parametrize("failed", [{"failed": "why"}, {"failed": "why", "sets": NO_SETS}])
def test_failures_are_read_with_and_without_empty_sets(failed: dict[str, Any]) -> None:
    summary = summary_of({"guarded": failed, "finetune": REPAIRED})
    check(summary, "summary.json")
    assert summary.models["gtsrb(5)"]["all"]["guarded"].to_json() == failed
    page = render(summary)
    assert "| gtsrb(5) | 40 | 70.00 | 28 | 12 | 0 | 0 |" in page
    assert "| **guarded** | no repair: why |" in page


def test_a_repair_without_sets_is_refused() -> None:
    cell = {name: value for name, value in REPAIRED.items() if name != "sets"}
    with pytest.raises(RunError, match=r"models\.gtsrb\(5\)\.all\.finetune: 'sets' is missing"):
        check(summary_of({"finetune": cell}), "summary.json")
