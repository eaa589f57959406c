"""`detect` from end to end, and what a detected box rests on."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from adaptation import detectors
from robustkit.cli.main import main
from robustkit.data.detection import load_detection
from tests.adaptation.commands.runs import summary_of


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

    from adaptation.report.pictures import BoxScore
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
        assert float(told) == pytest.approx(float(found.scores[number].detach()), abs=1e-5)
    two = detectors.build("tiny_fasterrcnn?side=64", model.classes, seed=0).eval()
    with pytest.raises(ExplainError, match="a detector of one stage"):
        BoxScore(two, image, found, 0)


def test_published_weights_speak_the_datas_words(tmp_path: Path) -> None:
    import torch

    from adaptation.detectors.resolve import resolve_detector
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
