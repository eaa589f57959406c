from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from experiments.studies import EXPERIMENTS, find
from experiments.studies.base import register
from robustkit import models
from robustkit.cli.main import main

INLINE = ["--scale=smoke", "--executor", "inline", "--workers", "1"]


@pytest.mark.parametrize("flags", [[], ["--list"]])
def test_the_experiments_and_their_exhibits_are_listed(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", *flags]) == 0
    printed = capsys.readouterr().out
    for name, study in EXPERIMENTS.items():
        assert f"  {name}  {study.title}\n      {study.source}\n" in printed
        for item in study.items:
            assert item.name in printed
            assert find(item.name) == (study, item if item.name != name else None)


def test_an_unknown_experiment_gets_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "misalignement"]) == 2
    assert "did you mean 'misalignment'?" in capsys.readouterr().err


def test_out_and_resume_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "misalignment", "--out", "a", "--resume", "b"]) == 2
    assert "--out and --resume exclude each other" in capsys.readouterr().err


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        register(EXPERIMENTS["misalignment"])


def test_the_study_of_repair_in_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "study"
    assert (
        main(["reproduce", "history-repair", "--scale=smoke", "--seed", "0", "--out", str(out)])
        == 0
    )
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
    assert main(["reproduce", "--resume", str(out)]) == 0
    assert "digits(3)/all" not in capsys.readouterr().out
    assert json.loads((out / "summary.json").read_text()) == summary


def test_the_study_of_filters_in_small(tmp_path: Path) -> None:
    out = tmp_path / "study"
    assert main(["reproduce", "filter-contribution", *INLINE, "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    found = summary["paths"]["0"]
    assert [sum(map(sum, counts)) for counts in found["winners"]] == [20] * 10
    assert [sum(map(sum, counts)) for counts in found["seconds"]] == [20] * 10
    assert found["residual_max"] < 1e-4
    page = (out / "comparison.md").read_text()
    assert "| three filters a layer reach 98 % on MNIST |" in page
    assert {each["verdict"] for each in summary["claims"]} == {"not testable here"}
    assert (out / "cnn3-3-0.paths.png").stat().st_size > 5_000


def test_the_study_of_regions_in_small(tmp_path: Path) -> None:
    out = tmp_path / "study"
    assert main(["reproduce", "occlusion-regions", *INLINE, "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    regions = summary["regions"]["0"]
    assert regions["regions"] == 64
    for rates, any_ in zip(regions["flip_rate"], regions["flipped_by_one"], strict=True):
        cells = [cell for row in rates for cell in row]
        assert any_ is None or max(cells) <= any_ <= sum(cells) + 1e-9
    assert (out / "cnn3-3-0.regions.png").stat().st_size > 5_000


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
        "| of two objects in a picture each class's score belongs to its own |"
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
