"""The page about Python, and that about models, run as written: on weights and photographs made
here, put where torchvision and the page look for them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from robustkit import data, models
from robustkit.attacks import predict
from tests.docs.evaluating import evaluate
from tests.docs.reading import ROOT, fenced

COUNT = 6


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torch's cache with a ResNet-50 of random weights in the place of the published ones."""
    home = tmp_path_factory.mktemp("torch")
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    url = torchvision.models.ResNet50_Weights.DEFAULT.url
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), folder / Path(url).name)
    return home


@pytest.fixture
def world(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the page takes for granted; half of the photographs are labelled wrongly."""
    monkeypatch.setenv("TORCH_HOME", str(hub))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Path("photos").mkdir()
    for number in range(COUNT):
        coarse = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8))
        coarse.resize((260, 230 + number)).save(f"photos/{number}.jpg")
    labels = [0] * COUNT
    for _ in range(2):  # with labels first, then with those that the model gives
        with Path("photos/labels.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["filename", "label"])
            rows.writerows([f"{number}.jpg", label] for number, label in enumerate(labels))
        opened = data.open_evaluation("images:photos?labels=labels.csv&size=224")
        pictures = opened.read(classes=tuple(map(str, range(1000))))
        model = models.load("torchvision:resnet50?weights=DEFAULT")
        said = predict(model, pictures.images).argmax(dim=1)
        labels = [
            int(each) if number % 2 else (int(each) + 1) % 1000 for number, each in enumerate(said)
        ]
    wrong = pictures.subset((said != pictures.labels).nonzero()[:, 0])
    assert len(wrong) == COUNT // 2
    return {
        "x": pictures.floats(torch.arange(2)),
        "y": pictures.labels[:2],
        "other": torchvision.models.squeezenet1_1(weights=None).eval(),
        "pics_wrong": wrong,
        "evaluate": evaluate,
    }


@pytest.mark.slow
def test_the_page_about_python_runs_as_written(world: dict[str, Any]) -> None:
    (block,) = fenced((ROOT / "docs" / "python.md").read_text(), "python")
    exec(compile(block, "docs/python.md", "exec"), world)  # noqa: S102 — a page of our own
    assert float((world["adv"] - world["x"]).abs().max()) <= 8 / 255 + 1e-6
    assert list(world["result"].by_eps) == [2 / 255, 4 / 255, 8 / 255]
    assert world["result"].clean.n == COUNT
    assert world["matrix"].rates("r50", "vit")["all"].n == COUNT
    assert {"layer3", "layer4"} <= {name.removeprefix("net.") for name in world["maps"]}
    assert isinstance(world["better"], models.Classifier)
    assert len(world["study"].trials) == 100
    best = {trial.values["accuracy"] for trial in world["study"].front}
    assert best == {max(trial.values["accuracy"] for trial in world["study"].trials)}


def test_the_page_about_models_runs_as_written(
    world: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for block in fenced((ROOT / "docs" / "models.md").read_text(), "python"):
        exec(compile(block, "docs/models.md", "exec"), world)  # noqa: S102 — as above
    assert capsys.readouterr().out.startswith("input 224x224, mean 0.485/0.456/0.406")
    made = world["make"]()
    assert made(torch.rand(1, 3, 64, 64)).shape == (1, 10)
