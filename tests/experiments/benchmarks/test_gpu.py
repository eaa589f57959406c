"""The bench for GPUs, rehearsed without one: what it writes, and what it says of mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.benchmarks.gpu import FULL, REHEARSAL
from robustkit.cli.main import main

STEPS = ("plain step", "penalised step")
WAYS = (", bf16", ", channels last", ", bf16 and channels last")
MEMORY = "reference gradients of 64 images: memory"


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    assert main(["bench", "gpu", "--device", "cpu", "--out", str(out)]) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def records(found: dict[str, Any]) -> dict[str, Any]:
    return {each["what"]: each for suite in found["suites"].values() for each in suite["records"]}


def test_the_json_says_what_was_measured_and_on_what(rehearsed: dict[str, Any]) -> None:
    suites = rehearsed["suites"]
    assert set(suites) == {"gpu-training", "gpu-images", "gpu-gradients", "gpu-packing"}
    for suite in suites.values():
        assert suite["device"] == "cpu"
        assert suite["setting"]["batch"] == REHEARSAL.batch
    kept = records(rehearsed)[MEMORY]
    assert kept["ours"]["median"] == 2 * kept["peer"]["median"] == 2 * 64 * 3 * 16 * 16
    assert "gradients on the device" in kept["note"]


def test_every_figure_has_a_median_a_spread_and_a_number(rehearsed: dict[str, Any]) -> None:
    found = records(rehearsed)
    expected = {
        *(f"small: {step}" for step in STEPS),
        *(f"small: penalised step{way}" for way in WAYS),
        "small: plain step, bf16 and channels last",
        *(f"small: {attack}, 2 steps" for attack in ("PGD", "PGD, bf16", "MI-FGSM")),
        "small: CAV maps of every stage",
        "small: reference gradients",
        "candidates, 1 process on one device",
        "candidates, 2 processes on one device",
        MEMORY,
    }
    assert set(found) == expected
    for each in found.values():
        for figure in (each["ours"], each["peer"]):
            if figure is not None and figure["rounds"] > 1:
                assert 0 < figure["low"] <= figure["median"] <= figure["high"]
        if each["ratio"] is not None:
            assert each["ratio"] == pytest.approx(each["ours"]["median"] / each["peer"]["median"])
    plain = found["small: plain step"]["ours"]
    for way in WAYS:
        assert found[f"small: penalised step{way}"]["peer"] == plain


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
    assert main(["bench", "gpu", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "no GPU on this machine" in said
    assert said.count("\n") == 1
    assert "--device cpu" in said
    assert not out.exists()


def test_an_unknown_device_is_found_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "gpu-images", "--device", "abacus"]) == 2
    assert "unknown device 'abacus'" in capsys.readouterr().err
