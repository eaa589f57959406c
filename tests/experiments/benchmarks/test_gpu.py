"""The bench for GPUs, rehearsed without one: what it writes, and what it says of mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from experiments.benchmarks.gpu.__main__ import main
from experiments.benchmarks.gpu.figure import Figure, per_second, table
from experiments.benchmarks.gpu.setting import FULL, REHEARSAL

STEPS = ("plain step", "penalised step")
WAYS = (", bf16", ", channels last", ", bf16 and channels last")


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    assert main(["--device", "cpu", "--out", str(out)]) == 0
    return out


def test_the_json_says_what_was_measured_and_on_what(rehearsed: Path) -> None:
    found = json.loads(rehearsed.read_text())
    assert set(found) == {
        *("format", "device", "rehearsal", "environment", "setting", "figures"),
        "reference_gradients",
    }
    assert found["rehearsal"] is True
    assert found["device"]["type"] == "cpu"
    assert {"python", "robustkit", "torch"} <= set(found["environment"]["versions"])
    kept = found["reference_gradients"]
    assert kept["gradient_bytes"] == 2 * kept["image_bytes"] == 2 * 64 * 3 * 16 * 16
    assert kept["gradients_on_device"] is True


def test_every_figure_has_a_median_a_spread_and_a_number(rehearsed: Path) -> None:
    figures = json.loads(rehearsed.read_text())["figures"]
    expected = {
        *(f"small: {step}" for step in STEPS),
        *(f"small: penalised step{way}" for way in WAYS),
        "small: plain step, bf16 and channels last",
        *(f"small: {attack}, 2 steps" for attack in ("PGD", "PGD, bf16", "MI-FGSM")),
        "small: CAV maps of every stage",
        "small: reference gradients",
        "candidates, 1 process on one device",
        "candidates, 2 processes on one device",
    }
    assert set(figures) == expected
    for each in figures.values():
        assert set(each) == {"unit", "median", "low", "high", "n", "ratio", "ratio_to"}
        assert 0 < each["low"] <= each["median"] <= each["high"]
        assert each["n"] >= 1
        if each["ratio"] is not None:
            base = figures[each["ratio_to"]]
            assert each["ratio"] == pytest.approx(each["median"] / base["median"])
    against = {name for name, each in figures.items() if each["ratio_to"] == "small: plain step"}
    assert {f"small: penalised step{way}" for way in WAYS} <= against


def test_the_whole_bench_is_no_smaller_than_its_rehearsal() -> None:
    assert set(REHEARSAL.packs) <= set(FULL.packs) == {1, 2, 4}
    assert set(REHEARSAL.nets) <= set(FULL.nets)
    for name in ("side", "batch", "images", "stored", "candidates", "rounds"):
        assert getattr(FULL, name) > getattr(REHEARSAL, name)


def test_without_a_gpu_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "bench.json"
    assert main(["--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("no GPU on this machine")
    assert said.count("\n") == 1
    assert "--device cpu" in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--device", "abacus"], "unknown device 'abacus'"),
        (["--device", "cpu", "--out", "/nowhere/bench.json"], "/nowhere is not a folder"),
    ],
)
def test_mistakes_are_found_before_anything_is_measured(
    arguments: list[str], match: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert match in capsys.readouterr().err


def test_figures_are_medians_and_ratios_of_medians() -> None:
    plain = Figure("plain", "s", (1.0, 4.0, 2.0))
    other = Figure("other", "s", (3.0, 5.0)).over(plain)
    assert (plain.median, other.median, other.ratio, other.base) == (2.0, 4.0, 2.0, "plain")
    assert per_second("rate", "images", 10, [2.0, 5.0]).values == (5.0, 2.0)
    lines = table([plain, other]).splitlines()
    assert len(lines) == 3
    assert lines[2].endswith("2.00× plain")
