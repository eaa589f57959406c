"""Gradients of vision transformers: attention's, tokens' and patches'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks.ascent import Ascent
from robustkit.attacks.components.base import Component, component
from robustkit.attacks.ranges import check_share
from robustkit.attacks.rewriting import Call, changed, rewritten
from robustkit.errors import AttackError

NEEDS = "a vision transformer"


@component("pna")
@dataclass(frozen=True, kw_only=True)
class PayNoAttention(Component):
    """Gradients that pass through the values alone, not through the weights of attention."""

    paper: ClassVar[str] = "Wei et al. 2022 (arXiv 2109.04176)"
    needs: ClassVar[str] = NEEDS

    def operated(self, model: nn.Module, ascent: Ascent) -> nn.Module:
        """Return the model with attention's weights taken for constants."""
        return rewritten(model, ("attention",), _constant, self.name, ascent)


def _constant(call: Call) -> Tensor:
    return call.inputs[0].detach()


@component("tgr")
@dataclass(frozen=True, kw_only=True)
class TokenGradients(Component):
    """Gradients of tokens damped, and left out where they are extreme.

    Those of attention's weights are taken times `attention`, of what queries, keys and values are
    made of times `tokens`, and at the entrance of the perceptrons times `perceptrons`. The two
    tokens with the largest and the smallest gradient of each head or channel get none.
    """

    paper: ClassVar[str] = "Zhang et al. 2023 (arXiv 2303.15754)"
    needs: ClassVar[str] = NEEDS
    attention: float = 0.25
    tokens: float = 0.75
    perceptrons: float = 0.5

    def __post_init__(self) -> None:
        for name in ("attention", "tokens", "perceptrons"):
            check_share(name, getattr(self, name))

    def operated(self, model: nn.Module, ascent: Ascent) -> nn.Module:
        """Return the model with damped gradients."""
        return rewritten(model, ("attention", "qkv", "mlp"), self._call, self.name, ascent)

    def _call(self, call: Call) -> Tensor:
        (given,) = call.inputs
        if call.kind == "attention":
            return call.go(changed(given, self._pairs))
        return call.go(changed(given, self._qkv if call.kind == "qkv" else self._perceptron))

    def _pairs(self, gradient: Tensor) -> Tensor:
        return self.attention * without_extreme_pairs(gradient)

    def _qkv(self, gradient: Tensor) -> Tensor:
        return self.tokens * without_extreme_tokens(gradient)

    def _perceptron(self, gradient: Tensor) -> Tensor:
        return self.perceptrons * without_extreme_tokens(gradient)


def without_extreme_pairs(gradient: Tensor) -> Tensor:
    """Return a gradient (n,heads,T,S) with 0 in rows and columns of each head's extreme entries."""
    rows, columns = gradient.shape[-2:]
    flat = gradient.flatten(2)
    kept = torch.ones_like(gradient, dtype=torch.bool)
    for place in (flat.argmax(dim=2), flat.argmin(dim=2)):
        kept &= ~F.one_hot(place // columns, rows).bool()[:, :, :, None]
        kept &= ~F.one_hot(place % columns, columns).bool()[:, :, None]
    return gradient * kept


def without_extreme_tokens(gradient: Tensor) -> Tensor:
    """Return a gradient (n,…,d) with 0 at the tokens of each channel's extreme entries."""
    flat = gradient.reshape(len(gradient), -1, gradient.shape[-1])
    kept = torch.ones_like(flat)
    for place in (flat.argmax(dim=1, keepdim=True), flat.argmin(dim=1, keepdim=True)):
        kept.scatter_(1, place, 0.0)
    return (flat * kept).view_as(gradient)


@component("patchout")
@dataclass(frozen=True, kw_only=True)
class PatchOut(Component):
    """The perturbation shown on a random `share` of patches of `patch` pixels alone."""

    paper: ClassVar[str] = "Wei et al. 2022 (arXiv 2109.04176)"
    elsewhere: ClassVar[bool] = True
    shown_first: ClassVar[bool] = True
    patch: int = 16
    share: float = 130 / 196

    def __post_init__(self) -> None:
        if self.patch < 1:
            raise AttackError(f"patch must be at least 1 pixel, not {self.patch}")
        check_share("share", self.share)

    def view(self, images: Tensor, ascent: Ascent, copy: int) -> Tensor:
        """Return the clean images with a part of their perturbation."""
        height, width = images.shape[2:]
        down, across = -(-height // self.patch), -(-width // self.patch)
        count = max(round(self.share * down * across), 1)
        luck = ascent.uniform("patchout", (down * across,), ascent.copy)
        kept = torch.zeros_like(luck).scatter(1, luck.argsort(dim=1)[:, :count], 1.0)
        mask = kept.view(-1, 1, down, across)
        mask = mask.repeat_interleave(self.patch, dim=2).repeat_interleave(self.patch, dim=3)
        clean = ascent.originals
        return clean + mask[:, :, :height, :width] * (images - clean)
