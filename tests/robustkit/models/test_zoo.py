from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from robustkit.errors import ModelError
from robustkit.models import ZOO, build, cost
from tests.robustkit.models.counting import slow_macs

# Parameters at 3x32x32 and 10 classes; the least size of image.
FACTS = {
    "cnn3": (1_402, 12),
    "cnn6_2": (554_794, 22),
    "mobilenet": (3_217_226, 1),
    "resnet18": (11_173_962, 1),
    "resnet20": (269_722, 1),
    "small": (66_570, 8),
    "vgg3": (94_762, 8),
    "vgg5": (279_466, 8),
    "vgg11": (9_228_362, 32),
    "vgg16": (14_724_042, 32),
}


def test_every_net_of_the_zoo_is_checked_here() -> None:
    assert set(ZOO) == set(FACTS)


@pytest.mark.parametrize("name", FACTS)
def test_params_and_macs_are_exact(name: str) -> None:
    model = build(name, num_classes=10, in_channels=3, image_size=32, seed=0)
    counted = cost(model, (3, 32, 32))
    assert counted.params == FACTS[name][0]
    assert counted.params == sum(weight.numel() for weight in model.parameters())
    assert counted.macs == slow_macs(model, (3, 32, 32))


@pytest.mark.parametrize("name", FACTS)
def test_the_least_size_works_and_the_one_below_is_refused(name: str) -> None:
    least = FACTS[name][1]
    options: dict[str, Any] = {} if name in ("cnn3", "cnn6_2") else {"width": 2}
    model = build(name, num_classes=3, in_channels=1, image_size=least, **options).eval()
    assert model(torch.rand(2, 1, least, least)).shape == (2, 3)
    if least > 1:
        said = f"{name}: cannot take images of 1x{least - 1}x{least - 1} .* works is {least}$"
        with pytest.raises(ModelError, match=said):
            build(name, num_classes=3, in_channels=1, image_size=least - 1, **options)


def test_cnn3_has_the_922_parameters_of_its_paper() -> None:
    model = build("cnn3", num_classes=10, in_channels=1, image_size=28)
    assert cost(model, (1, 28, 28)).params == 922


@pytest.mark.parametrize(("classes", "kernels"), [(10, 553_824), (43, 570_720)])
def test_cnn6_2_has_the_kernel_weights_of_its_paper(classes: int, kernels: int) -> None:
    model = build("cnn6_2", num_classes=classes, in_channels=3, image_size=32)
    assert sum(weight.numel() for weight in model.parameters() if weight.dim() > 1) == kernels


def test_small_has_no_normalisation_and_few_weights() -> None:
    model = build("small", num_classes=10, in_channels=3, image_size=32)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
    assert cost(model, (3, 32, 32)).params < 100_000


def test_activations_keep_their_inputs_for_double_backward() -> None:
    for name in ZOO:
        model = build(name, num_classes=2, in_channels=1, image_size=32)
        assert not any(getattr(layer, "inplace", False) for layer in model.modules()), name


def test_the_zero_padded_shortcut_is_every_second_pixel_between_zeros() -> None:
    model = build("resnet20", num_classes=2, in_channels=1, image_size=8)
    shortcut = model.get_submodule("net.stage2.0.shortcut")
    x = torch.rand(1, 16, 8, 8)
    wanted = torch.zeros(1, 32, 4, 4)
    wanted[:, 8:24] = x[:, :, ::2, ::2]
    assert torch.equal(shortcut(x), wanted)


def test_a_wider_net_has_more_weights() -> None:
    narrow, wide = (
        build("resnet20", num_classes=2, in_channels=1, image_size=8, width=width)
        for width in (4, 8)
    )
    assert cost(narrow, (1, 8, 8)).params < cost(wide, (1, 8, 8)).params
    assert wide.card.architecture["options"] == {"width": 8}


def test_unknown_names_and_options_are_refused() -> None:
    site: dict[str, Any] = {"num_classes": 2, "in_channels": 1, "image_size": 32}
    with pytest.raises(ModelError, match="unknown model 'resnet21'; did you mean 'resnet20'"):
        build("resnet21", **site)
    with pytest.raises(ModelError, match="unknown option 'widht'; did you mean 'width'"):
        build("small", widht=8, **site)
    with pytest.raises(ModelError, match=r"'cnn6_2': unknown option 'width' \(it has none\)"):
        build("cnn6_2", width=8, **site)
    for value in (0, -1, "8", 8.0, True, 10**12):
        with pytest.raises(ModelError, match="'width' must be a whole number from 1 to 65536"):
            build("small", width=value, **site)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("width=", "expected NAME[?]OPTION=NUMBER"),
        ("width=\u00b2", "expected NAME[?]OPTION=NUMBER"),
        ("width=" + "9" * 5_000, "expected NAME[?]OPTION=NUMBER"),
        ("width=4&width=8", "option 'width' is given twice"),
        ("hidden=999999999999", "'hidden' must be a whole number from 1 to 65536"),
    ],
)
def test_options_written_badly_are_refused(written: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        build(f"vgg16?{written}", num_classes=2, in_channels=1, image_size=32)
