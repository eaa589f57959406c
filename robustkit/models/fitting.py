"""Whether a network takes images of a given size, and which size it would take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.compute import device_of
from robustkit.compute.seeds import isolated_rng
from robustkit.errors import ModelError
from robustkit.geometry import Size


def dry_run(net: nn.Module, input_shape: Sequence[int]) -> Any:
    """Return the output of `net` for one black image (C,H,W), in eval mode, on its own device.

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


_LARGEST = 512
_REFUSALS = (RuntimeError, ValueError, AssertionError)


def make_fitting(
    make: Callable[[Size], nn.Module], name: str, num_classes: int, channels: int, size: Size
) -> nn.Module:
    """Return `make(size)`, checked to turn an image (channels, *size) into logits.

    Raises `ModelError` with the reason where it does not, and with the least size that works where
    there is one among square ones (found by bisection: a network that takes a size is expected to
    take larger ones).
    """
    try:
        net = make(size)
        check_logits(dry_run(net, (channels, *size)), name, num_classes)
    except _REFUSALS as error:
        least = _least_size(make, channels, min(size))
        advice = f"; the least size that works is {least}" if least else ""
        reason = str(error).partition("\n")[0]
        raise ModelError(
            f"{name}: cannot take images of {channels}x{size[0]}x{size[1]} ({reason}){advice}"
        ) from None
    return net


def check_logits(output: object, name: str, num_classes: int) -> None:
    """Raise `ModelError` unless `output` is what one image should give: logits (1, classes)."""
    if not isinstance(output, Tensor):
        raise ModelError(f"{name}: gives {type(output).__name__}, not a tensor of logits")
    if output.shape != (1, num_classes):
        raise ModelError(
            f"{name}: gives {tuple(output.shape)} for one image, not logits (1, {num_classes})"
        )


def _least_size(make: Callable[[Size], nn.Module], channels: int, refused: int) -> int | None:
    works = 2 * refused
    while not _takes(make, channels, works):
        refused, works = works, 2 * works
        if works > _LARGEST:
            return None
    while works - refused > 1:
        middle = (works + refused) // 2
        if _takes(make, channels, middle):
            works = middle
        else:
            refused = middle
    return works


def _takes(make: Callable[[Size], nn.Module], channels: int, size: int) -> bool:
    try:
        with torch.device("meta"):
            dry_run(make((size, size)), (channels, size, size))
    except _REFUSALS:
        return False
    return True
