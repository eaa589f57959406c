"""Other gradients of the same surrogate: what is changed inside it while it is attacked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks.ascent import Ascent
from robustkit.attacks.components.base import Component, component
from robustkit.attacks.norms import TINY
from robustkit.attacks.ranges import check_share
from robustkit.attacks.rewriting import Call, changed, rewritten
from robustkit.errors import AttackError


def for_each(values: Tensor, maps: Tensor) -> Tensor:
    """Return values (n,) shaped to be multiplied with maps (n,…)."""
    return values.view(-1, *[1] * (maps.dim() - 1))


@component("sgm")
@dataclass(frozen=True, kw_only=True)
class SkipGradients(Component):
    """Gradients through residual branches times `gamma`, those through skips as they are."""

    paper: ClassVar[str] = "Wu et al. 2020 (arXiv 2002.05990)"
    needs: ClassVar[str] = "residual connections"
    gamma: float = 0.5

    def __post_init__(self) -> None:
        check_share("gamma", self.gamma)

    def operated(self, model: nn.Module, ascent: Ascent) -> nn.Module:
        """Return the model with its branches' gradients scaled."""
        return rewritten(model, ("join",), self._join, self.name, ascent)

    def _join(self, call: Call) -> Tensor:
        skipping, *branches = call.inputs
        return call.go(skipping, *(changed(each, self._damped) for each in branches))

    def _damped(self, gradient: Tensor) -> Tensor:
        return self.gamma * gradient


class _ReLU(torch.autograd.Function):
    """A ReLU with another derivative."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, kind: str) -> Tensor:
        ctx.save_for_backward(maps)
        ctx.kind = kind
        return maps.clamp_min(0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (maps,) = ctx.saved_tensors
        if ctx.kind == "silu":
            share = maps.sigmoid()
            return gradient * share * (1 + maps * (1 - share)), None
        # As it is, but as long as the true one: a branch must not outweigh what skips it.
        peak = gradient.flatten(1).abs().amax(dim=1).clamp_min(TINY)
        scaled = gradient / for_each(peak, maps)
        true = (scaled * (maps > 0)).flatten(1).norm(dim=1)
        whole = scaled.flatten(1).norm(dim=1).clamp_min(TINY)
        return gradient * for_each(true / whole, maps), None


@component("linbp")
@dataclass(frozen=True, kw_only=True)
class LinearBackward(Component):
    """Gradients that pass ReLUs as if they were linear, behind a share `after` of them.

    They are kept as long as the true ones, image by image and ReLU by ReLU; the paper does so over
    whole residual branches. ReLUs of a residual sum stay, as in the paper.
    """

    paper: ClassVar[str] = "Guo et al. 2020 (NeurIPS)"
    needs: ClassVar[str] = "ReLUs"
    after: float = 0.5

    def __post_init__(self) -> None:
        check_share("after", self.after)

    def operated(self, model: nn.Module, ascent: Ascent) -> nn.Module:
        """Return the model with other derivatives of its ReLUs."""
        return rewritten(model, ("relu",), self._relu, self.name, ascent)

    def _relu(self, call: Call) -> Tensor:
        (maps,) = call.inputs
        if call.after < self.after or call.options["joined"]:
            return call.go(maps)
        result: Tensor = _ReLU.apply(maps, "linear")
        return result


class _Pooling(torch.autograd.Function):
    """Max pooling whose gradient goes to all of a window, by softmax."""

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, kernel: int, stride: int, padding: int, sharpness: float
    ) -> Tensor:
        ctx.save_for_backward(maps)
        ctx.window, ctx.sharpness = (kernel, stride, padding), sharpness
        return F.max_pool2d(maps, kernel, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (maps,) = ctx.saved_tensors
        kernel, stride, padding = ctx.window
        count, channels = maps.shape[:2]
        # Padded beforehand with what gets no weight; the padding's own gradient is cut off.
        padded = F.pad(maps, [padding] * 4, value=-torch.inf)
        windows = F.unfold(padded, kernel, stride=stride).view(count, channels, kernel**2, -1)
        weights = (ctx.sharpness * windows).softmax(dim=2)
        spread = weights * gradient.flatten(2)[:, :, None]
        size = tuple(padded.shape[2:])
        whole = F.fold(spread.flatten(1, 2), size, kernel, stride=stride)
        inner = slice(padding, -padding or None)
        return whole[:, :, inner, inner], None, None, None, None


@component("bpa")
@dataclass(frozen=True, kw_only=True)
class BackwardPropagation(Component):
    """SiLU's derivatives for those of ReLUs behind a share `after`, softmax's for max pooling's.

    The softmax over a window is of its values times `sharpness`.
    """

    paper: ClassVar[str] = "Wang et al. 2023 (arXiv 2306.12685)"
    needs: ClassVar[str] = "ReLUs"
    after: float = 0.5
    sharpness: float = 10.0

    def __post_init__(self) -> None:
        check_share("after", self.after)
        if not 0 < self.sharpness < float("inf"):
            raise AttackError(f"sharpness must be above 0, not {self.sharpness:g}")

    def operated(self, model: nn.Module, ascent: Ascent) -> nn.Module:
        """Return the model with other derivatives."""
        return rewritten(model, ("relu", "pool"), self._call, self.name, ascent)

    def _call(self, call: Call) -> Tensor:
        (maps,) = call.inputs
        if call.kind == "relu":
            if call.after < self.after:
                return call.go(maps)
            result: Tensor = _ReLU.apply(maps, "silu")
            return result
        window = [call.options[name] for name in ("kernel_size", "stride", "padding")]
        sizes = [each if isinstance(each, int) else _one_of(each) for each in window]
        if None in sizes or not call.options["plain"]:
            return call.go(maps)
        pooled: Tensor = _Pooling.apply(maps, *sizes, self.sharpness)
        return pooled


def _one_of(sides: Any) -> int | None:
    return sides[0] if len({*sides}) == 1 else None


@component("ghost")
@dataclass(frozen=True, kw_only=True)
class GhostNetworks(Component):
    """Another net of the same weights for every gradient.

    What skips is scaled by a number in [1-`skip`, 1+`skip`]; a net without residual connections
    has a share `dropped` of the outputs of its ReLUs dropped instead.
    """

    paper: ClassVar[str] = "Ghost Networks, Li et al. 2020 (AAAI)"
    needs: ClassVar[str] = "residual connections or ReLUs"
    elsewhere: ClassVar[bool] = True
    skip: float = 0.22
    dropped: float = 0.012

    def __post_init__(self) -> None:
        check_share("skip", self.skip)
        if not 0 <= self.dropped < 1:
            raise AttackError(f"dropped must be in [0,1), not {self.dropped:g}")

    def operated(self, model: nn.Module, ascent: Ascent) -> nn.Module:
        """Return the model that differs every time."""

        def haunted(call: Call) -> Tensor:
            place = call.number + ascent.copy * call.total
            if call.kind == "join":
                skipping, *branches = call.inputs
                luck = call.for_each(2 * ascent.uniform("ghost", (), place) - 1, skipping)
                return call.go(skipping * for_each(1 + self.skip * luck, skipping), *branches)
            (maps,) = call.inputs
            windows = max(len(maps) // call.images, 1)
            shape = (windows, *maps.shape[1:])
            kept = ascent.uniform("ghost", shape, place) >= self.dropped
            call.for_each(ascent.targets, maps)  # or they are not of images
            return call.go(maps) * kept.flatten(0, 1) / (1 - self.dropped)

        return rewritten(model, ("join", "relu"), haunted, self.name, ascent, first=True)
