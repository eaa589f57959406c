"""Which weights to change: by the history of training, by Arachne, or at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from robustkit.compute import torch_generator
from robustkit.data import ImageSet
from robustkit.errors import RepairError
from robustkit.repair.config import RepairConfig
from robustkit.repair.impacts import Impacts, impacts
from robustkit.repair.ranking import Masks, both, divided, pareto_front, size, top, without
from robustkit.repair.sets import RepairSets
from robustkit.repair.weights import Layer, Selection, net_of, repairable, select, weight_of


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
    """All that Equation 5 is made of: impacts of both sets, and how far each weight moved."""

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
    if counts["n_deg"] == 0:
        raise RepairError(
            f"no degraded images to localise by: {_listed(counts)}; repair on more images, another "
            "checkpoint, or by a method without history"
        )
    notes: list[str] = []
    if counts["n_imp"] == 0 and config.use_imp:
        if config.on_empty != "drop-imp":
            raise RepairError(
                f"no improved images to localise by: {_listed(counts)}; on_empty 'drop-imp' goes "
                "on without them"
            )
        config = replace(config, use_imp=False)
        notes.append("no improved images: localised without them")
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
    """What the policy for an empty choice allows next: settings, N_g and a note; or nothing."""
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
    """The Pareto front of both impacts among the N_g weights of highest backward impact on neg.

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
