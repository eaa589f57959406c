"""What `adapt`, `detect` and `shift` say of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.cli import main
from robustkit import models
from robustkit.data.shapes import ShapesConfig
from robustkit.data.shapes.write import write_shapes
from tests.experiments.adaptation.runs import SMALL


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["adapt", "--recipe", "adversarail"], "did you mean 'adversarial'"),
        (["adapt", "--recipe", "oracle+aligned"], "'oracle' goes with no other"),
        (["adapt", "--recipe", "source,source"], "the same recipe twice"),
        (["adapt", "--source", "shapes:foto"], "did you mean 'photo'"),
        (["adapt", "--detector", "tiny_sds"], "did you mean 'tiny_ssd'"),
        (["adapt", "--seeds", "0"], "--seeds must be at least 1"),
        (["adapt", "--replays", "3"], "--replays is of the recipe free"),
        (["adapt", "--recipe", "adabn"], "adabn adapts batch norm"),
        (["adapt", "--source", "coco:a:b"], "b: no such file"),
        (["adapt", "--batch-size", "5", "--shards", "2"], "cannot be divided into 2 shards"),
        (["adapt", "--eps", "2"], "eps must be in [0,1]"),
        (["adapt", "--backbone", "{detector}"], "holds a detector, where a classifier is needed"),
        (["detect"], "--model: name a detector's file"),
        (["detect", "--model", "{classifier}"], "holds a classifier where a detector is needed"),
        (["detect", "--model", "torchvision:ssd300_vgg16"], "without --weights FILE"),
        (["detect", "--model", "{detector}", "--weights", "w"], "leave out --weights"),
        (["detect", "--model", "{detector}", "--data", "voc:{tmp}:test"], "no JPEGImages in it"),
        (["detect", "--model", "{detector}", "--eps", "3"], "must be in [0,1]"),
        (["shift"], "--source is needed"),
        (["shift", "--source", "a", "--target", "b"], "--model is needed"),
        (
            ["shift", "--source", "digits", "--target", "digits", "--model", "{detector}"],
            "expected voc:FOLDER",
        ),
        (
            ["shift", "--source", "digits", "--target", "digits", "--model", "{classifier}"],
            "the model takes (3, 16, 16)",
        ),
    ],
)
def test_mistakes_are_said_in_one_line_and_leave_nothing(
    arguments: list[str],
    said: str,
    adapted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    classifier = tmp_path / "c.safetensors"
    models.save(
        models.build("small", num_classes=3, in_channels=3, image_size=16, seed=0), classifier
    )
    names = {
        "classifier": classifier,
        "detector": adapted / "source-0.safetensors",
        "tmp": tmp_path,
    }
    verb, *rest = (each.format(**names) for each in arguments)
    if verb == "adapt":
        tiny = [*SMALL]
        for flag in ("--source", "--detector", "--batch-size"):
            if flag in rest:
                place = tiny.index(flag)
                del tiny[place : place + 2]
        rest = [*tiny, *rest]
    out = tmp_path / "out"
    assert main([verb, *rest, "--out", str(out)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not out.exists()


def test_images_are_not_trained_on_with_labels_and_judged_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shapes(ShapesConfig(style="comic", count=4, side=64), tmp_path / "clipart")
    flags, everything = [*SMALL], f"voc:{tmp_path / 'clipart'}:all"
    flags[3] = everything
    out = tmp_path / "out"
    assert main(["adapt", *flags, "--recipe", "oracle", "--seeds", "1", "--out", str(out)]) == 2
    assert "are trained on with their labels and judged on" in capsys.readouterr().err
    flags[1] = everything
    assert main(["adapt", *flags, "--recipe", "source", "--seeds", "1", "--out", str(out)]) == 2
    assert not out.exists()
