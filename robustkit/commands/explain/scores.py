"""How good maps are: deletion, insertion, sanity, stability and completeness, over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from robustkit import explain
from robustkit.attacks import predict
from robustkit.commands.explain.config import ExplainOptions
from robustkit.commands.explain.result import (
    Area,
    Completeness,
    Image,
    MapSimilarity,
    MeanSimilarity,
    MeanSsim,
    Sanity,
    Score,
    Scores,
    take_fields,
)
from robustkit.commands.explain.subject import Subject
from robustkit.compute import torch_generator
from robustkit.errors import ExplainError
from robustkit.explain import Similarity
from robustkit.explain.methods import Maps, make_maps
from robustkit.stats import mean_over_images


def score_maps(
    subject: Subject,
    targets: Tensor,
    maps: Mapping[str, Maps],
    images: Sequence[Image],
    options: ExplainOptions,
) -> Scores:
    """Return the scores of the maps by method, and the curves of the two controls.

    `images` are the descriptions of the subject's images, in their order.
    """
    sanity = _sanity(subject, targets, maps, options)
    stability = _stability(subject, targets, maps, options)
    gaps = _completeness_gaps(subject, targets, maps, images, options)
    scores = {}
    for name, method in maps.items():
        deletion, insertion = _curves(subject, targets, method.pixels, options)
        gap = gaps.get(name)
        scores[name] = Score(
            deletion=deletion,
            insertion=insertion,
            sanity=sanity[name],
            stability=stability[name],
            completeness=None
            if gap is None
            else take_fields(Completeness, mean_over_images(gap.abs().tolist())),
        )
    controls = {
        "random": explain.random_maps(subject.pixels, options.seed),
        "edges": explain.edges(subject.pixels),
    }
    for name, pixels in controls.items():
        deletion, insertion = _curves(subject, targets, pixels, options)
        scores[name] = Score(deletion=deletion, insertion=insertion)
    return scores


def similarity(first: Tensor, second: Tensor) -> MapSimilarity:
    """Return how similar maps (N,H,W) are: Spearman's rank correlation and SSIM, over images."""
    window = min(7, 2 * ((min(first.shape[-2:]) - 1) // 2) + 1)
    ssim = _mean_similarity(explain.ssim(first, second, window=window))
    return MapSimilarity(
        signed=_mean_similarity(explain.spearman(first, second)),
        absolute=_mean_similarity(explain.spearman(first, second, absolute=True)),
        ssim=take_fields(MeanSsim, ssim, window=window),
    )


def _mean_similarity(values: Similarity) -> MeanSimilarity:
    mean = mean_over_images(list(values.values))
    return take_fields(MeanSimilarity, mean, constant=values.constant)


def _curves(
    subject: Subject, targets: Tensor, maps: Tensor, options: ExplainOptions
) -> tuple[Area, Area]:
    """Return the areas under the curves of deletion and of insertion."""
    model, images = subject.model, subject.pixels
    steps = min(options.steps, images.shape[2] * images.shape[3])
    deleted = explain.deletion(model, images, targets, maps, steps=steps, baseline=options.fill)
    inserted = explain.insertion(model, images, targets, maps, steps=steps)
    deletion, insertion = (
        take_fields(
            Area,
            mean_over_images(curve.area.tolist(), options.seed),
            curve=curve.probability.mean(dim=0).tolist(),
        )
        for curve in (deleted, inserted)
    )
    return deletion, insertion


def _sanity(
    subject: Subject, targets: Tensor, maps: Mapping[str, Maps], options: ExplainOptions
) -> dict[str, Sanity]:
    """Return the similarity to the maps of models whose layers are random, layer by layer."""
    model, methods = subject.model, list(maps)
    if not any(True for _ in model.parameters()):
        raise ExplainError("the model has no weights to draw anew: give --no-check")
    with explain.trace(model, subject.pixels[:1], 0, ("input",)) as trace:
        order = trace.modules
    cascading: dict[str, dict[str, MapSimilarity]] = {name: {} for name in methods}
    independent: dict[str, dict[str, MapSimilarity]] = {name: {} for name in methods}
    for similarities in (cascading, independent):
        copies = explain.randomised(
            model, cascading=similarities is cascading, seed=options.seed, order=order
        )
        for layer, changed in copies:
            changed_maps = make_maps(
                changed, subject.pixels, targets, methods, options.map_settings()
            )
            for name in methods:
                similarities[name][layer] = similarity(maps[name].pixels, changed_maps[name].pixels)
    return {
        name: take_fields(
            Sanity,
            list(cascading[name].values())[-1],  # all of the model's weights are random
            cascading=cascading[name],
            independent=independent[name],
        )
        for name in methods
    }


def _stability(
    subject: Subject, targets: Tensor, maps: Mapping[str, Maps], options: ExplainOptions
) -> dict[str, MapSimilarity]:
    """Return the similarity to the maps of the same images under uniform noise."""
    images = subject.pixels
    generator = torch_generator("stability", options.seed)
    noise = 2 * torch.rand(images.shape, generator=generator) - 1
    noisy = (images + options.noise * noise.to(images)).clamp(0, 1)
    noisy_maps = make_maps(subject.model, noisy, targets, list(maps), options.map_settings())
    return {name: similarity(maps[name].pixels, noisy_maps[name].pixels) for name in maps}


def _completeness_gaps(
    subject: Subject,
    targets: Tensor,
    maps: Mapping[str, Maps],
    images: Sequence[Image],
    options: ExplainOptions,
) -> dict[str, Tensor]:
    """Return, for methods whose maps add up to something, by how much (N,) they miss it.

    CAV with its biases adds up to the score, where it has a convention for the model; gradient
    times input to the score, but for biases; integrated gradients to the score minus that of the
    image they start from, but for the quadrature.
    """
    score = _target_scores(subject, subject.pixels, targets)
    residuals = [image.residual_max for image in images if image.residual_max is not None]
    gaps: dict[str, Tensor] = {}
    if "cav" in maps and len(residuals) == len(images):
        gaps["cav"] = torch.tensor(residuals)
    if "gradxinput" in maps:
        gaps["gradxinput"] = _sum(maps["gradxinput"]) - score
    if "integrated" in maps:
        start = torch.full_like(subject.pixels, options.fill)
        gained = score - _target_scores(subject, start, targets)
        gaps["integrated"] = _sum(maps["integrated"]) - gained
    return gaps


def _sum(maps: Maps) -> Tensor:
    return maps.pixels.flatten(1).sum(dim=1).cpu()


def _target_scores(subject: Subject, images: Tensor, targets: Tensor) -> Tensor:
    return predict(subject.model, images).gather(1, targets.cpu()[:, None])[:, 0]
