"""The same maps by several libraries: ours at once, theirs as works that are ready to be timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit import explain
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
        """A trace of all images."""
        return explain.trace(self.net, self.images, self.targets, layers)

    @property
    def modules(self) -> list[nn.Module]:
        """The layers themselves."""
        return [self.net.get_submodule(name) for name in self.layers]

    @property
    def wanted(self) -> Tensor:
        """A row for each image with 1 at its target, as zennit wants them."""
        return torch.eye(10)[self.targets]


def saliency(setting: Setting) -> Tensor:
    """Ours."""
    with setting.trace(("input",)) as trace:
        return explain.saliency(trace)


def rectified(setting: Setting, rule: str) -> Tensor:
    """Ours."""
    with setting.trace(("input",)) as trace:
        return explain.rectified(trace, rule)


def saliency_and_cams(setting: Setting) -> list[Tensor]:
    """Ours, Grad-CAM at every layer."""
    with setting.trace(("input", *setting.layers)) as trace:
        return [explain.saliency(trace), *explain.gradcam(trace).values()]


def gradcam_enlarged(setting: Setting) -> Tensor:
    """Ours at the last layer, as grad-cam hands it out: in [0,1], of the images' size."""
    with setting.trace(setting.layers[-1:]) as trace:
        (made,) = explain.gradcam(trace).values()
    height, width = setting.images.shape[2:]
    return _unit(explain.enlarged(_unit(made), (height, width)))


def _unit(maps: Tensor) -> Tensor:
    least = maps - maps.amin(dim=(1, 2), keepdim=True)
    return least / least.amax(dim=(1, 2), keepdim=True).clamp_min(1e-7)


def cavs(setting: Setting) -> list[Tensor]:
    """Ours, R = activation times slope, at every layer."""
    with setting.trace(setting.layers) as trace:
        made = explain.cav(trace)
        return [made[name].raw for name in setting.layers]


def integrated(setting: Setting, steps: int) -> Tensor:
    """Ours."""
    return explain.integrated_gradients(setting.net, setting.images, setting.targets, steps=steps)


def smooth(setting: Setting, samples: int, seed: int) -> Tensor:
    """Ours."""
    return explain.smoothgrad(
        setting.net, setting.images, setting.targets, samples=samples, spread=SPREAD, seed=seed
    )


def captum_saliency(setting: Setting) -> Work:
    """Captum's, signed."""
    from captum.attr import Saliency

    method = Saliency(setting.net)
    return lambda: method.attribute(setting.images, target=setting.targets, abs=False).detach()


def captum_rectified(setting: Setting, name: str) -> Work:
    """Captum's `GuidedBackprop` or `Deconvolution`."""
    import captum.attr

    method = getattr(captum.attr, name)(setting.net)
    return lambda: method.attribute(setting.images, target=setting.targets).detach()


def captum_saliency_and_cams(setting: Setting) -> Callable[[], list[Tensor]]:
    """Captum's saliency, and its Grad-CAM of one layer after the other."""
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
    """Captum's activation times gradient, all layers at once."""
    from captum.attr import LayerGradientXActivation

    method = LayerGradientXActivation(setting.net, setting.modules)

    def work() -> list[Tensor]:
        made = method.attribute(setting.images, target=setting.targets)
        return [each.detach() for each in made]

    return work


def captum_integrated(setting: Setting, steps: int) -> Work:
    """Captum's, with as many images in a pass as ours."""
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
    """Captum's, a sample of every image in a pass as in ours; its noise is in absolute units."""
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
    """Captum's fall of the score of class 0 (1,rows,columns), all regions in one batch."""
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
    """The package grad-cam at the last layer."""
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
    """zennit's gradient, without a composite."""
    from zennit.attribution import Gradient

    attributor = Gradient(setting.net)
    return lambda: attributor(setting.images.clone(), setting.wanted)[1].detach()


def zennit_rectified(setting: Setting, name: str) -> Work:
    """zennit's gradient with the composite `GuidedBackprop` or `DeconvNet`."""
    import zennit.composites
    from zennit.attribution import Gradient

    composite = getattr(zennit.composites, name)()

    def work() -> Tensor:
        with Gradient(setting.net, composite=composite) as attributor:
            made: Tensor = attributor(setting.images.clone(), setting.wanted)[1]
            return made.detach()

    return work


def zennit_smooth(setting: Setting, samples: int) -> Work:
    """zennit's, whose last sample has no noise."""
    from zennit.attribution import SmoothGrad

    attributor = SmoothGrad(setting.net, noise_level=SPREAD, n_iter=samples)
    return lambda: attributor(setting.images.clone(), setting.wanted)[1].detach()
