"""`shift` from end to end, by detectors and by classifiers."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptation.shift import THRESHOLD
from robustkit import models
from robustkit.cli.main import main
from tests.adaptation.commands.runs import summary_of


def test_shift_measures_and_advises(
    adapted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(adapted / "source-0.safetensors")
    found = {}
    for style in ("photo", "clipart"):
        out = tmp_path / style
        flags = [
            "--source",
            "shapes:photo:40?side=64",
            "--target",
            f"shapes:{style}:40?side=64&seed=1",
        ]
        assert main(["shift", "--model", model, *flags, "--draws", "20", "--out", str(out)]) == 0
        found[style] = summary_of(out)["shift"]
        assert found[style]["low"] <= found[style]["ratio"] <= found[style]["high"]
    assert found["photo"]["ratio"] < found["clipart"]["ratio"]
    assert found["photo"]["frechet"] < found["clipart"]["frechet"]
    said = capsys.readouterr().out
    assert f"threshold {THRESHOLD:g}" in said
    assert found["photo"]["advice"] in said
    out = tmp_path / "low"
    flags[-1] = "shapes:clipart:40?side=64"
    low = ["--draws", "5", "--threshold", "0.001", "--out", str(out)]
    assert main(["shift", "--model", model, *flags, *low]) == 0
    assert summary_of(out)["shift"]["advice"] == "adversarial training is likely to pay"


def test_a_classifier_tells_how_far_image_sets_are(tmp_path: Path) -> None:
    model = models.build("small", num_classes=10, in_channels=1, image_size=16, seed=0)
    models.save(model, tmp_path / "m.safetensors")
    flags = ["--model", str(tmp_path / "m.safetensors"), "--source", "digits", "--target", "digits"]
    assert main(["shift", *flags, "--draws", "10", "--out", str(tmp_path / "s")]) == 0
    # The same images on both sides, none of which is in both clouds.
    found = summary_of(tmp_path / "s")["shift"]
    assert found["low"] == found["ratio"] == found["high"] == 1


def test_any_classifier_measures_pictures_before_a_detector_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, factory = tmp_path / "s", "tests.adaptation.factories:lite0"
    flags = ["--source", "shapes:photo:40?side=64", "--target", "shapes:clipart:40?side=64"]
    found = []
    for target in (flags[3], flags[1]):
        told = ["--model", factory, *flags[:3], target, "--draws", "5", "--out", str(out)]
        assert main(["shift", *told]) == 0
        found.append(summary_of(out)["shift"])
        out = tmp_path / "self"
    assert found[0]["ratio"] > 2
    assert found[1]["ratio"] == 1
    capsys.readouterr()
    assert main(["shift", "--model", "torchvision:resnet18", *flags, "--out", str(out)]) == 2
    assert "its weights are fresh" in capsys.readouterr().err
    assert main(["shift", "--model", factory, *flags[:3], "digits", "--out", str(out)]) == 2
    assert "not of the same kind" in capsys.readouterr().err
