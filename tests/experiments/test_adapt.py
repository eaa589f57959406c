"""`adapt`, `detect` and `shift` from end to end, and what they say of mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adaptation import detectors
from adaptation.evaluation import detect, evaluate
from experiments.cli import main
from robustkit import models
from robustkit.data.detection import load_detection
from robustkit.data.shapes import ShapesConfig
from robustkit.data.shapes.write import write_shapes

RECIPES = "source,adversarial,aligned,teacher+free,oracle"
SMALL = [
    *("--source", "shapes:photo:16?side=64", "--target", "shapes:clipart:16?side=64"),
    *("--detector", "tiny_ssd?side=64&width=16", "--steps", "6", "--warmup", "2"),
    *("--batch-size", "4", "--judge-images", "4", "--judge-steps", "2", "--executor", "inline"),
    *("--workers", "1"),
]


def summary_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "adapt"
    assert main(["adapt", *SMALL, "--recipe", RECIPES, "--seeds", "2", "--out", str(out)]) == 0
    return out


def test_every_recipe_is_trained_and_judged_on_both_domains(adapted: Path) -> None:
    summary = summary_of(adapted)
    assert list(summary["recipes"]) == RECIPES.split(",")
    test = load_detection("shapes:clipart:16?side=64", "test")
    for name, found in summary["recipes"].items():
        assert found["seeds"] == 2
        assert found["steps"] == 6
        assert found["seconds"] > 0
        for number in range(2):
            model = detectors.load(adapted / f"{name}-{number}.safetensors")
            again = evaluate(detect(model, test), test.truths, test.classes)
            assert found["by_seed"][number]["target"]["coco_ap"] == pytest.approx(again["coco_ap"])
        for domain in ("source", "target"):
            each = found[domain]
            values = [run[domain]["ap50_area"] for run in found["by_seed"]]
            assert each["ap50_area"] == pytest.approx(np.mean(values))
            assert each["intervals"]["ap50_area"]["n"] == 2
            assert set(each["classes"]) == set(test.classes)
            assert 0 <= found[f"robust_{domain}_ap50"] <= 1
    gains = summary["recipes"]["adversarial"]["gain"]["target"]
    both = [summary["recipes"][name]["by_seed"] for name in ("adversarial", "source")]
    differences = [
        own["target"]["ap50_area"] - plain["target"]["ap50_area"]
        for own, plain in zip(*both, strict=True)
    ]
    assert gains["mean"] == pytest.approx(np.mean(differences))
    assert set(summary["shift"]) >= {"frechet", "within_source", "ratio", "advice"}
    page = (adapted / "report.html").read_text()
    assert page.count("data:image/png") == 3
    assert "8/255" in page
    assert "NaN" not in (adapted / "summary.json").read_text()


def test_recipes_start_from_the_sources_weights(adapted: Path) -> None:
    card = detectors.load(adapted / "adversarial-1.safetensors").card
    assert card.provenance["recipe"] == "adversarial"
    digests = {
        detectors.digest(detectors.load(adapted / f"{name}-{number}.safetensors"))
        for name in RECIPES.split(",")
        for number in range(2)
    }
    assert len(digests) == 10


def test_an_interrupted_adaptation_goes_on(
    adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.adapt import jobs

    out = tmp_path / "adapt"
    run = jobs.TrainRecipe.run

    def interrupted(job: jobs.TrainRecipe) -> dict[str, Any]:
        if job.recipe == "aligned" and job.number == 1:
            raise KeyboardInterrupt
        return run(job)

    monkeypatch.setattr(jobs.TrainRecipe, "run", interrupted)
    flags = ["adapt", *SMALL, "--recipe", RECIPES, "--seeds", "2", "--out", str(out)]
    assert main(flags) == 130
    monkeypatch.undo()
    assert main(["adapt", "--resume", str(out)]) == 0
    whole, resumed = summary_of(adapted), summary_of(out)
    for name, found in whole["recipes"].items():
        assert resumed["recipes"][name]["by_seed"] == found["by_seed"]
    assert resumed["shift"] == whole["shift"]
    assert main(["adapt", "--resume", str(out), "--steps", "9"]) == 2


def test_two_workers_give_what_one_gives(adapted: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapt"
    flags = [*SMALL[:-4], "--executor", "processes", "--workers", "2"]
    assert (
        main(["adapt", *flags, "--recipe", "source,aligned", "--seeds", "2", "--out", str(out)])
        == 0
    )
    whole, ours = summary_of(adapted)["recipes"], summary_of(out)["recipes"]
    for name, found in ours.items():
        assert found["by_seed"] == whole[name]["by_seed"]


def test_batch_norm_is_adapted_and_a_classifier_becomes_a_backbone(tmp_path: Path) -> None:
    body = models.build("vgg5?width=8", num_classes=4, in_channels=3, image_size=32, seed=0)
    models.save(body, tmp_path / "body.safetensors")
    flags = [*SMALL]
    flags[flags.index("--detector") + 1] = "tiny_fcos?side=64"
    out = tmp_path / "adapt"
    given = ["--backbone", str(tmp_path / "body.safetensors"), "--taps", "stage2,stage3"]
    assert (
        main(["adapt", *flags, *given, "--recipe", "adabn", "--seeds", "1", "--out", str(out)]) == 0
    )
    found = summary_of(out)["recipes"]
    assert found["adabn"]["steps"] == 0
    assert list(found) == ["source", "adabn"]
    model = detectors.load(out / "adabn-0.safetensors")
    assert model.card.architecture["taps"] == ["stage2", "stage3"]


def test_a_folder_as_clipart_lays_it_out_goes_through_it_all(tmp_path: Path) -> None:
    for name, style in (("VOC2007", "photo"), ("clipart", "comic")):
        write_shapes(ShapesConfig(style=style, count=6, side=64), tmp_path / name)
    out = tmp_path / "run"
    flags = [*SMALL]
    flags[1], flags[3] = f"voc:{tmp_path / 'VOC2007'}:train", f"voc:{tmp_path / 'clipart'}:train"
    assert main(["adapt", *flags, "--recipe", "aligned", "--seeds", "1", "--out", str(out)]) == 0
    data = f"voc:{tmp_path / 'clipart'}:all"
    model = str(out / "aligned-0.safetensors")
    judged = tmp_path / "detect"
    assert main(["detect", "--model", model, "--data", data, "--out", str(judged)]) == 0
    assert summary_of(judged)["images"] == 12


# ------------------------------------------------------------------------------------------ detect


def test_a_detector_is_judged_and_its_boxes_explained(adapted: Path, tmp_path: Path) -> None:
    out = tmp_path / "detect"
    flags = ["--data", "shapes:clipart:16?side=64", "--attack-images", "4", "--eps", "0.01,8/255"]
    model, other = (str(adapted / f"{name}-0.safetensors") for name in ("source", "adversarial"))
    run = ["detect", "--model", model, "--contrast", other, *flags, "--sure", "0"]
    assert main([*run, "--pictures", "2", "--out", str(out)]) == 0
    found = summary_of(out)
    plain = summary_of(adapted)["recipes"]["source"]["by_seed"][0]["target"]
    assert found["detector"]["ap50_11pt"] == pytest.approx(plain["ap50_11pt"])
    assert list(found["detector"]["robust_ap50"]) == ["0.01", "0.0313725490196"]
    with Image.open(out / "maps.png") as maps:
        assert maps.width > 7 * 100
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") == 2
    assert "within 8/255" in page


def test_the_score_of_a_box_is_the_detections(adapted: Path) -> None:
    import torch

    from experiments.detections.boxes import BoxScore
    from robustkit.data import to_unit
    from robustkit.errors import ExplainError

    model = detectors.load(adapted / "source-0.safetensors")
    image = to_unit(load_detection("shapes:photo:16?side=64", "test").image(1))
    (found,) = model([image])
    for number in range(3):
        score = BoxScore(model, image, found, number).eval()
        logits = score(image[None])
        assert logits.shape == (1, len(model.classes))
        label = int(found.labels[number])
        # SSD's score is a softmax over background and classes.
        with torch.no_grad():
            outputs = score._outputs(image[None])["cls_logits"].softmax(dim=-1)
        told = outputs[0, score.anchor, label + 1]
        assert float(told) == pytest.approx(float(found.scores[number]), abs=1e-5)
    two = detectors.build("tiny_fasterrcnn?side=64", model.classes, seed=0).eval()
    with pytest.raises(ExplainError, match="a detector of one stage"):
        BoxScore(two, image, found, 0)


# ------------------------------------------------------------------------------------------- shift


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
    assert "threshold 10" in said
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
    # The same images on both sides: halves that share some are nearer than halves that do not.
    assert 0 < summary_of(tmp_path / "s")["shift"]["ratio"] < 1


# --------------------------------------------------------------------------------------- mistakes


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


def test_published_weights_speak_the_datas_words(tmp_path: Path) -> None:
    import torch

    from experiments.detect.models import resolve_detector
    from robustkit.data.detection import SIX, VOC
    from robustkit.errors import ModelError

    name, cpu = "torchvision:ssdlite320_mobilenet_v3_large", torch.device("cpu")
    file = str(tmp_path / "coco.pth")
    published = detectors.build(name, detectors.coco_classes(), seed=0)
    torch.save(published.net.state_dict(), file)
    model = resolve_detector(name, file, VOC, cpu)
    assert set(VOC) <= set(model.classes)
    assert len(set(model.classes)) == 90
    assert not model.training
    own = detectors.build(name, SIX, seed=0)
    torch.save(own.net.state_dict(), file)
    assert resolve_detector(name, file, SIX, cpu).classes == SIX
    with pytest.raises(ModelError, match="neither for COCO's 91 classes nor for the data's 20"):
        resolve_detector(name, file, VOC, cpu)


def test_a_contrast_of_other_classes_is_refused(
    adapted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = load_detection("shapes:photo:16?side=64").classes[::-1]
    file = tmp_path / "turned.safetensors"
    detectors.save(detectors.build("tiny_ssd?side=64&width=16", turned, seed=0), file)
    model = str(adapted / "source-0.safetensors")
    out = tmp_path / "out"
    assert main(["detect", "--model", model, "--contrast", str(file), "--out", str(out)]) == 2
    assert "the same, in the same order" in capsys.readouterr().err
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
