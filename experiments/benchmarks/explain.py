"""Maps beside Captum, grad-cam and zennit: same net, images and targets, the maps compared."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from experiments.benchmarks import maps
from experiments.benchmarks.maps import Setting
from experiments.benchmarks.peers import Peer, same_maps, same_sets, similar, versus
from experiments.benchmarks.record import Record, cost, speedup
from experiments.benchmarks.timing import timed
from robustkit import explain, models

BATCH, SIDE = 8, 224
LAYERS = ("relu", "layer1", "layer2", "layer3", "layer4")
# Maps that take many passes, on smaller images.
FEW, SMALLER, SAMPLES = 4, 112, 16
REGION, SMALL = 2, 28  # 14 x 14 = 196 regions, as the source has it


def records() -> Iterator[Record]:
    """A ResNet-18 and 8 images of 224 x 224, random both: time does not depend on what it knows."""
    torch.manual_seed(0)
    net = resnet18(num_classes=10).eval().requires_grad_(False)
    large = Setting(net, torch.rand(BATCH, 3, SIDE, SIDE), torch.arange(BATCH), LAYERS)
    few = Setting(net, torch.rand(FEW, 3, SMALLER, SMALLER), torch.arange(FEW), LAYERS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the peers
        yield from _passes(large)
        yield from _one_pass(large)
        yield from _many_passes(few)
        yield from _occlusion()


def _passes(setting: Setting) -> Iterator[Record]:
    """What sets of our own maps cost, in forward and backward passes to the input."""

    def plain() -> None:
        x = setting.images.clone().requires_grad_(True)
        torch.autograd.grad(setting.net(x).gather(1, setting.targets[:, None]).sum(), x)

    def with_cav() -> None:
        with setting.trace(LAYERS) as trace:
            explain.saliency(trace)
            explain.gradcam(trace)
            explain.cav(trace)

    def with_rules() -> None:
        with setting.trace(("input",)) as trace:
            explain.saliency(trace)
            for rule in explain.RELU_RULES:
                explain.rectified(trace, rule)

    works = {"ours": with_cav, "ours, four": with_rules, "forward and backward": plain}
    every, four, base = timed(works, rounds=7)
    yield cost("CAV and Grad-CAM at five layers, and saliency, in passes", every, base, at_most=1.2)
    yield cost("gradient, deconvnet, guided and guided-minus, in passes", four, base, at_most=3.0)


def _one_pass(setting: Setting) -> Iterator[Record]:
    """Maps of a pass or a few, each in the libraries that have it."""
    shown = f"{BATCH} images of {SIDE} x {SIDE}"
    yield from versus(
        "saliency",
        lambda: maps.saliency(setting),
        [
            Peer("Captum", "captum", partial(maps.captum_saliency, setting)),
            Peer("zennit", "zennit", partial(maps.zennit_saliency, setting)),
        ],
        same_maps,
        rounds=5,
        note=shown,
    )
    yield from versus(
        "guided backpropagation",
        lambda: maps.rectified(setting, "guided"),
        [
            Peer("Captum", "captum", partial(maps.captum_rectified, setting, "GuidedBackprop")),
            Peer("zennit", "zennit", partial(maps.zennit_rectified, setting, "GuidedBackprop")),
        ],
        same_maps,
        rounds=5,
        note=shown,
    )
    yield from versus(
        "Grad-CAM at the last layer, enlarged and scaled to [0,1]",
        lambda: maps.gradcam_enlarged(setting),
        [Peer("grad-cam", "pytorch_grad_cam", partial(maps.grad_cam, setting))],
        same_maps,
        rounds=5,
        note=shown,
    )
    yield from versus(
        "saliency, and Grad-CAM at five layers",
        lambda: maps.saliency_and_cams(setting),
        [Peer("Captum", "captum", partial(maps.captum_saliency_and_cams, setting))],
        same_sets,
        rounds=5,
        note=f"{shown}; Captum's Grad-CAM takes one layer at a time",
    )
    yield from versus(
        "contributions (activation times gradient) at five layers",
        lambda: maps.cavs(setting),
        [Peer("Captum", "captum", partial(maps.captum_contributions, setting))],
        same_sets,
        rounds=5,
        note=f"{shown}; ours are CAV, with biases and a check that all adds up to the score",
    )


def _many_passes(setting: Setting) -> Iterator[Record]:
    """Means over many gradients, the passes of all libraries on batches of the same size."""
    shown = f"{FEW} images of {SMALLER} x {SMALLER}"
    yield from versus(
        f"integrated gradients, {SAMPLES} steps of Gauss and Legendre",
        lambda: maps.integrated(setting, SAMPLES),
        [Peer("Captum", "captum", partial(maps.captum_integrated, setting, SAMPLES))],
        same_maps,
        rounds=5,
        note=shown,
    )
    yield from versus(
        f"SmoothGrad, {SAMPLES} samples",
        lambda: maps.smooth(setting, SAMPLES, seed=0),
        [
            Peer("Captum", "captum", partial(maps.captum_smooth, setting, SAMPLES)),
            Peer("zennit", "zennit", partial(maps.zennit_smooth, setting, SAMPLES)),
        ],
        similar(maps.smooth(setting, SAMPLES, seed=1)),
        rounds=5,
        note=shown,
    )


def _occlusion() -> Iterator[Record]:
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
        together = partial(_drops, net, image)
        apart = partial(_one_by_one, net, image, masks)
        ours, one_by_one = timed({"in batches": together, "one by one": apart}, rounds=5)
        what = f"occlusion of {len(masks)} regions, {name}"
        yield speedup(f"{what}: one by one", ours, one_by_one, at_least=bound)
        peer: Callable[[], Callable[[], Tensor]] = partial(
            maps.captum_occlusion, net, image, REGION, len(masks)
        )
        yield from versus(
            what,
            together,
            [Peer("Captum", "captum", peer)],
            same_maps,
            rounds=5,
            note="both in one batch; ours also says what flips the prediction",
        )


def _drops(net: nn.Module, image: Tensor) -> Tensor:
    return explain.occlusion(net, image, 0, region=REGION).drop


def _one_by_one(net: nn.Module, image: Tensor, masks: Tensor) -> None:
    with torch.no_grad():
        for mask in masks:
            net(image.masked_fill(mask, 0.0))
