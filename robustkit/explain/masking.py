"""Disable what a map points at, and see whether the score follows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks.purity import pure
from robustkit.compute import device_of
from robustkit.errors import ExplainError, did_you_mean
from robustkit.explain.cav import Contribution
from robustkit.explain.layers import INPUT

SIGNS = ("positive", "negative")


@dataclass(frozen=True, eq=False)
class Masked:
    """Logits (N,K) `before` and `after` activations were disabled, and what was expected.

    `targets` int64 (N,); `predicted` (N,) is the target's score if it were linear in what was
    disabled: score - Σ slope · (activation - fill) there, which with 0 is score - Σ R; None where
    CAV has no convention. `share` (N,) is how much of the layer was disabled.
    """

    before: Tensor
    after: Tensor
    targets: Tensor
    predicted: Tensor | None
    share: Tensor

    def scores(self) -> tuple[Tensor, Tensor]:
        """The target's logit before and after, (N,) each."""
        chosen = self.targets[:, None]
        return self.before.gather(1, chosen)[:, 0], self.after.gather(1, chosen)[:, 0]

    def top(self, count: int = 10) -> tuple[Tensor, Tensor]:
        """The classes of highest logits before and after, best first: int64 (N,count) each."""
        count = min(count, self.before.shape[1])
        return self.before.topk(count).indices, self.after.topk(count).indices


def signed_region(contribution: Contribution, sign: str, quantile: float = 0.0) -> Tensor:
    """Bool (N,H,W): where the layer's map is positive, or negative.

    With a `quantile` q above 0 only where it is beyond the q-quantile of its own part of that sign:
    the "high" contributions. Raises `ExplainError` for another sign or quantile.
    """
    if sign not in SIGNS:
        raise ExplainError(f"unknown sign '{sign}'{did_you_mean(sign, SIGNS)}")
    if not 0 <= quantile < 1:
        raise ExplainError(f"quantile must be in [0,1), not {quantile:g}")
    maps = contribution.map if sign == "positive" else -contribution.map
    chosen = maps > 0
    if quantile:
        for row, each in enumerate(maps):
            part = each[chosen[row]]
            if len(part):
                chosen[row] &= each > torch.quantile(part, quantile)
    return chosen


def disable(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    contribution: Contribution | None,
    region: Tensor,
    layer: str = INPUT,
    *,
    fill: float = 0.0,
) -> Masked:
    """Set `layer` to `fill` in `region`, bool (N,H,W) over its maps, all channels, and look again.

    `contribution` is the layer's, of these images and targets, or None: then nothing is predicted,
    and the region is taken to be of the layer's maps. `layer` is "input", for the pixels,
    or a module that is called once. `predicted` is exact where the net is linear in what was
    disabled. Raises `ExplainError` for a layer that is no module.
    """
    if contribution is not None and region.shape != contribution.raw[:, 0].shape:
        raise ExplainError(
            f"the region is {tuple(region.shape)}, the maps of '{layer}' are "
            f"{tuple(contribution.raw[:, 0].shape)}"
        )
    modules = {name: module for name, module in model.named_modules() if name}
    if layer != INPUT and layer not in modules:
        raise ExplainError(f"'{layer}' is no module{did_you_mean(layer, [INPUT, *modules])}")
    x = images.to(device_of(model))
    with pure(model), torch.no_grad():
        before = model(x)
        if layer == INPUT:
            after = model(x.masked_fill(region[:, None].to(x.device), fill))
        else:

            def hook(_: nn.Module, __: object, output: Tensor) -> Tensor:
                return output.masked_fill(region[:, None].to(output.device), fill)

            handle = modules[layer].register_forward_hook(hook)
            try:
                after = model(x)
            finally:
                handle.remove()
    predicted = None
    if contribution is not None:
        change = contribution.slope * (contribution.activation - fill)
        removed = change.sum(dim=1) * region.to(change.device)
        predicted = contribution.score - removed.flatten(1).sum(dim=1)
    return Masked(
        before=before,
        after=after,
        targets=targets.to(before.device),
        predicted=predicted,
        share=region.cpu().double().flatten(1).mean(dim=1),
    )
