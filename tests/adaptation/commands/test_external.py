"""`adapt` and `detect` with weights and backbones that other people trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adaptation import detectors
from adaptation.adapt import AdaptOptions, make_detector
from adaptation.detectors.norms import BATCH
from adaptation.detectors.published import WEIGHTS, Start, published
from robustkit import models
from robustkit.cli.main import main
from robustkit.data.detection.shapes import ShapesConfig, write_shapes
from robustkit.errors import ModelError
from tests.adaptation import factories
from tests.adaptation.commands.runs import SMALL, summary_of
from tests.adaptation.test_pretrained import random_state

LITE = "torchvision:ssdlite320_mobilenet_v3_large"
LITE0, BRANCHING = (f"tests.adaptation.factories:{name}" for name in ("lite0", "branching"))
TINY = [*SMALL, "--judge-images", "1", "--judge-steps", "1", "--seeds", "1"]


def with_flags(**changed: str) -> list[str]:
    flags = [*TINY]
    for name, value in changed.items():
        flags[flags.index(f"--{name.replace('_', '-')}") + 1] = value
    return flags


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Rendered shapes in VOC layout, the first class called as one of COCO's."""
    folder = tmp_path / "photo"
    write_shapes(ShapesConfig(style="photo", count=6, side=64), folder)
    first, *others = (folder / "classes.txt").read_text().split()
    (folder / "classes.txt").write_text("\n".join(["person", *others]))
    for file in (folder / "Annotations").iterdir():
        file.write_text(file.read_text().replace(f"<name>{first}</name>", "<name>person</name>"))
    return folder


@pytest.mark.slow
def test_a_detector_of_coco_is_evaluated_and_trained_further(
    people: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    hub = tmp_path / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    with torch.device("meta"):
        net = published(LITE.partition(":")[2], 90, Start(WEIGHTS, BATCH))
    state = random_state(net)
    torch.save(state, hub / "ssdlite320_mobilenet_v3_large_coco-a79551df.pth")
    voc = f"voc:{people}:train"
    flags = with_flags(source=voc, target=voc, detector=f"{LITE}?weights=COCO_V1", steps="2")
    out = tmp_path / "adapted"
    assert main(["adapt", *flags, "--recipe", "longer", "--out", str(out)]) == 0
    note = "head exchanged: 91 COCO classes -> 6 classes of the data; 1 of 6 classes keep their"
    assert note in capsys.readouterr().out
    assert any(note in each for each in summary_of(out)["notes"])
    assert "91 COCO classes -&gt; 6" in (out / "report.html").read_text()
    trained = detectors.load(out / "longer-0.safetensors")
    assert trained.card.provenance["weights"] == "COCO_V1"
    assert any(note in each for each in trained.notes)
    moved = trained.net.state_dict()
    changed = [key for key in state if not torch.equal(moved[key], state[key])]
    assert any(key.startswith("backbone.") for key in changed)
    judged = tmp_path / "judged"
    flags = ["--data", f"voc:{people}:test", "--eps", "0", "--pictures", "1", "--out", str(judged)]
    assert main(["detect", "--model", f"{LITE}?weights=COCO_V1", *flags]) == 0
    said = capsys.readouterr().out
    assert "weights: COCO_V1, trained on COCO" in said
    assert "not evaluated, as the detector does not know them: " in said
    summary = summary_of(judged)
    assert len(summary["left_out"]) == 5
    assert len(summary["classes"]) == 90
    assert summary["detector"]["notes"] == ["weights: COCO_V1, trained on COCO"]
    assert "classes that the detector does not know" in (judged / "report.html").read_text()


@pytest.mark.parametrize(
    ("factory", "taps"),
    [
        (f"{BRANCHING}?num_classes=5", ["stem", "first", "second"]),
        pytest.param(LITE0, ["_blocks.2", "_blocks.4", "_blocks.10"], marks=pytest.mark.slow),
    ],
)
def test_a_factorys_net_is_the_backbone_and_its_code_is_run_only_where_it_is_named(
    factory: str, taps: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    flags = with_flags(detector="tiny_ssd?side=64", steps="2")
    named, function = ["--backbone", factory], factory.partition("?")[0]
    run = ["adapt", *flags, *named, "--recipe", "source", "--out", str(out)]
    assert main(run) == 0
    note = f"backbone: {factory}, with the weights that its function gives it"
    assert note in capsys.readouterr().out
    assert summary_of(out)["notes"][0] == note
    model = detectors.load(out / "source-0.safetensors", trust=[function])
    assert model.card.architecture["taps"] == taps
    assert (out / "report.html").read_text().count("data:image/png") == 3
    # From here on nothing names the function but the folder.
    count = len(factories.CALLED)
    file = str(out / "source-0.safetensors")
    shapes = "shapes:clipart:8?side=64"
    for command in (
        ["detect", "--model", file, "--data", shapes, "--out", str(tmp_path / "no")],
        ["shift", "--model", file, "--source", shapes, "--target", shapes],
    ):
        assert main(command) == 2
        assert f"if you trust it: --trust {function}" in capsys.readouterr().err
    assert main(["adapt", "--resume", str(out)]) == 2
    assert f"give --backbone {factory} again" in capsys.readouterr().err
    assert main(["report", str(out)]) == 0
    assert "is run only where it is named" in (out / "report.html").read_text()
    assert len(factories.CALLED) == count
    assert main(["adapt", "--resume", str(out), *named]) == 0
    assert (out / "report.html").read_text().count("data:image/png") == 3
    judged = ["--data", shapes, "--eps", "0", "--pictures", "0", "--trust", function]
    assert main(["detect", "--model", file, *judged, "--out", str(tmp_path / "yes")]) == 0


def test_a_backbone_that_nobody_trained_is_allowed_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    flags = with_flags(detector="tiny_ssd?side=64", steps="0")
    flags += ["--backbone", "vgg5?width=8", "--taps", "stage2,stage3", "--recipe", "source"]
    assert main(["adapt", *flags, "--out", str(out)]) == 0
    said = "backbone: vgg5?width=8 has fresh weights, not trained"
    assert said in capsys.readouterr().out
    assert summary_of(out)["notes"] == [said]


def test_a_saved_net_of_a_factory_is_a_backbone_where_its_function_is_trusted(
    tmp_path: Path,
) -> None:
    body = models.build(BRANCHING, num_classes=5, in_channels=3, image_size=64, seed=3)
    file = str(tmp_path / "body.safetensors")
    models.save(body, file)
    count = len(factories.CALLED)
    options = AdaptOptions(detector="tiny_ssd?side=64", backbone=file)
    with pytest.raises(ModelError, match=f"{BRANCHING}.*trust"):
        make_detector(options, ("a", "b"), 0)
    assert len(factories.CALLED) == count
    made = make_detector(replace(options, trust=(BRANCHING,)), ("a", "b"), 0)
    assert made.card.parent == models.digest(body)
    own = made.net.get_submodule("backbone.net").state_dict()
    assert all(torch.equal(own[name], each) for name, each in body.net.state_dict().items())
