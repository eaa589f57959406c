"""Real photographs through models that nobody here made, against those models' own pipeline.

The photographs lie in `$ROBUSTKIT_DATA/imagenet1000`; without them these tests are skipped.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from robustkit import data, evaluation, models
from robustkit.attacks import predict
from robustkit.cli.main import main
from tests import lite

FOLDER = Path(os.environ.get("ROBUSTKIT_DATA", "")) / "imagenet1000"
FACTORIES = {0: "lite0", 1: "lite1", 2: "lite2"}

pytestmark = pytest.mark.skipif(
    not (FOLDER / "labels.csv").is_file(), reason="no imagenet1000 in $ROBUSTKIT_DATA"
)


def rows(step: int) -> list[dict[str, str]]:
    """Every so many rows of the label file."""
    with (FOLDER / "labels.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))[::step]


def label_file(path: Path, step: int) -> str:
    """The spec of the photographs in those rows."""
    with path.open("w", newline="") as file:
        chosen = rows(step)
        written = csv.DictWriter(file, list(chosen[0]))
        written.writeheader()
        written.writerows(chosen)
    return f"images:{FOLDER / 'images'}?labels={path}"


def own_pictures(number: int, step: int) -> Tensor:
    """What the package's readers feed the net: shorter side to input + 32, bicubic, centre crop,
    mean 0.498 and standard deviation 0.502; written here without any code of ours."""
    side, made = lite.SIDES[number], []
    for row in rows(step):
        picture = Image.open(FOLDER / "images" / row["filename"]).convert("RGB")
        picture = TF.resize(picture, [side + 32], InterpolationMode.BICUBIC, antialias=True)
        made.append(TF.normalize(TF.to_tensor(TF.center_crop(picture, [side])), [0.498], [0.502]))
    return torch.stack(made)


@torch.no_grad()
def own_logits(number: int, step: int) -> Tensor:
    net = lite.trained(number)
    return torch.cat([net(part) for part in torch.split(own_pictures(number, step), 25)])


def our_pictures(model: models.Classifier, spec: str) -> data.ImageSet:
    opened = data.open_evaluation(spec)
    geometry = model.card.preprocessing.geometry
    return opened.read(geometry=geometry, classes=tuple(map(str, range(1000))))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_each_net_sees_photographs_as_its_own_code_shows_them(number: int, tmp_path: Path) -> None:
    model = models.load(f"tests.lite:{FACTORIES[number]}")
    pictures = our_pictures(model, label_file(tmp_path / "labels.csv", 100))
    with torch.no_grad():
        fed = model.preprocess(pictures.floats())
    torch.testing.assert_close(fed, own_pictures(number, 100), atol=1e-6, rtol=0)
    logits = predict(model, pictures.images)
    torch.testing.assert_close(logits, own_logits(number, 100), atol=1e-4, rtol=1e-4)


def test_every_way_to_name_a_net_gives_the_same_logits(tmp_path: Path) -> None:
    """As a factory, as a factory that normalises itself, wrapped, and as a saved file."""
    factory = models.load("tests.lite:lite0")
    pictures = our_pictures(factory, label_file(tmp_path / "labels.csv", 250)).images
    logits = predict(factory, pictures)
    saved = tmp_path / "lite0.safetensors"
    models.save(factory, saved)
    others = {
        "wrapped": models.wrap(lite.trained(0), mean=lite.MEAN, std=lite.STD, input_size=224),
        "by itself": models.load("tests.lite:own0"),
        "from its file": models.load(f"{Path(lite.__file__)}:lite0"),
        "saved": models.load(saved, trust=["tests.lite:lite0"]),
    }
    for name, model in others.items():
        difference = float((predict(model, pictures) - logits).abs().max())
        assert difference <= 1e-6 * float(logits.abs().max()), name


@pytest.mark.slow
def test_175_of_200_photographs_are_recognised(tmp_path: Path) -> None:
    """By the command and from Python, as the net's own pipeline has it."""
    spec = label_file(tmp_path / "labels.csv", 5)
    labels = torch.tensor([int(row["label"]) for row in rows(5)])
    assert int((own_logits(0, 5).argmax(dim=1) == labels).sum()) == 175
    model = models.load("tests.lite:lite0")
    found = evaluation.accuracy(model, our_pictures(model, spec))
    assert (found.value, found.n) == (175 / 200, 200)
    flags = ["--attack", "fgsm", "--eps", "1/255", "--probe", "0", "--device", "cpu"]
    out = tmp_path / "run"
    named = ["attack", "--model", "lite0=tests.lite:lite0", "--data", spec, *flags]
    assert main([*named, "--out", str(out)]) == 0
    told = json.loads((out / "summary.json").read_text())["models"]["lite0"]
    assert told["clean"]["rate"] == 175 / 200
    assert told["warnings"] == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 2])
def test_all_photographs_get_the_predictions_of_the_nets_own_code(
    number: int, tmp_path: Path
) -> None:
    model = models.load(f"tests.lite:{FACTORIES[number]}")
    pictures = our_pictures(model, label_file(tmp_path / "labels.csv", 1))
    ours = predict(model, pictures.images).argmax(dim=1)
    assert torch.equal(ours, own_logits(number, 1).argmax(dim=1))
