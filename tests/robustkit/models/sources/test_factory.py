from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from robustkit import models
from robustkit.errors import ModelError

CODE = """
import torch
from torch import nn
from robustkit import models

def make(num_classes=3, width=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(width, num_classes))

def wrapped():
    return models.wrap(make(), mean=(0.5,) * 3, std=(0.25,) * 3, input_size=20,
                       classes=("a", "b", "c"))

def normalises(mean=0.0, std=1.0, input_size=5):
    net = make()
    net.told = (mean, std, input_size)
    return net

def needs(num_classes): return make(num_classes)
def softmax(): return nn.Sequential(make(), nn.Softmax(1))
def maps(): return nn.Conv2d(3, 3, 1)
def raises(): raise RuntimeError("no such\\nfile")
def nothing(): return None
def leaves(): raise SystemExit(0)
def fails(): return nn.Sequential(nn.Flatten(), nn.Linear(7, 3))

class Nan(nn.Module):
    def forward(self, x): return x.mean((2, 3)) / 0 * 0
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = tmp_path / "my_own_nets.py"
    path.write_text(textwrap.dedent(CODE))
    return str(path)


def test_a_factory_is_fed_pictures_as_they_are(file: str) -> None:
    """As the module alone sees them: nobody normalises for it."""
    model = models.load(f"{file}:make", input_shape=(3, 12, 10))
    x = torch.rand(2, 3, 12, 10)
    with torch.no_grad():
        assert torch.equal(model(x), model.net(x))
    trained = models.resolve(
        f"{file}:make",
        num_classes=3,
        in_channels=3,
        image_size=(12, 10),
        mean=(0.4,) * 3,
        std=(0.2,) * 3,
        seed=0,
    )
    with torch.no_grad():
        assert torch.equal(trained(x), trained.net(x))


def test_what_a_factory_wraps_keeps_its_preprocessing(file: str) -> None:
    model = models.load(f"{file}:wrapped")
    assert model.classes == ("a", "b", "c")
    x = torch.rand(2, 3, 20, 20)
    with torch.no_grad():
        torch.testing.assert_close(model(x), model.net((x - 0.5) / 0.25))


def test_options_reach_the_function(file: str) -> None:
    model = models.load(f"{file}:make?width=9&num_classes=5")
    assert model.net.get_parameter("0.weight").shape[0] == 9
    assert len(model.classes) == 5


def test_a_function_gets_the_options_it_has_parameters_for(file: str) -> None:
    model = models.load(f"{file}:normalises?mean=0.5&std=0.25&input_size=9")
    assert model.net.told == (0.5, 0.25, 9)
    assert not model.card.preprocessing.mean
    told = models.load(f"{file}:make?mean=0.5,0.5,0.5&std=0.2,0.2,0.2&input_size=30x20")
    assert told.card.preprocessing.mean == (0.5,) * 3
    assert told.card.preprocessing.input_size == (30, 20)


def test_a_saved_file_loads_with_trust_alone(file: str, tmp_path: Path) -> None:
    """The same logits as factory, as wrapped module and as saved file."""
    name = f"{file}:make"
    model = models.load(f"{name}?width=6")
    with torch.no_grad():
        model.net.get_parameter("0.weight").add_(0.1)
    path = tmp_path / "own.safetensors"
    models.save(model, path)
    with pytest.raises(ModelError, match=rf"own\.safetensors: .*--trust {name}") as error:
        models.load(path)
    assert "\n" not in str(error.value)
    again = models.load(path, trust=[name])
    x = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(again(x), model(x), atol=1e-6, rtol=0)
        torch.testing.assert_close(models.wrap(model.net)(x), model(x), atol=1e-6, rtol=0)
        named = models.load(f"{name}?width=6&weights={path}")
        torch.testing.assert_close(named(x), model(x), atol=1e-6, rtol=0)
    # One trusted function is not another.
    with pytest.raises(ModelError, match="--trust"):
        models.load(path, trust=[f"{file}:wrapped"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mak", "has no function 'mak'; did you mean 'make'"),
        ("make?widht=3", "takes no argument 'widht'; did you mean 'width'"),
        ("needs", r"needs 'num_classes'.*write .*\?num_classes=10"),
        ("softmax", "gives probabilities, which sum to 1, not logits"),
        ("maps", r"gives \(1, 3, 224, 224\) for one image, not logits"),
        ("raises", r"raises RuntimeError: no such file \(.*my_own_nets\.py:\d+\)"),
        ("leaves", "raises SystemExit: 0"),
        ("nothing", r"returns NoneType, not a torch\.nn\.Module"),
        ("fails", "its network cannot take images of 3x224x224"),
        ("Nan", "its logits are not finite numbers"),
    ],
)
def test_mistakes_are_one_line(file: str, name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said) as error:
        models.load(f"{file}:{name}")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no such file: .*gone\.py"):
        models.load(f"{tmp_path}/gone.py:make")


def test_a_file_that_does_not_run_says_where(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("x = 1\nraise ValueError('not today')\n")
    with pytest.raises(ModelError, match=r"raises ValueError: not today \(.*broken\.py:2\)"):
        models.load(f"{path}:make")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"just some text\n", "refused: damaged, or more than tensors"),
        (None, "refused: damaged, or more than tensors"),
        ({"0.weight": torch.ones(4, 3, 3, 3, dtype=torch.complex64)}, "holds complex numbers"),
        ({"0.weight": torch.ones(4, 3, 3, 3, dtype=torch.int64)}, "holds whole numbers"),
        ({"0.weight": torch.ones(4, 3, 3, 3).to_sparse()}, "holds sparse numbers"),
        ({"0.weight": torch.ones(4, 3, 3, 3, device="meta")}, "not a state dict"),
    ],
)
def test_weights_that_are_none_are_refused_in_a_line(
    file: str, tmp_path: Path, content: Any, said: str
) -> None:
    path = tmp_path / "w.pth"
    whole = models.load(f"{file}:make").net.state_dict()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is None:  # cut in half
        torch.save(whole, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        torch.save({**whole, **content}, path)
    with pytest.raises(ModelError, match=said) as error:
        models.load(f"{file}:make?weights={path}")
    assert "\n" not in str(error.value)
