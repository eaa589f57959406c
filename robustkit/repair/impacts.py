"""How much each weight has to do with a set of images: its backward and its forward impact."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from robustkit.attacks.purity import pure
from robustkit.compute import device_of
from robustkit.data import ImageSet, batches
from robustkit.repair.weights import Layer, net_of, seen_by_net

BATCH = 250


@dataclass(frozen=True, eq=False)
class Impacts:
    """By layer name, float32 tensors of the layer's weight's shape, on the CPU.

    `backward` is |∂L/∂w|, L the mean cross-entropy of the set; `forward` the set's mean of
    |o·w|, o what the weight is multiplied with. In a convolution the mean is over the positions of
    its kernel, too.
    """

    backward: Mapping[str, Tensor]
    forward: Mapping[str, Tensor]


def impacts(model: nn.Module, images: ImageSet, layers: Mapping[str, Layer]) -> Impacts:
    """Both impacts of the weights of `layers` on `images`, in evaluation mode.

    o·w is linear in w, so its mean magnitude is mean|o|·|w|: one forward and one backward pass
    serve both, and nothing of the size of images times weights is ever made.
    """
    device = device_of(model)
    gradients = {name: torch.zeros_like(layer.weight) for name, layer in layers.items()}
    inputs: dict[str, Tensor] = {}
    with pure(model), ExitStack() as hooks:
        for name, layer in layers.items():
            hook = layer.register_forward_pre_hook(_adding(name, inputs))
            hooks.callback(hook.remove)
        leaves = {
            f"{name}.weight": layer.weight.detach().requires_grad_(True)
            for name, layer in layers.items()
        }
        for part in batches(len(images), BATCH):
            pixels, labels = images.floats(part).to(device), images.labels[part].to(device)
            logits = functional_call(net_of(model), leaves, (seen_by_net(model, pixels),))
            loss = F.cross_entropy(logits, labels, reduction="sum") / len(images)
            found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
            for name, gradient in zip(layers, found, strict=True):
                if gradient is not None:
                    gradients[name] += gradient
    forward = {
        name: spread(layer, inputs[name] / len(images)) * layer.weight.detach().abs()
        if name in inputs
        else torch.zeros_like(layer.weight)
        for name, layer in layers.items()
    }
    return Impacts(
        backward={name: each.abs().cpu() for name, each in gradients.items()},
        forward={name: each.cpu() for name, each in forward.items()},
    )


def _adding(name: str, sums: dict[str, Tensor]) -> Any:
    """A hook that adds up what each of the layer's weights is multiplied with, in magnitude."""

    def hook(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        with torch.no_grad():
            seen = _magnitude(layer, arguments[0].detach().abs())
            sums[name] = seen if name not in sums else sums[name] + seen

    return hook


def _magnitude(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Per input (d,) or per kernel entry (C·kh·kw,): the sum over images of the mean of `inputs`
    over positions."""
    if isinstance(layer, nn.Conv2d):
        # The mean is linear: of the images' sum alone, patches are as many as of one image.
        return patches(layer, inputs.sum(dim=0, keepdim=True)).mean(dim=2)[0]
    return inputs.reshape(len(inputs), -1, inputs.shape[-1]).mean(dim=1).sum(dim=0)


def patches(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """What the kernel lies over at each position: (n,C,H,W) to (n, C·kh·kw, positions)."""
    padding = layer._reversed_padding_repeated_twice
    if any(padding):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        x = F.pad(x, padding, mode=mode)
    return F.unfold(x, layer.kernel_size, layer.dilation, stride=layer.stride)


def spread(layer: Layer, inputs: Tensor) -> Tensor:
    """A number per input of the layer as one per weight: the weight's shape, or one that spreads.

    In a grouped convolution every output sees the inputs of its own group alone.
    """
    if isinstance(layer, nn.Linear):
        return inputs.expand_as(layer.weight)
    shape = layer.weight.shape
    grouped = inputs.reshape(layer.groups, 1, *shape[1:])
    return grouped.expand(layer.groups, shape[0] // layer.groups, *shape[1:]).reshape(shape)
