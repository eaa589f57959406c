"""Is a map any good? Delete or insert the pixels it points at, in its order."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from skimage.metrics import structural_similarity
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from robustkit.attacks import predict
from robustkit.compute import derive_seed, device_of, isolated_rng, torch_generator
from robustkit.errors import ExplainError, did_you_mean
from robustkit.explain.cav import Contribution
from robustkit.explain.trace import INPUT
from robustkit.models.state import state_preserved

WINDOW = 7


@dataclass(frozen=True)
class Similarity:
    """Of N pairs of maps: one value for each pair that has one, and how many have none.

    A constant map has no ranks to correlate; it is counted in `constant`, never a NaN.
    """

    values: tuple[float, ...]
    constant: int

    @property
    def mean(self) -> float | None:
        """The mean over pairs that have a value, None without any."""
        return float(np.mean(self.values)) if self.values else None


def spearman(a: Tensor, b: Tensor, *, absolute: bool = False) -> Similarity:
    """Return Spearman's rank correlation of each of N maps of `a` with that of `b`, (N,…) each.

    Pearson's correlation of average ranks; the shorter formula of squared differences of ranks is
    wrong under ties, and rectified maps are mostly ties. `absolute` compares magnitudes.

    >>> import torch
    >>> a, b = torch.tensor([[0.0, 0.0, 1.0, 2.0]]), torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    >>> round(spearman(a, b).values[0], 4)  # by squared differences it would be 0.95
    0.9487
    """
    first, second = _rows(a, b, absolute)
    values, constant = [], 0
    for x, y in zip(first, second, strict=True):
        if not _varied(x) or not _varied(y):
            constant += 1
            continue
        values.append(float(np.corrcoef(rankdata(x), rankdata(y))[0, 1]))
    return Similarity(tuple(values), constant)


def ssim(a: Tensor, b: Tensor, *, window: int = WINDOW, absolute: bool = False) -> Similarity:
    """Return SSIM (Wang et al. 2004) of N maps (N,H,W), in uniform windows of `window` pixels.

    Each map is divided by its largest magnitude and, with signs, laid into [0,1] with nothing at
    1/2; the range is 1. (Left around 0, opposite maps would look alike: the signs of luminance and
    structure cancel.) Constant maps are counted. Raises `ExplainError` for a window
    that is even or larger than the maps.
    """
    if window % 2 == 0 or not 3 <= window <= min(a.shape[-2:]):
        raise ExplainError(
            f"an SSIM window of {window} pixels: odd, from 3 to {min(a.shape[-2:])} here"
        )
    first, second = (each.reshape(a.shape) for each in _rows(a, b, absolute))
    values, constant = [], 0
    for x, y in zip(first, second, strict=True):
        if not _varied(x) or not _varied(y):
            constant += 1
            continue
        sizes = [np.abs(each).max() for each in (x, y)]
        pair = [each / size for each, size in zip((x, y), sizes, strict=True)]
        if not absolute:
            pair = [(each + 1) / 2 for each in pair]
        found = structural_similarity(*pair, win_size=window, data_range=1)  # type: ignore[no-untyped-call]
        values.append(float(found))
    return Similarity(tuple(values), constant)


def _varied(values: np.ndarray) -> bool:
    """Return whether values are all finite, and not all the same."""
    return bool(np.isfinite(values).all()) and float(np.ptp(values)) > 0


def _rows(a: Tensor, b: Tensor, absolute: bool) -> list[np.ndarray]:
    if a.shape != b.shape:
        raise ExplainError(f"maps of {tuple(a.shape)} and {tuple(b.shape)} cannot be compared")
    rows = [each.detach().cpu().double().flatten(1).numpy() for each in (a, b)]
    return [np.abs(each) for each in rows] if absolute else rows


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
        """Return the target's logit before and after, (N,) each."""
        chosen = self.targets[:, None]
        return self.before.gather(1, chosen)[:, 0], self.after.gather(1, chosen)[:, 0]

    def top(self, count: int = 10) -> tuple[Tensor, Tensor]:
        """Return the classes of highest logits before and after, best first: int64 (N,count)."""
        count = min(count, self.before.shape[1])
        return self.before.topk(count).indices, self.after.topk(count).indices


def signed_region(contribution: Contribution, sign: str, quantile: float = 0.0) -> Tensor:
    """Return bool (N,H,W): where the layer's map is positive, or negative.

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
            signed = each[chosen[row]]
            if len(signed):
                chosen[row] &= each > torch.quantile(signed, quantile)
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
    images = images.to(device_of(model))
    with state_preserved(model), torch.no_grad():
        before = model(images)
        if layer == INPUT:
            after = model(images.masked_fill(region[:, None].to(images.device), fill))
        else:
            with _output_filled(modules[layer], region, fill):
                after = model(images)
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


@contextmanager
def _output_filled(module: nn.Module, region: Tensor, fill: float) -> Iterator[None]:
    """Set the output of `module` to `fill` in `region`, bool (N,H,W), inside the block."""

    def hook(_: nn.Module, __: object, output: Tensor) -> Tensor:
        return output.masked_fill(region[:, None].to(output.device), fill)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True, eq=False)
class Curve:
    """The target's probability (N,S+1) after each of S steps; `area` (N,) under it, in [0,1].

    Deletion: the lower the better. Insertion: the higher the better.
    """

    probability: Tensor

    @property
    def area(self) -> Tensor:
        """By the trapezoid rule over the share of pixels changed."""
        p = self.probability
        return (p[:, 1:] + p[:, :-1]).sum(dim=1) / (2 * (p.shape[1] - 1))


def deletion(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    steps: int = 20,
    baseline: Tensor | float = 0.0,
) -> Curve:
    """Replace pixels of images (N,C,H,W) by `baseline`, those of largest map (N,H,W) first.

    Petsiuk et al. 2018. Ties go by position. Raises `ExplainError` for maps of another size.
    """
    return _curve(model, images, targets, maps, steps, images, _filled(images, baseline))


def insertion(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    steps: int = 20,
    blur: int = 11,
) -> Curve:
    """Put pixels of images (N,C,H,W) into blurred ones, those of largest map (N,H,W) first.

    Petsiuk et al. 2018; blurred by a box of `blur` pixels. Raises as `deletion` does.
    """
    return _curve(model, images, targets, maps, steps, blurred(images, blur), images)


def random_maps(images: Tensor, seed: int = 0) -> Tensor:
    """Return uniform random maps (N,H,W), the control that knows nothing."""
    shape = (len(images), *images.shape[2:])
    return torch.rand(shape, generator=torch_generator("random maps", seed))


def edges(images: Tensor) -> Tensor:
    """Return Sobel magnitudes (N,H,W) of grey images, the control that knows no model."""
    grey = images.mean(dim=1, keepdim=True)
    across = grey.new_tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])[None, None]
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    return torch.hypot(F.conv2d(padded, across), F.conv2d(padded, across.transpose(2, 3)))[:, 0]


def blurred(images: Tensor, size: int) -> Tensor:
    """Return images averaged over squares of `size` pixels, borders repeated."""
    before = (size - 1) // 2
    padded = F.pad(images, (before, size - 1 - before) * 2, mode="replicate")
    return F.avg_pool2d(padded, size, stride=1)


def _filled(images: Tensor, baseline: Tensor | float) -> Tensor:
    return torch.as_tensor(baseline, dtype=images.dtype, device=images.device).expand_as(images)


def _curve(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    steps: int,
    start: Tensor,
    end: Tensor,
) -> Curve:
    """Go from `start` to `end`, pixel by pixel in the order of `maps`, in `steps` equal parts."""
    if maps.shape != (len(images), *images.shape[2:]):
        raise ExplainError(
            f"maps {tuple(maps.shape)} for images {tuple(images.shape)}: one value for each pixel"
        )
    flat = maps.flatten(1)
    if not 1 <= steps <= flat.shape[1]:
        raise ExplainError(f"steps must be from 1 to {flat.shape[1]} pixels, not {steps}")
    order = torch.sort(flat, dim=1, descending=True, stable=True).indices
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    )
    rank = rank.view(maps.shape)[:, None].to(images.device)
    columns = []
    for step in range(steps + 1):
        shown = torch.where(rank < step * flat.shape[1] / steps, end, start)
        said = predict(model, shown).softmax(dim=1)
        columns.append(said.gather(1, targets[:, None].to(said.device))[:, 0])
    return Curve(torch.stack(columns, dim=1))


Make = Callable[[nn.Module], Tensor]


def layers_with_weights(model: nn.Module, order: Sequence[str] = ()) -> list[str]:
    """Return modules with parameters of their own, from the output back; see `randomised`."""
    names = [name for name, module in model.named_modules() if _own_parameters(module)]
    met = {name: place for place, name in enumerate(order)}
    # Stable: those that the forward pass never met stay where they are defined.
    place = -1
    places = {}
    for name in names:
        place = met.get(name, place)
        places[name] = place
    return sorted(names, key=places.__getitem__)[::-1]


def randomised(
    model: nn.Module,
    *,
    cascading: bool = True,
    seed: int = 0,
    order: Sequence[str] = (),
) -> Iterator[tuple[str, nn.Module]]:
    """Yield copies of `model` with random layers: all from the last to each, or each alone.

    Model-parameter randomisation of Adebayo et al. 2018. `order` are the names of modules as the
    forward pass meets them (`Trace.modules`); without it, as the model defines them. A layer that
    knows how is reset to a fresh one; whatever parameters stay as they were are shuffled. Yields
    the layer's name and the copy, of which cascading there is one that changes from yield to
    yield; the model given is not touched.
    """
    changed = copy.deepcopy(model)
    for name in layers_with_weights(model, order):
        if not cascading:
            changed = copy.deepcopy(model)
        with isolated_rng(derive_seed("sanity", seed, name)), torch.no_grad():
            module: Any = changed.get_submodule(name)
            before = [parameter.clone() for parameter in _own_parameters(module)]
            if hasattr(module, "reset_parameters") and not is_parametrized(module):
                module.reset_parameters()
            for parameter, old in zip(_own_parameters(module), before, strict=True):
                # A weight norm computes the weight that was reset from these.
                if torch.equal(parameter, old):
                    places = torch.randperm(parameter.numel(), device=parameter.device)
                    parameter.copy_(parameter.flatten()[places].view(parameter.shape))
        yield name, changed


def _own_parameters(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))


def maps_under_randomisation(
    model: nn.Module, make: Make, *, cascading: bool = True, seed: int = 0
) -> Iterator[tuple[str, Tensor]]:
    """Return `make(model)` of each of the `randomised` copies, by the layer's name."""
    for name, copied in randomised(model, cascading=cascading, seed=seed):
        yield name, make(copied)
