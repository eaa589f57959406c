"""One forward pass that leaves no trace, to see whether and how a network runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from robustkit.compute import device_of
from robustkit.compute.seeds import isolated_rng


def dry_run(net: nn.Module, input_shape: Sequence[int]) -> Any:
    """What `net` makes of one black image (C,H,W), in eval mode and on the net's own device.

    The modes of its modules and the global generators are as before; on the device "meta" only
    shapes are computed.
    """
    device = device_of(net)
    modes = {module: module.training for module in net.modules()}
    try:
        net.eval()
        with torch.no_grad(), isolated_rng():
            return net(torch.zeros(1, *input_shape, device=device))
    finally:
        for module, mode in modes.items():
            module.training = mode
