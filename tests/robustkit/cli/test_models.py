"""How a command brings models and pictures together: classes, sizes, weights, what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from robustkit import models
from robustkit.cli.inputs import load_models, measure_clean_accuracy
from robustkit.cli.main import main

SETTINGS: dict[str, Any] = {
    "split": None,
    "test_size": None,
    "seed": 0,
    "root": None,
    "download": False,
    "weights": [],
    "trust": [],
}
CODE = """
import torch
from torch import nn
from robustkit import models
from robustkit.geometry import Geometry

class Few(nn.Module):
    '''Takes four pictures at a time.'''
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 4)
    def forward(self, x):
        if len(x) > 4:
            raise torch.OutOfMemoryError("out of memory")
        return self.head(x.mean(dim=(2, 3)))

def named():
    torch.manual_seed(0)
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    return models.wrap(net, mean=(0.5,) * 3, std=(0.2,) * 3, input_size=12,
                       classes=("ant", "bee", "cow", "dog"), geometry=Geometry((12, 12), 14))

def few(): return Few()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photographs of different sizes, four label files and the code of two nets."""
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(CODE)
    rng = np.random.default_rng(0)
    Path("photos").mkdir()
    for number in range(6):
        pixels = rng.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"photos/{number}.png")
    labels = [0, 2, 0, 2, 3, 3]
    words = ["ant", "cow", "ant", "cow", "dog", "dog"]
    tables: dict[str, tuple[str, list[str]]] = {
        "numbers": ("label", [str(label) for label in labels]),
        "words": ("label", words),
        "named": ("label,name", [f"{n},{w}" for n, w in zip(labels, words, strict=True)]),
        "shifted": ("label,name", [f"{n + 1},{w}" for n, w in zip([0, 1, 0, 1, 2, 2],
                                                                  words, strict=True)]),
        "beyond": ("label", list("020234")),
    }  # fmt: skip
    for name, (header, rows) in tables.items():
        lines = [f"filename,{header}", *(f"{n}.png,{row}" for n, row in enumerate(rows))]
        Path(f"photos/{name}.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def judged(labels: str, *specs: str) -> object:
    data = f"images:photos?labels={labels}.csv"
    return load_models({**SETTINGS, "data": data}, {spec: spec for spec in specs})


@pytest.mark.parametrize("labels", ["numbers", "words", "named"])
def test_labels_become_the_models_classes(here: Path, labels: str) -> None:
    """Numbers by index; names by name, also where the pictures show some classes alone."""
    found = load_models(
        {**SETTINGS, "data": f"images:photos?labels={labels}.csv"}, {"net": "nets.py:named"}
    )
    assert found.images.classes == ("ant", "bee", "cow", "dog")
    assert found.images.labels.tolist() == [0, 2, 0, 2, 3, 3]
    assert found.images.shape == (3, 12, 12)
    assert any("first model's" in line for line in found.lines())


def test_labels_that_mean_something_else_are_refused(here: Path) -> None:
    from robustkit.errors import DataError

    with pytest.raises(DataError, match="label 1 is called 'ant', which is number 0 of the model"):
        judged("shifted", "nets.py:named")
    with pytest.raises(DataError, match="labels go up to 4, but the model has 4 classes"):
        judged("beyond", "nets.py:named")


def test_a_batch_that_does_not_fit_is_halved_and_said(here: Path) -> None:
    found = load_models(
        {**SETTINGS, "data": "images:photos?labels=numbers.csv&size=12"}, {"few": "nets.py:few"}
    )
    said: list[str] = []
    told = measure_clean_accuracy(found, torch.device("cpu"), None, said.append)
    assert told["few"].clean.n == 6
    assert any("did not fit" in line and "few" in line for line in said)


def test_weights_go_to_those_that_have_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A spec with weights of its own is passed over; the nearest mistake is a line."""
    state = models.load("nets.py:named").net.state_dict()
    torch.save({name: each + 1 for name, each in state.items()}, "w.pth")
    found = load_models(
        {**SETTINGS, "data": "images:photos?labels=numbers.csv", "weights": ["w.pth"]},
        {"own": "nets.py:named?weights=w.pth", "given": "nets.py:named"},
    )
    assert models.digest(found.nets["own"]) == models.digest(found.nets["given"])
    flags = ["--data", "images:photos?labels=numbers.csv", "--weights", "w.pth", "w.pth"]
    assert main(["attack", "--model", "nets.py:named", *flags]) == 2
    assert "--weights w.pth: no model left" in capsys.readouterr().err
