"""Maps beside Captum, grad-cam and zennit: same net, images and targets, the maps compared."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from experiments.benchmarks.peers import Peer, same_maps, same_sets, similar, versus
from experiments.benchmarks.record import Record, cost, speedup
from experiments.benchmarks.timing import timed
from robustkit import explain, models
from robustkit.explain import Trace

Work = Callable[[], Tensor]
SPREAD = 0.15  # of SmoothGrad's noise, in units of the image's range


@dataclass(frozen=True, eq=False)
class Setting:
    """A net without gradients for its weights, images (N,3,H,W), targets (N,), names of layers."""

    net: nn.Module
    images: Tensor
    targets: Tensor
    layers: tuple[str, ...]

    def trace(self, layers: Sequence[str]) -> AbstractContextManager[Trace]:
        """Return a trace of all images."""
        return explain.trace(self.net, self.images, self.targets, layers)

    @property
    def modules(self) -> list[nn.Module]:
        """Return the layers themselves."""
        return [self.net.get_submodule(name) for name in self.layers]

    @property
    def wanted(self) -> Tensor:
        """Return a row for each image with 1 at its target, as zennit wants them."""
        return torch.eye(10)[self.targets]


def saliency(setting: Setting) -> Tensor:
    """Return our saliency."""
    with setting.trace(("input",)) as trace:
        return explain.saliency(trace)


def rectified(setting: Setting, rule: str) -> Tensor:
    """Return our map by a rule for ReLUs."""
    with setting.trace(("input",)) as trace:
        return explain.rectified(trace, rule)


def saliency_and_cams(setting: Setting) -> list[Tensor]:
    """Return our saliency, and our Grad-CAM at every layer."""
    with setting.trace(("input", *setting.layers)) as trace:
        return [explain.saliency(trace), *explain.gradcam(trace).values()]


def gradcam_enlarged(setting: Setting) -> Tensor:
    """Return our Grad-CAM at the last layer, in [0,1] and of the images' size, as grad-cam does."""
    with setting.trace(setting.layers[-1:]) as trace:
        (gradcam,) = explain.gradcam(trace).values()
    height, width = setting.images.shape[2:]
    return _unit(explain.enlarged(_unit(gradcam), (height, width)))


def _unit(maps: Tensor) -> Tensor:
    least = maps - maps.amin(dim=(1, 2), keepdim=True)
    return least / least.amax(dim=(1, 2), keepdim=True).clamp_min(1e-7)


def cavs(setting: Setting) -> list[Tensor]:
    """Return our CAV, R = activation times slope, at every layer."""
    with setting.trace(setting.layers) as trace:
        maps = explain.cav(trace)
        return [maps[name].raw for name in setting.layers]


def integrated(setting: Setting, steps: int) -> Tensor:
    """Return our integrated gradients."""
    return explain.integrated_gradients(setting.net, setting.images, setting.targets, steps=steps)


def smooth(setting: Setting, samples: int, seed: int) -> Tensor:
    """Return our SmoothGrad."""
    return explain.smoothgrad(
        setting.net, setting.images, setting.targets, samples=samples, spread=SPREAD, seed=seed
    )


def captum_saliency(setting: Setting) -> Work:
    """Return the work of Captum's saliency, signed."""
    from captum.attr import Saliency

    method = Saliency(setting.net)
    return lambda: method.attribute(setting.images, target=setting.targets, abs=False).detach()


def captum_rectified(setting: Setting, name: str) -> Work:
    """Return Captum's `GuidedBackprop` or `Deconvolution`."""
    import captum.attr

    method = getattr(captum.attr, name)(setting.net)
    return lambda: method.attribute(setting.images, target=setting.targets).detach()


def captum_saliency_and_cams(setting: Setting) -> Callable[[], list[Tensor]]:
    """Return Captum's saliency, and its Grad-CAM of one layer after the other."""
    from captum.attr import LayerGradCam

    plain = captum_saliency(setting)
    methods = [LayerGradCam(setting.net, module) for module in setting.modules]

    def work() -> list[Tensor]:
        cams = [
            method.attribute(setting.images, target=setting.targets, relu_attributions=True)
            for method in methods
        ]
        return [plain(), *(each.detach()[:, 0] for each in cams)]

    return work


def captum_contributions(setting: Setting) -> Callable[[], list[Tensor]]:
    """Return Captum's activation times gradient, all layers at once."""
    from captum.attr import LayerGradientXActivation

    method = LayerGradientXActivation(setting.net, setting.modules)

    def work() -> list[Tensor]:
        attributions = method.attribute(setting.images, target=setting.targets)
        return [each.detach() for each in attributions]

    return work


def captum_integrated(setting: Setting, steps: int) -> Work:
    """Return Captum's integrated gradients, with as many images in a pass as ours."""
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(setting.net)
    return lambda: method.attribute(
        setting.images,
        baselines=0.0,
        target=setting.targets,
        n_steps=steps,
        method="gausslegendre",
        internal_batch_size=len(setting.images),
    ).detach()


def captum_smooth(setting: Setting, samples: int) -> Work:
    """Return Captum's SmoothGrad, one sample of every image in a pass as in ours."""
    from captum.attr import NoiseTunnel, Saliency

    method = NoiseTunnel(Saliency(setting.net))
    return lambda: method.attribute(
        setting.images,
        target=setting.targets,
        nt_type="smoothgrad",
        nt_samples=samples,
        nt_samples_batch_size=1,
        stdevs=SPREAD * float(setting.images.max() - setting.images.min()),
        abs=False,
    ).detach()


def captum_occlusion(net: nn.Module, image: Tensor, region: int, count: int) -> Work:
    """Return Captum's fall of the score of class 0 (1,rows,columns), all regions in one batch."""
    from captum.attr import Occlusion

    method = Occlusion(net)
    window = (image.shape[1], region, region)

    def work() -> Tensor:
        with torch.no_grad():
            spread = method.attribute(
                image,
                sliding_window_shapes=window,
                strides=window,
                baselines=0.0,
                target=0,
                perturbations_per_eval=count,
            )
        drops: Tensor = spread[:, 0, ::region, ::region]
        return drops.detach()

    return work


def grad_cam(setting: Setting) -> Work:
    """Return the package grad-cam at the last layer."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(number) for number in setting.targets.tolist()]

    def work() -> Tensor:
        with GradCAM(model=setting.net, target_layers=setting.modules[-1:]) as cam:
            # The net's weights want no gradient, so the images must.
            shown = setting.images.clone().requires_grad_(True)
            return torch.from_numpy(cam(shown, targets=targets))

    return work


def zennit_saliency(setting: Setting) -> Work:
    """Return zennit's gradient, without a composite."""
    from zennit.attribution import Gradient

    attributor = Gradient(setting.net)
    return lambda: attributor(setting.images.clone(), setting.wanted)[1].detach()


def zennit_rectified(setting: Setting, name: str) -> Work:
    """Return zennit's gradient with the composite `GuidedBackprop` or `DeconvNet`."""
    import zennit.composites
    from zennit.attribution import Gradient

    composite = getattr(zennit.composites, name)()

    def work() -> Tensor:
        with Gradient(setting.net, composite=composite) as attributor:
            attribution: Tensor = attributor(setting.images.clone(), setting.wanted)[1]
            return attribution.detach()

    return work


def zennit_smooth(setting: Setting, samples: int) -> Work:
    """Return zennit's, whose last sample has no noise."""
    from zennit.attribution import SmoothGrad

    attributor = SmoothGrad(setting.net, noise_level=SPREAD, n_iter=samples)
    return lambda: attributor(setting.images.clone(), setting.wanted)[1].detach()


BATCH, SIDE = 8, 224
LAYERS = ("relu", "layer1", "layer2", "layer3", "layer4")
# Maps that take many passes, on smaller images.
FEW, SMALLER, SAMPLES = 4, 112, 16
REGION, SMALL = 2, 28  # 14 x 14 = 196 regions, as the source has it


def records() -> Iterator[Record]:
    """Yield maps of a random ResNet-18 on 8 random images of 224 x 224: time depends on neither."""
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
    """Yield the cost of sets of our maps, in forward and backward passes to the input."""

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
    """Yield maps of a pass or a few, each in the libraries that have it."""
    shown = f"{BATCH} images of {SIDE} x {SIDE}"
    yield from versus(
        "saliency",
        lambda: saliency(setting),
        [
            Peer("Captum", "captum", partial(captum_saliency, setting)),
            Peer("zennit", "zennit", partial(zennit_saliency, setting)),
        ],
        same_maps,
        rounds=5,
        note=shown,
    )
    yield from versus(
        "guided backpropagation",
        lambda: rectified(setting, "guided"),
        [
            Peer("Captum", "captum", partial(captum_rectified, setting, "GuidedBackprop")),
            Peer("zennit", "zennit", partial(zennit_rectified, setting, "GuidedBackprop")),
        ],
        same_maps,
        rounds=5,
        note=shown,
    )
    yield from versus(
        "Grad-CAM at the last layer, enlarged and scaled to [0,1]",
        lambda: gradcam_enlarged(setting),
        [Peer("grad-cam", "pytorch_grad_cam", partial(grad_cam, setting))],
        same_maps,
        rounds=5,
        note=shown,
    )
    yield from versus(
        "saliency, and Grad-CAM at five layers",
        lambda: saliency_and_cams(setting),
        [Peer("Captum", "captum", partial(captum_saliency_and_cams, setting))],
        same_sets,
        rounds=5,
        note=f"{shown}; Captum's Grad-CAM takes one layer at a time",
    )
    yield from versus(
        "contributions (activation times gradient) at five layers",
        lambda: cavs(setting),
        [Peer("Captum", "captum", partial(captum_contributions, setting))],
        same_sets,
        rounds=5,
        note=f"{shown}; ours are CAV, with biases and a check that all adds up to the score",
    )


def _many_passes(setting: Setting) -> Iterator[Record]:
    """Yield means over many gradients, the passes of all libraries on batches of the same size."""
    shown = f"{FEW} images of {SMALLER} x {SMALLER}"
    yield from versus(
        f"integrated gradients, {SAMPLES} steps of Gauss and Legendre",
        lambda: integrated(setting, SAMPLES),
        [Peer("Captum", "captum", partial(captum_integrated, setting, SAMPLES))],
        same_maps,
        rounds=5,
        note=shown,
    )
    yield from versus(
        f"SmoothGrad, {SAMPLES} samples",
        lambda: smooth(setting, SAMPLES, seed=0),
        [
            Peer("Captum", "captum", partial(captum_smooth, setting, SAMPLES)),
            Peer("zennit", "zennit", partial(zennit_smooth, setting, SAMPLES)),
        ],
        similar(smooth(setting, SAMPLES, seed=1)),
        rounds=5,
        note=shown,
    )


def _occlusion() -> Iterator[Record]:
    """Yield 196 regions of one image of 28 x 28, in batches and one forward pass each.

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
            captum_occlusion, net, image, REGION, len(masks)
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
