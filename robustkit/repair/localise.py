"""Localisation of the weights to change: by the history of training, Arachne, or at random."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from robustkit.compute import device_of, torch_generator
from robustkit.data import ImageSet, batches
from robustkit.errors import RepairError
from robustkit.models.state import state_preserved
from robustkit.repair.config import RepairConfig
from robustkit.repair.sets import RepairSets
from robustkit.repair.weights import (
    Layer,
    Selection,
    net_of,
    repairable,
    seen_by_net,
    select,
    weight_of,
)

BATCH = 250


@dataclass(frozen=True, eq=False)
class Impacts:
    """Impacts by layer name: float32 tensors of the shape of the layer's weight, on the CPU.

    `backward` is |∂L/∂w|, L the mean cross-entropy of the set; `forward` the set's mean of
    |o·w|, o what the weight is multiplied with. In a convolution the mean is over the positions of
    its kernel, too.
    """

    backward: Mapping[str, Tensor]
    forward: Mapping[str, Tensor]


def impacts(model: nn.Module, images: ImageSet, layers: Mapping[str, Layer]) -> Impacts:
    """Return both impacts of the weights of `layers` on `images`, in evaluation mode.

    o·w is linear in w, so its mean magnitude is mean|o|·|w|: one forward and one backward pass
    serve both, and nothing of the size of images times weights is ever made.
    """
    device = device_of(model)
    gradients = {name: torch.zeros_like(layer.weight) for name, layer in layers.items()}
    inputs: dict[str, Tensor] = {}
    with state_preserved(model), ExitStack() as hooks:
        for name, layer in layers.items():
            hook = layer.register_forward_pre_hook(_adding(name, inputs))
            hooks.callback(hook.remove)
        leaves = {
            f"{name}.weight": layer.weight.detach().requires_grad_(True)
            for name, layer in layers.items()
        }
        for rows in batches(len(images), BATCH):
            pixels, labels = images.floats(rows).to(device), images.labels[rows].to(device)
            logits = functional_call(net_of(model), leaves, (seen_by_net(model, pixels),))
            loss = F.cross_entropy(logits, labels, reduction="sum") / len(images)
            found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
            for name, gradient in zip(layers, found, strict=True):
                if gradient is not None:
                    gradients[name] += gradient
    forward = {
        name: spread(layer, inputs[name] / len(images)) * layer.weight.detach().abs()
        if name in inputs
        else torch.zeros_like(layer.weight)
        for name, layer in layers.items()
    }
    return Impacts(
        backward={name: each.abs().cpu() for name, each in gradients.items()},
        forward={name: each.cpu() for name, each in forward.items()},
    )


def _adding(name: str, sums: dict[str, Tensor]) -> Any:
    """Return a hook that adds up the magnitudes that each weight of a layer is multiplied with."""

    def hook(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        with torch.no_grad():
            seen = _magnitude(layer, arguments[0].detach().abs())
            sums[name] = seen if name not in sums else sums[name] + seen

    return hook


def _magnitude(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Per input (d,) or per kernel entry (C·kh·kw,): the sum over images of the mean of `inputs`
    over positions."""
    if isinstance(layer, nn.Conv2d):
        # The mean is linear: of the images' sum alone, patches are as many as of one image.
        return patches(layer, inputs.sum(dim=0, keepdim=True)).mean(dim=2)[0]
    return inputs.reshape(len(inputs), -1, inputs.shape[-1]).mean(dim=1).sum(dim=0)


def patches(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Return the inputs under the kernel at each position: (n,C,H,W) to (n, C·kh·kw, positions)."""
    padding = layer._reversed_padding_repeated_twice
    if any(padding):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        x = F.pad(x, padding, mode=mode)
    return F.unfold(x, layer.kernel_size, layer.dilation, stride=layer.stride)


def spread(layer: Layer, inputs: Tensor) -> Tensor:
    """Expand a number per input of the layer to one per weight, in the weight's shape.

    In a grouped convolution every output sees the inputs of its own group alone.
    """
    if isinstance(layer, nn.Linear):
        return inputs.expand_as(layer.weight)
    shape = layer.weight.shape
    grouped = inputs.reshape(layer.groups, 1, *shape[1:])
    return grouped.expand(layer.groups, shape[0] // layer.groups, *shape[1:]).reshape(shape)


Scores = Mapping[str, Tensor]
Masks = dict[str, Tensor]


def top(scores: Scores, count: int, *, per_layer: bool = False) -> Masks:
    """Return bool masks of the `count` weights of highest score; of each layer's, if `per_layer`.

    `scores` are float tensors by layer name. A score of zero is never among the top: such a weight
    has nothing to do with the matter. Ties go by layer name, then by index.
    """
    if per_layer:
        return {name: _top({name: each}, count)[name] for name, each in scores.items()}
    return _top(scores, count)


def _top(scores: Scores, count: int) -> Masks:
    names = sorted(scores)
    flat = torch.cat([scores[name].flatten() for name in names])
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    chosen[torch.sort(flat, descending=True, stable=True).indices[:count]] = True
    chosen &= flat > 0
    found = divided(chosen, {name: scores[name] for name in names})
    return {name: found[name] for name in scores}


def divided(flat: Tensor, like: Scores) -> Masks:
    """Cut one long vector into tensors of the shapes of `like`, in its order."""
    parts = torch.split(flat, [each.numel() for each in like.values()])
    return {name: part.view_as(like[name]) for name, part in zip(like, parts, strict=True)}


def both(first: Masks, second: Masks) -> Masks:
    """Return the intersection of two sets of weights."""
    return {name: mask & second[name] for name, mask in first.items()}


def without(first: Masks, second: Masks) -> Masks:
    """Return the difference of two sets of weights."""
    return {name: mask & ~second[name] for name, mask in first.items()}


def size(masks: Masks) -> int:
    """Return how many weights are in the set."""
    return sum(int(mask.sum()) for mask in masks.values())


def pareto_front(first: Tensor, second: Tensor) -> Tensor:
    """Return a mask (N,) of the points that no other point dominates in two scores (N,).

    Both are to be large. Equal points stand or fall together.
    """
    order = torch.argsort(second, descending=True, stable=True)
    order = order[torch.argsort(first[order], descending=True, stable=True)]
    high, level = first[order], second[order]
    # The best second score among points of a higher first one, and among those of the same.
    start = torch.searchsorted(-high, -high)
    best = level.cummax(dim=0).values
    before = torch.where(start > 0, best[(start - 1).clamp_min(0)], -torch.inf)
    front = torch.zeros_like(first, dtype=torch.bool)
    front[order] = (level > before) & (level == level[start])
    return front


@dataclass(frozen=True, eq=False)
class Localisation:
    """The chosen weights; `sizes` of every set of weights on the way; `notes` on what was relaxed.

    `top` is N_g as it was used.
    """

    selection: Selection
    top: int
    sizes: Mapping[str, int]
    notes: tuple[str, ...] = field(default=())


def localise(
    model: nn.Module,
    images: ImageSet,
    sets: RepairSets,
    config: RepairConfig,
    previous: nn.Module | None = None,
) -> Localisation:
    """Choose weights of `model` as `config.localisation` says.

    Raises `RepairError` where nothing is chosen, with the sizes of all sets, and where training
    history is asked for and there is none.
    """
    layers = repairable(model, config.layers)
    if config.localisation == "random":
        return _random(layers, config)
    if config.localisation == "arachne":
        return _arachne(model, images, sets, config, layers)
    if previous is None:
        raise RepairError(
            "localisation by history needs the checkpoint before the model's (--previous, or --run)"
        )
    return _history(model, images, sets, config, layers, previous)


# ------------------------------------------------------------------------------------- history


@dataclass(frozen=True, eq=False)
class _Evidence:
    """The terms of Equation 5: impacts of both sets, and how far each weight moved."""

    deg: Impacts
    imp: Impacts
    moved: Mapping[str, Tensor]


def _history(
    model: nn.Module,
    images: ImageSet,
    sets: RepairSets,
    config: RepairConfig,
    layers: Mapping[str, Layer],
    previous: nn.Module,
) -> Localisation:
    counts = sets.counts()
    config, notes = _fitted_to(counts, config)
    _check_previous(previous, layers)
    evidence = _Evidence(
        impacts(model, images.subset(torch.nonzero(sets.deg).squeeze(1)), layers),
        impacts(model, images.subset(torch.nonzero(sets.imp).squeeze(1)), layers)
        if config.use_imp
        else Impacts({}, {}),
        {
            name: (layer.weight - weight_of(previous, name)).detach().abs().cpu()
            for name, layer in layers.items()
        },
    )
    candidates = sum(layer.weight.numel() for layer in layers.values())
    count = config.top or config.per_image * (counts["n_deg"] + counts["n_imp"])
    found = _equation_5(evidence, min(count, candidates), config)
    while not len(found.selection):
        relaxed = _relax(config, found.top, candidates)
        if relaxed is None:
            raise RepairError(
                f"localisation chose no weight: {_listed({**counts, **found.sizes})}, top "
                f"{found.top} of {candidates} weights; try on_empty grow, drop-imp or drop-diff"
            )
        config, count, note = relaxed
        notes.append(note)
        found = _equation_5(evidence, count, config)
    return replace(found, notes=tuple(notes))


def _fitted_to(counts: Mapping[str, int], config: RepairConfig) -> tuple[RepairConfig, list[str]]:
    """Return settings that sets of these sizes allow, and notes on what they leave out.

    Raises `RepairError` where there is nothing to localise by.
    """
    if counts["n_deg"] == 0:
        raise RepairError(
            f"no degraded images to localise by: {_listed(counts)}; repair on more images, another "
            "checkpoint, or by a method without history"
        )
    if counts["n_imp"] or not config.use_imp:
        return config, []
    if config.on_empty != "drop-imp":
        raise RepairError(
            f"no improved images to localise by: {_listed(counts)}; on_empty 'drop-imp' goes "
            "on without them"
        )
    return replace(config, use_imp=False), ["no improved images: localised without them"]


def _check_previous(previous: nn.Module, layers: Mapping[str, Layer]) -> None:
    """Refuse a checkpoint that does not have the weights whose history is asked for."""
    older = dict(net_of(previous).named_parameters())
    for name, layer in layers.items():
        there = older.get(f"{name}.weight")
        if there is None or there.shape != layer.weight.shape:
            found = "none" if there is None else tuple(there.shape)
            raise RepairError(
                f"the previous checkpoint is of another architecture: '{name}' has weights "
                f"{tuple(layer.weight.shape)} in the model, {found} before"
            )


def _equation_5(evidence: _Evidence, count: int, config: RepairConfig) -> Localisation:
    """(B_deg ∩ F_deg ∩ W_diff) \\ (B_imp ∩ F_imp), or what the options leave of it."""

    def best(scores: Mapping[str, Tensor]) -> Masks:
        return top(scores, count, per_layer=config.ranking == "layer")

    def impact(of: Impacts) -> Masks:
        if config.impacts == "forward":
            return best(of.forward)
        if config.impacts == "backward":
            return best(of.backward)
        return both(best(of.backward), best(of.forward))

    chosen = impact(evidence.deg)
    sizes = {"deg": size(chosen)}
    if config.use_diff:
        moved = best(evidence.moved)
        chosen = both(chosen, moved)
        sizes |= {"diff": size(moved), "deg & diff": size(chosen)}
    if config.use_imp:
        imp = impact(evidence.imp)
        chosen = without(chosen, imp)
        sizes |= {"imp": size(imp)}
    sizes |= {"chosen": size(chosen)}
    return Localisation(select(chosen), count, sizes)


def _relax(
    config: RepairConfig, count: int, candidates: int
) -> tuple[RepairConfig, int, str] | None:
    """Return the settings, N_g and note that `on_empty` allows next; None if nothing is left."""
    if config.on_empty == "grow" and count < candidates:
        wider = min(2 * count, candidates)
        return config, wider, f"nothing chosen of the top {count}: took the top {wider}"
    if config.on_empty == "drop-imp" and config.use_imp:
        return (
            replace(config, use_imp=False),
            count,
            "nothing chosen: kept what improved ones use",
        )
    if config.on_empty == "drop-diff" and config.use_diff:
        return replace(config, use_diff=False), count, "nothing chosen: left out how weights moved"
    return None


# ------------------------------------------------------------------------------------- arachne


def _arachne(
    model: nn.Module,
    images: ImageSet,
    sets: RepairSets,
    config: RepairConfig,
    layers: Mapping[str, Layer],
) -> Localisation:
    """Return the Pareto front of both impacts among the N_g weights of highest backward impact.

    Sohn et al., Arachne, section 3.2; N_g = 20·|neg| is its implementations'.
    """
    failures = images.subset(torch.nonzero(sets.neg).squeeze(1))
    found = impacts(model, failures, layers)
    candidates = sum(layer.weight.numel() for layer in layers.values())
    count = min(config.top or config.per_image * len(failures), candidates)
    pool = top(found.backward, count, per_layer=config.ranking == "layer")
    inside = torch.cat([mask.flatten() for mask in pool.values()])
    backward, forward = (
        torch.cat([each[name].flatten() for name in pool])[inside]
        for each in (found.backward, found.forward)
    )
    front = torch.zeros_like(inside)
    front[inside] = pareto_front(backward, forward)
    chosen = divided(front, pool)
    sizes = {"backward": size(pool), "chosen": size(chosen)}
    if not sizes["chosen"]:
        raise RepairError("no weight has any impact on the failures: their gradients are all zero")
    return Localisation(select(chosen), count, sizes)


# -------------------------------------------------------------------------------------- random


def _random(layers: Mapping[str, Layer], config: RepairConfig) -> Localisation:
    """`top` weights, each as likely as any other: the control."""
    candidates = sum(layer.weight.numel() for layer in layers.values())
    if config.top is None:
        raise RepairError("random localisation needs to be told how many weights (top)")
    count = min(config.top, candidates)
    flat = torch.zeros(candidates, dtype=torch.bool)
    flat[torch.randperm(candidates, generator=torch_generator("localise", config.seed))[:count]] = (
        True
    )
    masks = divided(flat, {name: layer.weight for name, layer in layers.items()})
    return Localisation(select(masks), count, {"chosen": count})


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
