from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from robustkit.errors import ModelError
from robustkit.models import build, cost, digest, resolve, save

SITE: dict[str, Any] = {"num_classes": 3, "in_channels": 1, "image_size": 8}
LINEAR = """
from torch import nn

def make(num_classes, image_size, in_channels=1):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))

def anything(**site):
    return make(**site)

def fixed():
    return make(3, 8)

def picky(depth, num_classes):
    return None

def nothing(num_classes):
    return None

def tuples():
    class Twice(nn.Module):
        def forward(self, x):
            return x, x
    return Twice()

def wide():
    return make(7, 8)

def large():
    return make(3, 9)

NUMBER = 5
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an importable module of factories; a fresh one per test."""
    name = f"mine_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(LINEAR)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_name_of_the_zoo() -> None:
    model = resolve("small", **SITE, classes=("a", "b", "c"), mean=(0.2,), std=(0.1,), seed=4)
    again = build("small", **SITE, mean=(0.2,), std=(0.1,), seed=4)
    assert digest(model) == digest(again)
    assert model.card.classes == ("a", "b", "c")


def test_a_model_file(tmp_path: Path) -> None:
    model = build("small", **SITE, seed=0)
    path = tmp_path / "m.safetensors"
    save(model, path)
    assert digest(resolve(str(path), **SITE)) == digest(model)
    with pytest.raises(ModelError, match="has 3 classes, the data 4"):
        resolve(str(path), num_classes=4, in_channels=1, image_size=8)
    with pytest.raises(ModelError, match="takes images of shape"):
        resolve(str(path), num_classes=3, in_channels=1, image_size=16)
    with pytest.raises(ModelError, match="has its own weights"):
        resolve(str(path), **SITE, weights=path)


@pytest.mark.parametrize("factory", ["make", "anything", "fixed"])
def test_a_factory_is_given_what_it_asks_for(mine: str, factory: str) -> None:
    model = resolve(f"{mine}:{factory}", **SITE, seed=1)
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 3)
    assert model.card.architecture == {"family": "factory", "factory": f"{mine}:{factory}"}
    assert (model.card.mean, model.card.std) == ((0.0,), (1.0,))


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("mak", "has no function 'mak'; did you mean 'make'"),
        ("NUMBER", "has no function 'NUMBER'"),
        ("picky", "needs the argument 'depth'"),
        ("nothing", "returns NoneType, not a torch.nn.Module"),
        ("tuples", "gives tuple, not a tensor of logits"),
        ("wide", r"gives \(1, 7\) for one image, not logits \(1, 3\)"),
        ("large", "its network cannot take images of 1x8x8"),
    ],
)
def test_a_factory_that_does_not_fit_is_refused(mine: str, factory: str, said: str) -> None:
    with pytest.raises(ModelError, match=f"{mine}:{factory}: .*{said}"):
        resolve(f"{mine}:{factory}", **SITE)


def test_a_module_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no\.such:make: cannot import 'no\.such'"):
        resolve("no.such:make", **SITE)
    with pytest.raises(ModelError, match="cannot import ''"):
        resolve(":make", **SITE)


def test_modules_are_looked_for_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text(LINEAR)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [])
    assert resolve("only_here:make", **SITE)


def test_a_classifier_of_torchvision_in_grey() -> None:
    site: dict[str, Any] = {"num_classes": 3, "in_channels": 1, "image_size": 32}
    model = resolve("torchvision:squeezenet1_1", **site, seed=0).eval()
    x = torch.rand(2, 1, 32, 32)
    assert model(x).shape == (2, 3)
    inner = model.get_submodule("net.net")
    normal = (x.expand(-1, 3, -1, -1) - model.card.mean[0]) / model.card.std[0]
    torch.testing.assert_close(model(x), inner(normal))
    assert cost(model, (1, 32, 32)).params == sum(w.numel() for w in model.parameters())


def test_colour_is_normalised_as_torchvisions_weights_expect() -> None:
    model = resolve("torchvision:squeezenet1_1", num_classes=2, in_channels=3, image_size=32)
    assert model.card.mean == (0.485, 0.456, 0.406)


def test_what_torchvision_cannot_do_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no classifier 'resnet81'; .*resnet18"):
        resolve("torchvision:resnet81", **SITE)
    with pytest.raises(ModelError, match="no classifier 'fasterrcnn_resnet50_fpn'"):
        resolve("torchvision:fasterrcnn_resnet50_fpn", **SITE)
    with pytest.raises(ModelError, match="images of 1 or 3 channels, not 4"):
        resolve("torchvision:resnet18", num_classes=2, in_channels=4, image_size=32)
    with pytest.raises(ModelError, match=r"3x8x8 .*the least size that works is 17"):
        resolve("torchvision:squeezenet1_1", num_classes=2, in_channels=3, image_size=8)


WRITERS: dict[str, Callable[[nn.Module, Path], None]] = {
    "state dict": lambda net, path: torch.save(net.state_dict(), path),
    "nested": lambda net, path: torch.save({"state_dict": net.state_dict(), "epoch": 3}, path),
    "parallel": lambda net, path: torch.save(
        {f"module.{name}": value for name, value in net.state_dict().items()}, path
    ),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_weights_of_ones_own(tmp_path: Path, kind: str) -> None:
    trained = build("small", **SITE, seed=1)
    path = tmp_path / "weights.pt"
    WRITERS[kind](trained.net, path)
    assert digest(resolve("small", **SITE, weights=path)) == digest(trained)


def test_weights_from_a_model_file(tmp_path: Path) -> None:
    trained = build("small", **SITE, seed=1)
    save(trained, tmp_path / "m.safetensors")
    model = resolve("small", **SITE, weights=tmp_path / "m.safetensors", seed=2)
    assert digest(model) == digest(trained)


class _Trap:
    """Writes a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.write_text, (self.target, "sprung")


def test_pickled_code_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"w": _Trap(tmp_path / "sprung")}, tmp_path / "trap.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(_Trap(tmp_path / "sprung")))
    torch.save(build("small", **SITE).net, tmp_path / "whole.pt")
    for name in ("trap.pt", "raw.pt", "whole.pt"):
        with pytest.raises(ModelError, match=rf"{name}: refused: .*save net\.state_dict"):
            resolve("small", **SITE, weights=tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file of weights"):
        resolve("small", **SITE, weights=tmp_path / "absent.pt")
    (tmp_path / "noise.pt").write_bytes(bytes(range(256)))
    with pytest.raises(ModelError, match=r"noise\.pt: refused: damaged"):
        resolve("small", **SITE, weights=tmp_path / "noise.pt")
    (tmp_path / "noise.safetensors").write_bytes(bytes(range(256)))
    with pytest.raises(ModelError, match=r"noise\.safetensors: damaged"):
        resolve("small", **SITE, weights=tmp_path / "noise.safetensors")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ModelError, match=r"list\.pt: not a state dict"):
        resolve("small", **SITE, weights=tmp_path / "list.pt")
    torch.save(build("small", **SITE, width=2).net.state_dict(), tmp_path / "narrow.pt")
    with pytest.raises(ModelError, match=r"narrow\.pt: does not fit .*'stage1.0.weight' has shape"):
        resolve("small", **SITE, weights=tmp_path / "narrow.pt")


def test_options_are_for_the_zoo_alone() -> None:
    with pytest.raises(ModelError, match="only networks of the zoo take options, so not: width"):
        build("torchvision:resnet18", **SITE, width=3)
