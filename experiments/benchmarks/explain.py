"""Explanations in units of one forward and backward pass to the input, beside the peers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from experiments.benchmarks.timing import Claim, medians
from robustkit import explain, models

BATCH, SIDE = 8, 224
LAYERS = ("relu", "layer1", "layer2", "layer3", "layer4")
REGION, SMALL = 2, 28  # 14 x 14 = 196 regions, as the source has it


def claims() -> Iterator[Claim]:
    """A ResNet-18 and 8 images of 224 x 224, random both: time does not depend on what it knows."""
    torch.manual_seed(0)
    net = resnet18(num_classes=10).eval().requires_grad_(False)
    images, targets = torch.rand(BATCH, 3, SIDE, SIDE), torch.arange(BATCH)

    def plain() -> None:
        x = images.clone().requires_grad_(True)
        torch.autograd.grad(net(x).gather(1, targets[:, None]).sum(), x)

    def maps() -> None:
        with explain.trace(net, images, targets, LAYERS) as trace:
            explain.saliency(trace)
            explain.gradcam(trace)
            explain.cav(trace)

    def rules() -> None:
        with explain.trace(net, images, targets, ("input",)) as trace:
            explain.saliency(trace)
            for rule in explain.RELU_RULES:
                explain.rectified(trace, rule)

    base, all_maps, all_rules = medians(plain, maps, rules)
    shown = f"{1000 * base:.0f} ms"
    yield Claim(
        "CAV and Grad-CAM at five layers, and saliency: passes",
        all_maps / base,
        1.2,
        at_most=True,
        detail=f"one forward and backward {shown}",
    )
    yield Claim("gradient, deconvnet, guided, guided-minus: passes", all_rules / base, 3.0, True)
    yield from _peers(net, images, targets, plain)
    yield from _occlusion()


def _peers(
    net: nn.Module, images: Tensor, targets: Tensor, plain: Callable[[], None]
) -> Iterator[Claim]:
    """What the same maps cost elsewhere, each library in its own way, layer by layer."""
    from captum.attr import GuidedBackprop, LayerGradCam, Saliency
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlus

    modules = [net.get_submodule(name) for name in LAYERS]
    wanted = targets.tolist()

    def captum() -> None:
        Saliency(net).attribute(images, target=targets, abs=False)
        for module in modules:
            LayerGradCam(net, module).attribute(images, target=targets)

    def grad_cam() -> None:
        with GradCAM(model=net, target_layers=modules[-1:]) as cam:
            # The net's weights want no gradient, so the images must.
            shown = images.clone().requires_grad_(True)
            cam(shown, targets=[ClassifierOutputTarget(each) for each in wanted])

    def zennit() -> None:
        output = torch.eye(10)[targets]
        with Gradient(net, composite=EpsilonPlus()) as attributor:
            attributor(images, output)

    def guided() -> None:
        GuidedBackprop(net).attribute(images, target=targets)

    def ours_guided() -> None:
        with explain.trace(net, images, targets, ("input",)) as trace:
            explain.rectified(trace, "guided")

    def ours_cam() -> None:
        with explain.trace(net, images, targets, ("layer4",)) as trace:
            explain.gradcam(trace)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        works = (plain, captum, grad_cam, ours_cam, zennit, guided, ours_guided)
        base, *times = medians(*works, rounds=5)
    names = (
        "captum: saliency and Grad-CAM at five layers",
        "grad-cam: Grad-CAM at the last layer",
        "ours: Grad-CAM at the last layer",
        "zennit: LRP epsilon-plus to the input",
        "captum: guided backpropagation",
        "ours: guided backpropagation",
    )
    for name, seconds in zip(names, times, strict=True):
        yield Claim(f"{name}: passes", seconds / base, None, at_most=True)


def _occlusion() -> Iterator[Claim]:
    """196 regions of one image of 28 x 28, in batches and one forward pass each.

    A batch saves what a pass costs beside its arithmetic: most where layers are many and maps
    small, less where convolutions have much to do.
    """
    zoo: dict[str, Any] = {"num_classes": 10, "in_channels": 1, "image_size": SMALL, "seed": 0}
    nets: dict[str, tuple[nn.Module, int, float | None]] = {
        "cnn3": (models.build("cnn3", **zoo), 1, None),
        "torchvision's resnet18": (resnet18(num_classes=10), 3, 5.0),
        "resnet18?width=16": (models.build("resnet18?width=16", **zoo), 1, None),
    }
    for name, (net, channels, bound) in nets.items():
        net.eval()
        image = torch.rand(1, channels, SMALL, SMALL)
        masks = explain.occlusion_regions(image, REGION)

        def one_by_one(net: nn.Module = net, image: Tensor = image, masks: Tensor = masks) -> None:
            with torch.no_grad():
                for mask in masks:
                    net(image.masked_fill(mask, 0.0))

        def together(net: nn.Module = net, image: Tensor = image) -> None:
            explain.occlusion(net, image, 0, region=REGION)

        ours, apart = medians(together, one_by_one, rounds=5)
        yield Claim(
            f"occlusion of {len(masks)} regions, {name}: one by one in ours",
            apart / ours,
            bound,
            at_most=False,
            detail=f"{1000 * apart:.0f} and {1000 * ours:.0f} ms",
        )
