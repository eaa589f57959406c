"""How good every map is: deletion, insertion, sanity, stability, with intervals over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.explain.completeness import gaps
from experiments.explain.config import ExplainOptions
from robustkit import explain
from robustkit.compute import torch_generator
from robustkit.errors import ExplainError
from robustkit.explain import Similarity, mean_interval
from robustkit.explain.methods import Maps, MapSettings, make_maps
from robustkit.models import Classifier

CONTROLS = ("random", "edges")


def score_maps(
    model: Classifier,
    images: Tensor,
    targets: Tensor,
    maps: Mapping[str, Maps],
    residuals: Tensor | None,
    options: ExplainOptions,
    settings: MapSettings,
) -> dict[str, Any]:
    """By method, and for the two controls where they apply, the figures as plain values.

    `residuals` (N,) are what CAV misses of each score, None where it has no convention.
    """
    methods = list(maps)
    pixels = {name: each.pixels for name, each in maps.items()}
    pixels |= {
        "random": explain.random_maps(images, options.seed),
        "edges": explain.edges(images),
    }
    scores: dict[str, Any] = {
        name: _curves(model, images, targets, each, options) for name, each in pixels.items()
    }
    sanity = _sanity(model, images, targets, maps, methods, settings)
    stability = _stability(model, images, targets, maps, methods, options, settings)
    missed = gaps(model, images, targets, maps, residuals, settings)
    for name in methods:
        scores[name] |= {"sanity": sanity[name], "stability": stability[name]}
        gap = missed.get(name)
        scores[name]["completeness"] = None if gap is None else mean_interval(gap.abs().tolist())
    return scores


def _curves(
    model: Classifier, images: Tensor, targets: Tensor, maps: Tensor, options: ExplainOptions
) -> dict[str, Any]:
    steps = min(options.steps, images.shape[2] * images.shape[3])
    deleted = explain.deletion(model, images, targets, maps, steps=steps, baseline=options.fill)
    inserted = explain.insertion(model, images, targets, maps, steps=steps)
    return {
        name: {
            **mean_interval(curve.area.tolist(), options.seed),
            "curve": curve.probability.mean(dim=0).tolist(),
        }
        for name, curve in (("deletion", deleted), ("insertion", inserted))
    }


def _sanity(
    model: Classifier,
    images: Tensor,
    targets: Tensor,
    maps: Mapping[str, Maps],
    methods: Sequence[str],
    settings: MapSettings,
) -> dict[str, Any]:
    """Rank correlation with the maps of nets whose layers were drawn anew, layer by layer."""
    found: dict[str, Any] = {name: {"cascading": {}, "independent": {}} for name in methods}
    if not any(True for _ in model.parameters()):
        raise ExplainError("the model has no weights to draw anew: give --no-check")
    with explain.trace(model, images[:1], 0, ("input",)) as trace:
        order = trace.modules
    for kind in ("cascading", "independent"):
        copies = explain.randomised(
            model, cascading=kind == "cascading", seed=settings.seed, order=order
        )
        for layer, changed in copies:
            made = make_maps(changed, images, targets, methods, settings)
            for name in methods:
                found[name][kind][layer] = similarity(maps[name].pixels, made[name].pixels)
    for name in methods:
        # What is left of the map when nothing of the model is.
        found[name] |= list(found[name]["cascading"].values())[-1]
    return found


def similarity(first: Tensor, second: Tensor) -> dict[str, Any]:
    """Spearman's rank correlation, signed and of magnitudes, and SSIM; constant maps counted."""
    window = min(7, 2 * ((min(first.shape[-2:]) - 1) // 2) + 1)
    return {
        "signed": _plain(explain.spearman(first, second)),
        "absolute": _plain(explain.spearman(first, second, absolute=True)),
        "ssim": {**_plain(explain.ssim(first, second, window=window)), "window": window},
    }


def _plain(found: Similarity) -> dict[str, Any]:
    return {**mean_interval(list(found.values)), "constant": found.constant}


def _stability(
    model: Classifier,
    images: Tensor,
    targets: Tensor,
    maps: Mapping[str, Maps],
    methods: Sequence[str],
    options: ExplainOptions,
    settings: MapSettings,
) -> dict[str, Any]:
    """Likeness to the maps of the same images under uniform noise."""
    generator = torch_generator("stability", options.seed)
    noise = 2 * torch.rand(images.shape, generator=generator) - 1
    noisy = (images + options.noise * noise.to(images)).clamp(0, 1)
    made = make_maps(model, noisy, targets, methods, settings)
    return {name: similarity(maps[name].pixels, made[name].pixels) for name in methods}


def contrast(first: Mapping[str, Maps], second: Mapping[str, Maps]) -> dict[str, Any]:
    """How alike the maps of two models are, by method."""
    return {name: similarity(first[name].pixels, second[name].pixels) for name in first}


__all__ = ["CONTROLS", "contrast", "score_maps", "similarity"]
