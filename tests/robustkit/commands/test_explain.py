"""`robustkit explain` from end to end, on a short training and on a repair of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustkit import data, explain, models
from robustkit.attacks import predict
from robustkit.cli.main import main
from robustkit.runs import RunFolder

ALL = "cav,gradcam,saliency,gradxinput,deconvnet,guided,guided-minus,guided-gradcam"
ALL += ",smoothgrad,integrated,occlusion"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("explain") / "train"
    flags = ["--data", "digits", "--model", "vgg3?width=8", "--epochs", "2", "--lr", "0.01"]
    flags += ["--schedule", "constant", "--warmup", "0", "--seed", "0"]
    assert main(["train", *flags, "--out", str(out)]) == 0
    return out


def show(trained: Path, out: Path, *flags: str) -> int:
    model = str(trained / "model.safetensors")
    return main(["explain", "--model", model, "--data", "digits", *flags, "--out", str(out)])


def test_every_map_and_every_figure(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = ["--index", "0,5,9", "--method", ALL, "--samples", "3", "--steps", "8"]
    assert show(trained, out, *flags, "--target", "true", "--mask", "positive") == 0
    summary = json.loads((out / "summary.json").read_text())
    assert [image["index"] for image in summary["images"]] == ["test 0", "test 5", "test 9"]
    splits = data.load("digits")
    model = models.load(trained / "model.safetensors")
    chosen = torch.tensor([0, 5, 9])
    logits = predict(model, splits.test.images[chosen])
    for row, image in enumerate(summary["images"]):
        label = int(splits.test.labels[chosen[row]])
        assert image["target"] == image["true"] == splits.test.classes[label]
        assert image["score"] == pytest.approx(float(logits[row, label]), abs=1e-4)
        assert image["residual_max"] < 1e-3
    with np.load(out / "maps.npz") as saved:
        arrays = dict(saved)
    x, y = splits.test.floats(chosen), splits.test.labels[chosen]
    with explain.trace(model, x, y) as t:
        np.testing.assert_allclose(arrays["cav/input"], explain.cav(t)["input"].map, atol=1e-5)
        np.testing.assert_allclose(
            arrays["saliency"], explain.saliency(t).abs().sum(dim=1), atol=1e-5
        )
    assert set(summary["scores"]) == {*ALL.split(","), "random", "edges"}
    for name in ALL.split(","):
        assert arrays[name].shape == (3, 16, 16)
        score = summary["scores"][name]
        assert 0 <= score["deletion"]["mean"] <= 1
        assert score["deletion"]["n"] == 3
        known = score["stability"]["signed"]
        assert known["n"] + known["constant"] == 3
        assert len(score["sanity"]["cascading"]) == len(score["sanity"]["independent"]) > 3
    known = {name: summary["scores"][name]["completeness"] for name in ALL.split(",")}
    assert {name for name, each in known.items() if each is not None} == {
        *("cav", "gradxinput", "integrated")
    }
    assert known["cav"]["mean"] < 1e-4 < known["gradxinput"]["mean"]  # biases are CAV's alone
    start = predict(model, torch.zeros_like(x)).gather(1, y[:, None])[:, 0]
    score_there = torch.tensor([image["score"] for image in summary["images"]])
    missed = torch.tensor(arrays["integrated"]).sum(dim=(1, 2)) - (score_there - start)
    assert known["integrated"]["mean"] == pytest.approx(float(missed.abs().mean()), abs=1e-5)
    assert len(summary["mask"]["images"]) == 3
    assert len(summary["mask"]["images"][0]["top_after"]) == 10
    with Image.open(out / "panel_002.png") as panel:
        assert min(panel.size) > 200
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") == 3
    assert page.count("<svg") == 2
    assert "NaN" not in (out / "summary.json").read_text()


def test_files_layers_and_boxes(trained: Path, tmp_path: Path) -> None:
    splits = data.load("digits")
    file = tmp_path / "näme of image.png"
    Image.fromarray(splits.test.images[3, 0].numpy()).save(file)
    out = tmp_path / "run"
    flags = ["--image", str(file), "--method", "cav", "--layers", "MaxPool2d", "--target", "7"]
    flags += ["--mask", "0,0,8,16", "--at", "net.stage2", "--no-check"]
    assert show(trained, out, *flags) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert "scores" not in summary
    (image,) = summary["images"]
    assert image["target"] == "7"
    assert image["true"] is None
    assert summary["mask"]["images"][0]["share"] == pytest.approx(0.5)
    with np.load(out / "maps.npz") as saved:
        assert [name for name in saved if name.startswith("cav/")]


def test_two_models_and_what_a_repair_broke(trained: Path, tmp_path: Path) -> None:
    again = tmp_path / "same"
    other = str(trained / "model.safetensors")
    quick = ["--method", "cav,saliency", "--steps", "4", "--no-check"]
    assert show(trained, again, "--index", "1,2", "--contrast", other, *quick) == 0
    found = json.loads((again / "summary.json").read_text())["contrast"]
    assert found["cav"]["signed"]["mean"] == pytest.approx(1.0)
    assert found["saliency"]["ssim"]["mean"] == pytest.approx(1.0)
    mended = tmp_path / "mended"
    flags = ["--run", str(trained), "--method", "finetune", "--steps", "50"]
    assert main(["repair", *flags, "--attack-images", "0", "--out", str(mended)]) == 0
    out = tmp_path / "run"
    flags = ["--repair", str(mended), "--which", "repaired", *quick]
    assert main(["explain", *flags, "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    indices = json.loads((mended / "summary.json").read_text())["repaired_indices"][:12]
    assert [image["index"] for image in summary["images"]] == [f"val {each}" for each in indices]
    assert all(image["predicted"] != image["true"] for image in summary["images"])
    assert summary["contrast"]["saliency"]["signed"]["mean"] < 1
    # What the repair named is what the run's settings say, and they do for another run.
    config = RunFolder.open(out, command="explain").config
    assert config["split"] == "val"
    assert config["index"] == [str(each) for each in indices]
    saved = ["--config", str(out / "config.yaml"), "--out", str(tmp_path / "again")]
    assert main(["explain", *saved]) == 0
    for given in (["--data", "mnist"], ["--split", "test"], ["--contrast", other]):
        assert main(["explain", *flags, *given, "--out", str(tmp_path / "not")]) == 2


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "name the images: either --index 0,5,9 or --image FILE"),
        (["--index", "0", "--image", "x.png"], "name the images"),
        (["--index", "447"], "--index 447: test has 447 images, 0 to 446"),
        (["--index", "-1"], "--index: numbers between commas, not '-1'"),
        (["--image", "missing.png"], "missing.png: no such file"),
        (["--image", "{text}"], "cannot be decoded as an image"),
        (["--image", "{large}"], "20 x 20 pixels; the model sees 16 x 16"),
        (
            ["--index", "0", "--layers", "net.stage9"],
            "no layer 'net.stage9'; the closest names are net.stage3",
        ),
        (["--index", "0", "--target", "cat"], "no class 'cat'"),
        (["--image", "{good}", "--target", "true"], "an image file has no label"),
        (["--index", "0", "--method", "cave"], "unknown map 'cave'; did you mean 'cav'"),
        (["--index", "0", "--mask", "1,2"], "positive, negative or a box"),
        (["--index", "0", "--mask", "0,0,99,99"], "images are 16 x 16"),
        (["--index", "0", "--mask", "positive", "--at", "net.nowhere"], "no layer 'net.nowhere'"),
        (["--index", "0", "--quantile", "0.5"], "are of --mask, which is missing"),
        (["--index", "0", "--noise", "2"], "--noise must be in [0,1]"),
        (
            ["--index", "0", "--mask", "0,0,4,4", "--quantile", "0.5"],
            "--quantile is of --mask positive or negative, not of a box",
        ),
        (["--index", "0", "--layers", "Linear"], "no maps (N,C,H,W) to show"),
        (["--image", "{deep}"], "8 bits per channel are needed"),
        (["--index", "0", "--region", "99", "--method", "occlusion"], "regions of 99 pixels"),
    ],
)
def test_mistakes_are_said_in_one_line(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    told: str,
) -> None:
    files = {name: tmp_path / f"{name}.png" for name in ("text", "large", "good", "deep")}
    files["text"].write_text("no image")
    Image.fromarray(np.full((16, 16), 40000, dtype=np.uint16)).save(files["deep"])
    for name, side in (("large", 20), ("good", 16)):
        Image.fromarray(np.zeros((side, side), dtype=np.uint8)).save(files[name])
    out = tmp_path / "run"
    assert show(trained, out, *(flag.format(**files) for flag in flags)) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_a_net_that_cav_cannot_pass_has_every_other_map_and_a_box_as_mask(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gated = ["--model", "tests.robustkit.commands.bilinear:net", "--index", "0,1", "--no-check"]
    out = tmp_path / "run"
    boxed = ["--method", "saliency", "--mask", "0,0,4,4"]
    assert main(["explain", *gated, *boxed, "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert all(image["residual_max"] is None for image in summary["images"])
    assert all(image["predicted"] is None for image in summary["mask"]["images"])
    for flags, said in (
        (["--method", "cav"], "give --method without cav"),
        (["--method", "saliency", "--mask", "positive"], "CAV has no convention for einsum"),
    ):
        assert main(["explain", *gated, *flags, "--out", str(tmp_path / "not")]) == 2
        assert said in capsys.readouterr().err
    beside = ["--contrast", "tests.robustkit.commands.bilinear:net", "--index", "0", "--no-check"]
    assert show(trained, tmp_path / "not", *beside) == 2
    assert "the other model: CAV has no convention" in capsys.readouterr().err
    assert not (tmp_path / "not").exists()
