"""`adapt` from end to end: every recipe, resumed, on several workers, on a folder in VOC layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaptation import detectors
from adaptation.adapt.result import Trained
from adaptation.evaluation import detect, evaluate
from robustkit import models
from robustkit.cli.main import main
from robustkit.data.detection import load_detection
from robustkit.data.detection.shapes import ShapesConfig, write_shapes
from tests.adaptation.commands.runs import RECIPES, SMALL, summary_of


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
            assert found["by_seed"][number]["target"]["coco_ap"] == pytest.approx(again.coco_ap)
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


def test_loaders_run_beside_workers_and_change_nothing(tmp_path: Path) -> None:
    found = {}
    for name, flags in (
        ("alone", ["--executor", "inline", "--workers", "1"]),
        ("beside", ["--executor", "processes", "--workers", "2", "--loader-workers", "2"]),
    ):
        told = [*SMALL[:-4], *flags, "--recipe", "source,free", "--seeds", "1"]
        augmented = ["--augment", "flip,photometric,iou_crop", "--out", str(tmp_path / name)]
        assert main(["adapt", *told, *augmented]) == 0
        found[name] = summary_of(tmp_path / name)["recipes"]["free"]["by_seed"]
        for recipe in ("source", "free"):
            file = tmp_path / name / f"{recipe}-0.safetensors"
            found[f"{name} {recipe}"] = detectors.digest(detectors.load(file))
    assert found["alone"] == found["beside"]
    for recipe in ("source", "free"):
        assert found[f"alone {recipe}"] == found[f"beside {recipe}"]


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
    from adaptation.adapt import pipeline as jobs

    out = tmp_path / "adapt"
    run = jobs.TrainRecipe.run

    def interrupted(job: jobs.TrainRecipe) -> Trained:
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
    source = detectors.load(out / "source-0.safetensors")
    assert source.card.parent == models.digest(body)
    model = detectors.load(out / "adabn-0.safetensors")
    assert model.card.parent == detectors.digest(source)
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
