"""Small layers that several model families share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GlobalAverage(nn.Module):
    """The mean over both spatial axes: (N,C,H,W) to (N,C)."""

    def forward(self, x: Tensor) -> Tensor:
        """Channel means."""
        return x.mean(dim=(2, 3))


class Average(nn.Module):
    """Averages over windows of square maps (N,C,S,S): the same as any average pooling.

    Output row i is the mean of the input's rows `windows[i]`, and so for columns. As two products
    with a small matrix it costs a half to a quarter of torch's pooling on a CPU, differentiated
    once or twice.
    """

    matrix: Tensor

    def __init__(self, side: int, windows: Sequence[range]) -> None:
        super().__init__()
        rows = [[(at in window) / len(window) for at in range(side)] for window in windows]
        self.register_buffer("matrix", torch.tensor(rows), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, len(windows), len(windows))."""
        return self.matrix @ x @ self.matrix.T


def average(side: int, windows: Sequence[range]) -> nn.Module:
    """Return an `Average`, or nothing where it would change nothing."""
    if list(windows) == [range(at, at + 1) for at in range(side)]:
        return nn.Identity()
    return Average(side, windows)


class GreyToColour(nn.Module):
    """One channel shown three times: (N,1,H,W) to (N,3,H,W)."""

    def forward(self, x: Tensor) -> Tensor:
        """The same image, in colour."""
        return x.expand(-1, 3, -1, -1)


class PadShortcut(nn.Module):
    """A residual block's parameter-free way round: every second pixel, and channels of zeros.

    Option A of He et al. 2016, section 3.3. `extra` channels are added, half before the others.
    """

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self.extra, self.stride = extra, stride

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C + extra, ceil(H / stride), ceil(W / stride))."""
        before = self.extra // 2
        thin = x[:, :, :: self.stride, :: self.stride]
        return F.pad(thin, (0, 0, 0, 0, before, self.extra - before))


def conv_bn(
    in_channels: int, channels: int, kernel: int = 3, *, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Return a convolution with same padding and no bias, and batch norm after it."""
    padding = kernel // 2
    conv = nn.Conv2d(in_channels, channels, kernel, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(channels)]


def chain(*named: tuple[str, nn.Module | Iterable[nn.Module]]) -> nn.Sequential:
    """Return named modules in sequence; several modules under one name become a sequence."""
    net = nn.Sequential()
    for name, part in named:
        net.add_module(name, part if isinstance(part, nn.Module) else nn.Sequential(*part))
    return net


def initialise(net: nn.Module) -> None:
    """Draw every convolution from N(0, 2 / fan-in) and clear its bias (He et al. 2015).

    Fan-in rather than fan-out, because it is right for depthwise convolutions too, and because
    networks without normalisation keep the size of their activations. Linear layers keep torch's
    start: small logits.
    """
    for module in net.modules():
        # On "meta" there is nothing to draw, and torch's shape-only draws are slow.
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
