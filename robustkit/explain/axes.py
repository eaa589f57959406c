"""Where the channels of maps are, through permutations: a map is a sum over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Call = Callable[..., Any]
_T = Tensor


def channel_axes(
    known: Mapping[int, int],
    func: Call,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    given: Sequence[Tensor],
    outputs: Sequence[Tensor],
) -> dict[int, int]:
    """By identity, the axis of the channels of those `outputs` that do not have them at 1.

    `known` tells the same of what was `given`. A convolution gives channels at 1.
    """
    axis = next((known[id(each)] for each in given if id(each) in known), 1)
    dims = permutation(func, args, kwargs, given[0].dim())
    if dims is not None and given[0].dim() == 4:
        axis = dims.index(axis)
    elif getattr(func, "__name__", "").startswith("conv"):
        axis = 1
    if axis == 1:
        return {}
    return {id(each): axis for each in outputs if each.dim() == 4}


def permutation(
    func: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any], dim: int
) -> list[int] | None:
    """The axes of the output in terms of the input's, where a function reorders them."""
    order = list(range(dim))
    if func in (torch.permute, _T.permute):
        given = args[1:] if len(args) > 2 else args[1] if len(args) > 1 else kwargs["dims"]
        return [int(each) % dim for each in given]
    if func in (torch.transpose, _T.transpose, torch.swapaxes, _T.swapaxes):
        a, b = (*args[1:], kwargs.get("dim0"), kwargs.get("dim1"))[:2]
        order[int(a)], order[int(b)] = order[int(b)], order[int(a)]
        return order
    if func in (torch.movedim, _T.movedim) and len(args) == 3:
        moved = torch.empty([1 + each for each in order]).movedim(args[1], args[2])
        return [each - 1 for each in moved.shape]
    return None
