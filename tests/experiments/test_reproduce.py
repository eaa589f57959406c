from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.cli import main
from experiments.reproduce import EXPERIMENTS, Experiment, experiment
from experiments.verbs import VERBS
from experiments.verbs.reproduce import comparison
from robustkit import models


def rate(value: float) -> dict[str, Any]:
    return {"headline": {"rate": value, "n": 200, "low": value - 0.05, "high": value + 0.05}}


SUMMARY: dict[str, Any] = {
    "gap": {"points": 31.5, "low": 20.25, "high": 40.0, "p_value": 0.0004},
    "nets": {
        "R": {"clean_acc": 0.9},
        "Rp": {"clean_acc": 0.88, "transfer_from_R": rate(0.6)},
        "E": {"clean_acc": 0.895, "transfer_from_R": rate(0.285)},
    },
}


@pytest.fixture
def registry() -> Iterator[None]:
    before = dict(EXPERIMENTS)
    yield
    EXPERIMENTS.clear()
    EXPERIMENTS.update(before)


def test_the_experiments_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed and each.source in printed for name, each in EXPERIMENTS.items())


def test_an_unknown_experiment_gets_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "misalignement"]) == 2
    assert "did you mean 'misalignment'?" in capsys.readouterr().err


def test_out_and_resume_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "misalignment", "--out", "a", "--resume", "b"]) == 2
    assert "--out and --resume exclude each other" in capsys.readouterr().err


@pytest.mark.usefixtures("registry")
def test_a_name_is_registered_once() -> None:
    register = experiment(
        name="misalignment", title="", source="", verb="evolve", settings="", quick=""
    )
    with pytest.raises(ValueError, match="registered twice"):
        register(lambda summary: ())


@pytest.mark.parametrize(
    "name", [name for name, each in EXPERIMENTS.items() if isinstance(each, Experiment)]
)
@pytest.mark.parametrize("quick", [True, False])
def test_the_settings_are_options_of_the_verb(name: str, quick: bool) -> None:
    each = EXPERIMENTS[name]
    assert isinstance(each, Experiment)
    assert each.verb in VERBS
    assert main([each.verb, *each.arguments(quick=quick), "--print_config"]) == 0


def test_ours_stands_beside_the_published_figures() -> None:
    each = EXPERIMENTS["misalignment"]
    assert isinstance(each, Experiment)
    table = comparison(each, each.compare(SUMMARY))
    assert "| more than 10 (project report 20K23341)" in table
    assert "| 31.5 [20.2, 40.0], p = 0.0004 |" in table
    assert "| T(R->R') | not given | 60.0% [55.0%, 65.0%], n = 200 |" in table
    assert "| T(R->E) | not given | 28.5% [23.5%, 33.5%], n = 200 |" in table
    assert "90.0%, 89.5% (-0.5 points)" in table
    assert each.source in table


def test_a_comparison_without_common_images_says_so() -> None:
    nothing = {"headline": {"rate": None, "n": 0, "low": None, "high": None}}
    nets = {name: {"clean_acc": 0.1, "transfer_from_R": nothing} for name in ("R", "Rp", "E")}
    gap = dict.fromkeys(("points", "low", "high", "p_value"))
    each = EXPERIMENTS["misalignment"]
    assert isinstance(each, Experiment)
    assert comparison(each, each.compare({"gap": gap, "nets": nets})).count("not measured") == 3


@pytest.mark.slow
def test_a_rehearsal_runs_to_its_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["reproduce", "misalignment", "--quick", "--out", str(out)]) == 0
    assert (out / "comparison.md").read_text() in capsys.readouterr().out


def test_the_study_of_repair_in_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "study"
    assert main(["reproduce", "history-repair", "--quick", "--seed", "0", "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    rows = summary["models"]["digits(3)"]["all"]
    assert set(rows) == {"history", "arachne", "deg & diff", "guarded", "anchored"}
    for row in ("history", "arachne", "anchored"):
        assert len(rows[row]["runs"]) == 2
        for run in rows[row]["runs"]:
            repaired = run["repaired"]
            right = rows[row]["before"] * rows[row]["n"]
            wrong = rows[row]["n"] - right
            gained = repaired["rr"] * wrong - repaired["br"] * right
            assert repaired["acc_after"] * rows[row]["n"] == pytest.approx(right + gained)
    page = (out / "comparison.md").read_text()
    assert "## Table 3. RQ1" in page
    assert "## Claims" in page
    assert "| **guarded** |" in page
    capsys.readouterr()
    # What the ledger holds is not done again.
    (out / "summary.json").unlink()
    assert main(["reproduce", "history-repair", "--resume", str(out)]) == 0
    assert "digits(3)/all" not in capsys.readouterr().out
    assert json.loads((out / "summary.json").read_text()) == summary


def test_the_study_of_filters_in_small(tmp_path: Path) -> None:
    out = tmp_path / "study"
    flags = ["--quick", "--executor", "inline", "--workers", "1"]
    assert main(["reproduce", "filter-contribution", *flags, "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    found = summary["paths"]["0"]
    assert [sum(map(sum, counts)) for counts in found["winners"]] == [20] * 10
    assert [sum(map(sum, counts)) for counts in found["seconds"]] == [20] * 10
    assert found["residual_max"] < 1e-4
    regions = summary["regions"]["0"]
    assert regions["regions"] == 64
    for rates, any_ in zip(regions["flip_rate"], regions["flipped_by_one"], strict=True):
        cells = [cell for row in rates for cell in row]
        assert any_ is None or max(cells) <= any_ <= sum(cells) + 1e-9
    page = (out / "comparison.md").read_text()
    assert "| three filters reach 98 % | disagrees |" in page
    for picture in ("paths", "regions"):
        assert (out / f"cnn3-3-0.{picture}.png").stat().st_size > 5_000


INLINE = ["--quick", "--executor", "inline", "--workers", "1"]


def test_the_study_of_contribution_maps_in_small(tmp_path: Path) -> None:
    out = tmp_path / "study"
    assert main(["reproduce", "contribution-maps", *INLINE, "--out", str(out)]) == 0
    masks = json.loads((out / "summary.json").read_text())["masks"]
    assert masks["residual_max"] < 1e-4
    for layer in (*masks["layers"], "input"):
        for sign in ("positive", "negative"):
            ours = masks["masks"][f"{layer}/{sign}"]
            control = masks["masks"][f"{layer}/random, as {sign}"]
            assert ours["share"]["mean"] == pytest.approx(control["share"]["mean"])
            difference = ours["drop"]["mean"] - control["drop"]["mean"]
            assert ours["beyond"]["mean"] == pytest.approx(difference)
            assert (ours["expected"]["mean"] >= 0) == (sign == "positive")
    assert (
        "| a class's score belongs to its object | not testable here |"
        in (out / "comparison.md").read_text()
    )


def test_the_study_of_overtraining_in_small(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    assert main(["reproduce", "overtraining", *INLINE, "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    for arm in ("plain", "augmented"):
        of = summary["arms"][arm]
        losses = {number: seen["val"]["loss"] for number, seen in of["train"].items()}
        reference = str(of["choice"]["reference"])
        assert losses[reference] == min(losses.values())
        for seen in of["maps"][reference].values():
            for likeness in seen["maps"].values():
                assert likeness["spearman"] in (None, pytest.approx(1.0))
                assert likeness["n"] + likeness["constant"] == seen["n"]
        groups = of["choice"]["groups"]
        assert not set(groups["A"]) & set(groups["B"])
        assert (out / f"{arm}_strips.png").stat().st_size > 5_000
        assert set(of["windows"]) == set(of["maps"]["1"]["A"]["maps"]) >= {"guided x input"}
    for name, words in (
        ("training", "last layer's norm"),
        ("answers", "entropy"),
        ("likeness", "guided-minus"),
    ):
        assert words in (out / f"{name}.svg").read_text()
    # What a segment gave is where the next one begins: one that is lost is made again, alike.
    before = models.digest(models.load(out / "plain_0003.safetensors"))
    (out / "plain_0003.safetensors").unlink()
    with sqlite3.connect(out / "ledger.sqlite") as ledger:
        ledger.execute("delete from trials where id = 'train/plain/0003'")
    (out / "summary.json").unlink()
    capsys.readouterr()
    assert main(["reproduce", "overtraining", "--resume", str(out)]) == 0
    assert models.digest(models.load(out / "plain_0003.safetensors")) == before
    assert "train/plain/0002" not in capsys.readouterr().out
    again = json.loads((out / "summary.json").read_text())
    assert again == summary
