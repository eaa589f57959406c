"""How good every map is: deletion, insertion, sanity, stability, with intervals over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from robustkit import explain
from robustkit.attacks import predict
from robustkit.commands.explain.config import ExplainOptions
from robustkit.compute import torch_generator
from robustkit.errors import ConfigError, ExplainError
from robustkit.explain import Contribution, Similarity, Trace
from robustkit.explain.methods import Maps, MapSettings, make_maps
from robustkit.models import Classifier
from robustkit.stats import mean_over_images


def gaps(
    model: Classifier,
    images: Tensor,
    targets: Tensor,
    maps: Mapping[str, Maps],
    residuals: Tensor | None,
    settings: MapSettings,
) -> dict[str, Tensor]:
    """By method, for those with such a sum, by how much (N,) it misses.

    CAV with its biases adds up to the score, and `residuals` tell by how much not; gradient times
    input to the score, were it not for biases; integrated gradients to the score less that of the
    image they start from, but for the quadrature.
    """
    score = _scores(model, images, targets)
    found: dict[str, Tensor] = {}
    if "cav" in maps and residuals is not None:
        found["cav"] = residuals
    if "gradxinput" in maps:
        found["gradxinput"] = _sum(maps["gradxinput"]) - score
    if "integrated" in maps:
        start = _scores(model, torch.full_like(images, settings.fill), targets)
        found["integrated"] = _sum(maps["integrated"]) - (score - start)
    return found


def _sum(of: Maps) -> Tensor:
    return of.pixels.flatten(1).sum(dim=1).cpu()


def _scores(model: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    return predict(model, images).gather(1, targets.cpu()[:, None])[:, 0]


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
        scores[name]["completeness"] = (
            None if gap is None else mean_over_images(gap.abs().tolist()).to_json()
        )
    return scores


def _curves(
    model: Classifier, images: Tensor, targets: Tensor, maps: Tensor, options: ExplainOptions
) -> dict[str, Any]:
    steps = min(options.steps, images.shape[2] * images.shape[3])
    deleted = explain.deletion(model, images, targets, maps, steps=steps, baseline=options.fill)
    inserted = explain.insertion(model, images, targets, maps, steps=steps)
    return {
        name: {
            **mean_over_images(curve.area.tolist(), options.seed).to_json(),
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
    return {**mean_over_images(list(found.values)).to_json(), "constant": found.constant}


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


TOP = 10


def check_mask(model: Classifier, images: Tensor, options: ExplainOptions) -> None:
    """Raise `ConfigError` or `ExplainError` for a box or a place that is not there."""
    box = options.box()
    height, width = images.shape[2:]
    if box is not None and (box[2] > width or box[3] > height):
        raise ConfigError(f"--mask {','.join(options.mask or ())}: images are {width} x {height}")
    if options.mask is None:
        return
    layer = "input" if options.at == "pixels" else options.at
    with explain.trace(model, images[:1], 0, (layer,)) as trace:
        if box is None:
            explain.cav(trace)  # whose signs they are
        if options.at == "pixels":
            return
        found = [name for name in trace.layers if name != "input"]
        maps = [name for name in found if trace.layers[name].dim() == 4]
    if found != [options.at] or maps != [options.at]:
        raise ConfigError(
            f"--at {options.at}: name one module that is called once and gives (N,C,H,W), or pixels"
        )


def masking_check(
    model: Classifier,
    images: Tensor,
    targets: Tensor,
    options: ExplainOptions,
    classes: tuple[str, ...],
) -> dict[str, Any]:
    """Scores and the highest classes before and after, and what linearity predicts."""
    layer = "input" if options.at == "pixels" else options.at
    with explain.trace(model, images, targets, (layer,)) as trace:
        found = contributions(trace, paper=options.paper).get(layer)
        shape = trace.layers[layer].shape
    region = _region(found, shape, images, options)
    masked = explain.disable(model, images, targets, found, region, layer, fill=options.fill)
    before, after = masked.scores()
    tops = masked.top(TOP)
    return {
        "at": options.at,
        "what": ",".join(options.mask or ()),
        "fill": options.fill,
        "quantile": options.quantile,
        "images": [
            {
                "share": float(masked.share[row]),
                "before": float(before[row]),
                "after": float(after[row]),
                "predicted": None if masked.predicted is None else float(masked.predicted[row]),
                "top_before": [classes[int(k)] for k in tops[0][row]],
                "top_after": [classes[int(k)] for k in tops[1][row]],
            }
            for row in range(len(images))
        ],
    }


def contributions(trace: Trace, *, paper: bool) -> Mapping[str, Contribution]:
    """CAV at every layer of a trace; nothing where the net does what has no convention."""
    try:
        return explain.cav(trace, paper=paper)
    except ExplainError:
        return {}


def _region(
    found: Contribution | None, shape: Sequence[int], images: Tensor, options: ExplainOptions
) -> Tensor:
    """Bool (N,h,w) over the layer's maps; a box in pixels covers what it touches of a layer."""
    box = options.box()
    if box is None:
        assert options.mask is not None
        assert found is not None  # checked beforehand
        return explain.signed_region(found, options.mask[0], options.quantile)
    left, top, right, bottom = box
    height, width = images.shape[2:]
    rows, columns = shape[2:]
    region = torch.zeros(len(images), rows, columns, dtype=torch.bool)
    down = slice(top * rows // height, -(-bottom * rows // height))
    across = slice(left * columns // width, -(-right * columns // width))
    region[:, down, across] = True
    return region
