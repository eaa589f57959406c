from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from robustkit.errors import ModelError
from robustkit.geometry import Geometry
from robustkit.models import (
    Classifier,
    Preprocess,
    Preprocessing,
    build,
    digest,
    load,
    reordered,
    resizing,
    save,
    wrap,
)
from robustkit.models.classifier import matched

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


class Recorder(nn.Module):
    """Keeps what it is fed; gives two logits."""

    def __init__(self) -> None:
        super().__init__()
        self.fed = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        self.fed = x.detach().clone()
        return x.mean(dim=(2, 3))[:, :2]


def smooth(count: int, height: int, width: int) -> Tensor:
    """Pictures without sharp edges, which no filter takes out of [0,1]: float (N,3,H,W)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    size = (height, width)
    return 0.2 + 0.6 * nn.functional.interpolate(coarse, size=size, mode="bilinear")


def test_a_wrapped_module_is_fed_what_its_own_pipeline_feeds_it() -> None:
    net = Recorder()
    x = torch.rand(4, 3, 9, 11)
    wrap(net, mean=MEAN, std=STD)(x)
    for channel in range(3):
        own = (x[:, channel] - MEAN[channel]) / STD[channel]
        torch.testing.assert_close(net.fed[:, channel], own)
    wrap(net)(x)
    assert torch.equal(net.fed, x)
    wrap(net, mean=MEAN, std=STD, channel_order="bgr")(x)
    torch.testing.assert_close(net.fed[:, 0], (x[:, 2] - MEAN[0]) / STD[0])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(16, 16), (10, 14), (40, 30)])
def test_resizing_inside_is_what_pil_does(interpolation: str, size: tuple[int, int]) -> None:
    """To what PIL rounds, half a level after each of its two passes, widened by bicubic's lobes."""
    net = Recorder()
    x = (smooth(2, 32, 32) * 255).round() / 255
    wrap(net, input_size=size, interpolation=interpolation)(x)
    for picture, fed in zip(x, net.fed, strict=True):
        pixels = (picture.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        filtered = Image.Resampling[interpolation.upper()]
        own = np.asarray(Image.fromarray(pixels).resize(size[::-1], filtered))
        there = torch.from_numpy(own.copy()).permute(2, 0, 1) / 255
        assert float((fed.clamp(0, 1) - there).abs().max()) < 1.25 / 255


def test_preprocessing_is_differentiable_and_linear() -> None:
    layer = Preprocess(
        Preprocessing(mean=MEAN, std=STD, input_size=(6, 5), interpolation="bicubic")
    ).double()
    x = torch.rand(2, 3, 9, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))
    with torch.no_grad():
        zero = layer(torch.zeros_like(x))
        torch.testing.assert_close(layer(2 * x) - zero, 2 * (layer(x) - zero))


def test_grey_pictures_are_shown_in_all_channels() -> None:
    net = Recorder()
    model = wrap(net, mean=MEAN, std=STD)
    x = torch.rand(2, 1, 4, 4)
    model(x)
    torch.testing.assert_close(net.fed[:, 2], (x[:, 0] - MEAN[2]) / STD[2])
    with pytest.raises(ModelError, match=r"float \(N, 3, any, any\)"):
        model(torch.rand(2, 2, 4, 4))


def test_pictures_of_the_right_size_are_not_touched() -> None:
    net = Recorder()
    x = torch.rand(2, 3, 7, 7)
    wrap(net, input_size=7)(x)
    assert torch.equal(net.fed, x)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mean": MEAN}, "3 means and 0 standard deviations"),
        ({"mean": MEAN, "std": (1.0, 1.0, 0.0)}, "std must be positive"),
        ({"mean": (float("nan"),), "std": (1.0,)}, "mean must be finite numbers"),
        ({"interpolation": "bicubik"}, "did you mean 'bicubic'"),
        ({"input_size": (0, 3)}, "input_size must be"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        replace(Preprocessing(), **changes)  # type: ignore[arg-type]


def test_wrapping_refuses_half_of_the_statistics_and_models() -> None:
    with pytest.raises(ModelError, match="mean and std are given together"):
        wrap(Recorder(), mean=MEAN)
    with pytest.raises(ModelError, match="a model already"):
        wrap(wrap(Recorder()))


def test_a_net_of_our_own_resizes_only_when_told() -> None:
    model = build("small", num_classes=3, in_channels=1, image_size=16, seed=0)
    x = torch.rand(2, 1, 20, 24)
    with pytest.raises(ModelError, match=r"\(N, 1, 16, 16\)"):
        model(x)
    resized = resizing(model, (20, 24))
    assert resized.notes == ("resizes pictures of 20x24 to 16x16 inside (bilinear)",)
    own = nn.functional.interpolate(x, size=(16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(resized.eval()(x), model.eval()(own))
    assert resizing(model, (16, 16)) is model
    assert digest(resized) != digest(model)


def test_a_plain_model_keeps_the_digest_it_had_before_preprocessing() -> None:
    """The caches of adversarials and the parents of patches name models by it."""
    model = build("cnn3", num_classes=4, in_channels=1, image_size=12, seed=3)
    with torch.no_grad():
        for name, tensor in model.net.state_dict().items():
            tensor.copy_(torch.full_like(tensor, len(name) / 100))
    # As it was written before there was any preprocessing but mean and std.
    was = "b9df7252de24252ece82817bc66ceda1816b1622a0a65eda66c7330bcad7f957"
    assert digest(model) == was


def test_geometry_is_advice_and_no_part_of_the_digest() -> None:
    net = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 2))
    plain = wrap(net, mean=MEAN, std=STD, input_size=8)
    advised = wrap(net, mean=MEAN, std=STD, input_size=8, geometry=Geometry((8, 8), 10))
    other = wrap(net, mean=MEAN, std=STD, input_size=9)
    assert digest(plain) == digest(advised) != digest(other)


def test_a_wrapped_model_is_saved_and_loads_with_its_module(tmp_path: Path) -> None:
    net = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 2))
    model = wrap(net, mean=MEAN, std=STD, input_size=8, classes=("cat", "dog"))
    path = tmp_path / "m.safetensors"
    save(model, path)
    with pytest.raises(ModelError, match=r"m\.safetensors: .*made in Python.*models\.load"):
        load(path)
    other = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 2))
    before = other.get_parameter("2.weight").detach().clone()
    again = load(path, net=other)
    x = torch.rand(3, 3, 11, 9)
    assert torch.equal(again(x), model(x))
    assert again.classes == ("cat", "dog")
    # The given module is left as it was.
    assert torch.equal(other.get_parameter("2.weight"), before)


def _named(*classes: str) -> Classifier:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, len(classes)))
    return wrap(net, classes=classes, mean=MEAN, std=STD)


def test_classes_are_matched_by_name() -> None:
    model = _named("ant", "bee", "cow")
    x = torch.rand(5, 3, 2, 2)
    turned = matched(model, ("cow", "ant", "bee"), "m", "data")
    assert torch.equal(turned(x), model(x)[:, [2, 0, 1]])
    assert turned.classes == ("cow", "ant", "bee")
    assert turned.notes == ("classes matched by name: the data has them in another order",)
    assert digest(turned) != digest(model)
    assert matched(model, ("ant", "bee", "cow"), "m", "data") is model
    with pytest.raises(ModelError, match="not those asked for"):
        reordered(model, ("ant", "bee", "dog"))


def test_classes_without_names_are_matched_by_index() -> None:
    model = _named("ant", "bee", "cow")
    x = torch.rand(5, 3, 2, 2)
    by_index = matched(model, ("0", "1", "2"), "m", "data")
    assert torch.equal(by_index(x), model(x))
    assert "matched by index" in by_index.notes[0]
    many = [f"kind {number}" for number in range(18)]
    large = _named("ant", "bee", *many)
    close = matched(large, ("Ant", "bee, honey", *many[:-1], "calf"), "m", "data")
    assert "1 of 20 names differ, as 'kind 17' and 'calf'" in close.notes[0]


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("ant", "bee"), "m: its classes are ant, bee, cow, those of data ant, bee"),
        (("dog", "eel", "fox"), "m: its classes are ant, bee, cow, those of data dog, eel, fox"),
        (("ant", "bee", "calf"), "m: its classes are ant, bee, cow, those of data ant, bee, calf"),
        (("bee", "ant", "calf"), "class 'ant' is number 0 of the model and number 1 of data"),
    ],
)
def test_other_classes_are_refused(classes: tuple[str, ...], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        matched(_named("ant", "bee", "cow"), classes, "m", "data")


def test_views_of_a_model_leave_the_modes_of_its_modules() -> None:
    """A batch norm that is frozen stays so, however the module is wrapped and matched."""
    net = nn.Sequential(
        nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    net.train()
    net[1].eval()
    model = wrap(net, mean=MEAN, std=STD, input_size=8, classes=("cat", "dog"))
    for view in (model, matched(model, ("dog", "cat")), resizing(model, (9, 9))):
        assert view.training
        assert not net[1].training


def test_one_net_in_two_pixel_spaces_is_one_net() -> None:
    """Where it resizes by itself, the size of the pictures is not the net's."""
    own = Preprocessing(mean=MEAN, std=STD, input_size=(8, 8))
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    plain = wrap(net, mean=MEAN, std=STD, input_size=8)
    moved = Classifier(net, replace(plain.card, input_shape=(3, 20, 30), preprocessing=own))
    assert digest(moved) == digest(plain)
