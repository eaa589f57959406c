"""A slow count of multiplications: watch every layer run, one by one."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def slow_macs(net: nn.Module, input_shape: tuple[int, int, int]) -> int:
    total = 0

    def watch(layer: nn.Module, _: object, out: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            kernel = layer.kernel_size[0] * layer.kernel_size[1]
            total += out[0].numel() * kernel * layer.in_channels // layer.groups
        elif isinstance(layer, nn.Linear):
            total += layer.in_features * layer.out_features

    handles = [module.register_forward_hook(watch) for module in net.modules()]
    with torch.no_grad():
        net.eval()(torch.zeros(1, *input_shape))
    for handle in handles:
        handle.remove()
    return total
