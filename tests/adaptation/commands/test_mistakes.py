"""What `adapt`, `detect` and `shift` say of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptation.adapt import AdaptOptions, load_domains
from robustkit import models
from robustkit.cli.main import main
from robustkit.data.detection.shapes import ShapesConfig, write_shapes
from tests.adaptation.commands.runs import SMALL


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["adapt", "--recipe", "adversarail"], "did you mean 'adversarial'"),
        (["adapt", "--recipe", "oracle+aligned"], "'oracle' goes with no other"),
        (["adapt", "--recipe", "source,source"], "the same recipe twice"),
        (["adapt", "--source", "shapes:foto"], "did you mean 'photo'"),
        (["adapt", "--detector", "tiny_sds"], "did you mean 'tiny_ssd'"),
        (["adapt", "--recipe", "source,free+teacher,teacher+free"], "the same recipe twice"),
        (["adapt", "--recipe", "source,free", "--adv-loss", "cls"], "adversarial or fast"),
        (["adapt", "--device", "foo"], "foo"),
        (["adapt", "--seeds", "0"], "--seeds must be at least 1"),
        (["adapt", "--replays", "3"], "--replays is of the recipe free"),
        (["adapt", "--recipe", "adabn"], "adabn adapts batch norm"),
        (["adapt", "--source", "coco:a:b"], "b: No such file"),
        (["adapt", "--batch-size", "5", "--shards", "2"], "cannot be divided into 2 shards"),
        (["adapt", "--eps", "2"], "eps must be in [0,1]"),
        (["adapt", "--backbone", "{detector}"], "holds a detector, where a classifier is needed"),
        (["detect"], "--model: name a detector's file"),
        (["detect", "--model", "{classifier}"], "holds a classifier where a detector is needed"),
        (["adapt", "--detector", "{lite}?weights=COCO_V1"], "--download fetches it"),
        (["adapt", "--detector", "{lite}?weights=COCO_V3"], "did you mean 'COCO_V1'"),
        (["adapt", "--detector", "{lite}?weights=a.pth", "--weights", "b"], "leave one out"),
        (["adapt", "--detector", "{lite}?weights=a&weights_backbone=b"], "exclude each other"),
        (
            [
                *[
                    "adapt",
                    "--detector",
                    "tiny_ssd",
                    "--backbone",
                    "vgg5?width=8",
                    "--taps",
                    "stage9",
                ]
            ],
            "no block 'stage9' in the backbone",
        ),
        (["adapt", "--backbone", "tests.adaptation.factories:lite1"], "did you mean 'lite0'"),
        (["adapt", "--taps", "layer1"], "--backbone, which is missing"),
        (["detect", "--model", "torchvision:ssd300_vgg16"], "or --weights FILE it learnt nothing"),
        (["detect", "--model", "{lite}?weights=COCO_V1"], "--download fetches it"),
        (["detect", "--model", "{lite}?weights=a", "--weights", "b"], "leave out --weights b"),
        (["detect", "--model", "{lite}?weights_backbone=DEFAULT"], "its head has learnt nothing"),
        (["detect", "--model", "{detector}", "--weights", "w"], "leave out --weights"),
        (["detect", "--model", "{detector}", "--data", "voc:{tmp}:test"], "no JPEGImages in it"),
        (["detect", "--model", "{detector}", "--eps", "3"], "must be in [0,1]"),
        (["shift", "--source", "a", "--target", "b", "--model", "c", "--seed", "-1"], "seed must"),
        (
            ["shift", "--source", "a", "--target", "b", "--model", "c", "--images", "5"],
            "at least 8",
        ),
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
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    classifier = tmp_path / "c.safetensors"
    models.save(
        models.build("small", num_classes=3, in_channels=3, image_size=16, seed=0), classifier
    )
    names = {
        "classifier": classifier,
        "detector": adapted / "source-0.safetensors",
        "tmp": tmp_path,
        "lite": "torchvision:ssdlite320_mobilenet_v3_large",
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
    assert "are trained on with their labels and evaluated on" in capsys.readouterr().err
    flags[1] = everything
    assert main(["adapt", *flags, "--recipe", "source", "--seeds", "1", "--out", str(out)]) == 2
    assert not out.exists()


def test_images_of_joined_folders_are_known_one_by_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("A", "B")):
        write_shapes(ShapesConfig(style="comic", count=4, side=64, seed=number), tmp_path / name)
    flags, both = (
        [*SMALL, "--recipe", "source", "--seeds", "1"],
        f"{tmp_path / 'A'}+{tmp_path / 'B'}",
    )
    flags[1] = f"voc:{both}:train"
    flags += ["--source-test", f"voc:{tmp_path / 'B'}:train"]
    out = tmp_path / "out"
    assert main(["adapt", *flags, "--out", str(out)]) == 2
    assert "4 images, such as B/" in capsys.readouterr().err
    assert not out.exists()
    options = AdaptOptions(source=f"voc:{both}:train", target=f"voc:{both}")
    source, target = load_domains(options)
    assert len(source.train) == len(source.test) == len(target.test) == 8
    assert source.test.name == f"voc:{both}:test"


def test_the_target_needs_no_labels_and_the_oracle_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "clipart", tmp_path / "out"
    write_shapes(ShapesConfig(style="clipart", count=4, side=64), folder)
    for name in (folder / "ImageSets" / "Main" / "train.txt").read_text().split():
        (folder / "Annotations" / f"{name}.xml").unlink()
    flags = [*SMALL, "--seeds", "1"]
    flags[3] = f"voc:{folder}:train"
    assert main(["adapt", *flags, "--recipe", "oracle", "--out", str(out)]) == 2
    assert "No such file" in capsys.readouterr().err
    assert not out.exists()
    assert main(["adapt", *flags, "--recipe", "source,aligned", "--out", str(out)]) == 0


def test_an_image_that_cannot_be_read_is_named_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "photo", tmp_path / "out"
    write_shapes(ShapesConfig(style="photo", count=4, side=64), folder)
    for image in (folder / "JPEGImages").iterdir():
        image.write_bytes(image.read_bytes()[:-200])
    flags = [*SMALL, "--seeds", "1", "--recipe", "source"]
    flags[1] = f"voc:{folder}:train"
    assert main(["adapt", *flags, "--out", str(out)]) == 2
    err = capsys.readouterr().err
    assert "JPEGImages" in err
    assert "cannot be decoded as an image" in err
    assert not out.exists()


def test_a_source_without_objects_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "photo", tmp_path / "out"
    write_shapes(ShapesConfig(style="photo", count=4, side=64), folder)
    for file in (folder / "Annotations").iterdir():
        file.write_text("<annotation></annotation>")
    flags = [*SMALL, "--seeds", "1"]
    flags[1] = f"voc:{folder}:train"
    assert main(["adapt", *flags, "--out", str(out)]) == 2
    assert "no object in any image" in capsys.readouterr().err


def test_class_names_with_dollars_reach_the_report(tmp_path: Path) -> None:
    folder, out = tmp_path / "photo", tmp_path / "out"
    write_shapes(ShapesConfig(style="photo", count=8, side=64), folder)
    listed = folder / "classes.txt"
    first, *others = listed.read_text().split()
    listed.write_text("\n".join(["$\\foo$", *others]))
    for file in (folder / "Annotations").iterdir():
        file.write_text(file.read_text().replace(f"<name>{first}</name>", "<name>$\\foo$</name>"))
    flags = [*SMALL, "--seeds", "1", "--recipe", "source"]
    flags[1] = flags[3] = f"voc:{folder}:train"
    assert main(["adapt", *flags, "--out", str(out)]) == 0
    report = (out / "report.html").read_text()
    assert "foo$" in report
