"""Normalisations with statistics of their own input, as affine functions of that very input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

Call = Callable[..., Any]


def frozen_statistics(
    func: Call, x: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """Scale and shift that make the normalisation of these very `x` affine."""
    plain = {"eps": 1e-5, **kwargs}
    if func is F.layer_norm:
        shape = args[0] if args else plain["normalized_shape"]
        axes = tuple(range(-len(shape), 0))
        weight, bias, eps = _given(args[1:], plain, ("weight", "bias", "eps"))
        mean, var = x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)
        scale = (var + eps).rsqrt().expand_as(x)
    else:
        if func is F.group_norm:
            groups = args[0] if args else plain["num_groups"]
            weight, bias, eps = _given(args[1:], plain, ("weight", "bias", "eps"))
        else:
            groups = x.shape[1]
            names = ("mean", "var", "weight", "bias", "use_input_stats", "momentum", "eps")
            _, _, weight, bias, _, _, eps = _given(args, plain, names)
        grouped = x.reshape(len(x), groups, -1)
        mean = grouped.mean(2, keepdim=True).expand_as(grouped).reshape(x.shape)
        var = grouped.var(2, unbiased=False, keepdim=True)
        scale = (var + eps).rsqrt().expand_as(grouped).reshape(x.shape)
        spread = (1, -1, *[1] * (x.dim() - 2))
        weight, bias = (None if each is None else each.view(spread) for each in (weight, bias))
    shift = -mean * scale
    if weight is not None:
        scale, shift = scale * weight, shift * weight
    return scale, shift if bias is None else shift + bias


def _given(args: tuple[Any, ...], kwargs: Mapping[str, Any], names: tuple[str, ...]) -> list[Any]:
    found = dict(zip(names, args, strict=False))
    return [found.get(name, kwargs.get(name)) for name in names]
