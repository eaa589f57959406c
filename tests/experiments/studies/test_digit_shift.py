"""The study of two collections of digits, in small, and its rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.studies.base import Claim
from experiments.studies.digit_shift.jobs import Summary, collection, resized
from experiments.studies.digit_shift.study import claims, gain
from robustkit import data
from robustkit.cli.main import main
from robustkit.data import ImageSet
from tests.experiments.studies.completing import completed


def test_images_are_brought_to_one_size_and_classes_to_one_name() -> None:
    large = ImageSet(
        torch.full((4, 1, 28, 28), 100, dtype=torch.uint8),
        torch.tensor([0, 1, 2, 9]),
        tuple("abcdefghij"),
    )
    small = resized(large)
    assert small.shape == (1, 16, 16)
    assert small.classes == tuple("0123456789")
    assert set(small.images.flatten().tolist()) == {100}
    digits = collection("digits", 100)
    assert len(digits.train) == 100
    assert torch.equal(collection("digits", 10**6).test.images, data.load("digits").test.images)


def runs(target: list[float], advice: str, adabn: float = 0.5) -> dict[str, Any]:
    return {
        str(seed): {
            "target": value,
            "target_adabn": adabn + 0.001 * seed,
            "shift": {"advice": advice, "ratio": 3.0, "threshold": 10},
        }
        for seed, value in enumerate(target)
    }


def decided(radii: dict[str, Any]) -> list[Claim]:
    return claims(completed(Summary, {"sources": {"mnist": radii}}))


def test_claims_follow_their_rules() -> None:
    advice = "adversarial training is likely to pay"
    plain = runs([0.40, 0.41, 0.39], advice)
    helped = runs([0.50, 0.52, 0.49], advice)
    hurt = runs([0.30, 0.33, 0.31], advice)
    found = claims(
        completed(Summary, {"sources": {"mnist": {"0": plain, "0.1": helped, "0.2": hurt}}})
    )
    assert [each.holds for each in found] == [True] * 3
    assert gain(
        completed(Summary, {"sources": {"mnist": {"0": plain, "0.1": helped}}}).sources["mnist"],
        "0.1",
    ).value == pytest.approx(0.1033, abs=1e-4)
    found = decided({"0": plain, "0.1": hurt})
    assert [each.holds for each in found] == [False, False, True]
    mixed = {**plain, "2": {**plain["2"], "shift": {"advice": "it is likely to cost"}}}
    found = decided({"0": mixed, "0.1": hurt})
    assert [each.holds for each in found] == [False, None, True]
    undecided = runs([0.3, 0.6, 0.4], advice)
    found = decided({"0": plain, "0.1": undecided})
    assert [each.holds for each in found] == [None, None, True]


def test_the_study_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # MNIST need not be there: one collection stands for both.
    digits = data.load("digits")
    monkeypatch.setattr(data, "load", lambda name: digits)
    collection.cache_clear()
    out = tmp_path / "study"
    flags = ["--scale=smoke", "--executor", "inline", "--workers", "1"]
    assert main(["reproduce", "digit-shift", *flags, "--out", str(out)]) == 0
    collection.cache_clear()
    (of,) = json.loads((out / "summary.json").read_text())["sources"].values()
    assert list(of) == ["0", "0.1"]
    for each in of.values():
        for figure in ("source", "target", "robust", "target_adabn"):
            assert 0 <= each["0"][figure] <= 1
    assert "Gains are points" in (out / "comparison.md").read_text()
