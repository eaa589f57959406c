"""From a subject and options to maps, pictures and a summary."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec import UNSET
from numpy.typing import NDArray
from torch import Tensor

from robustkit import explain
from robustkit.attacks import predict
from robustkit.commands.explain.config import ExplainOptions
from robustkit.commands.explain.panels import draw_panels
from robustkit.commands.explain.result import (
    Image,
    MapSimilarity,
    MaskedImage,
    Masking,
    OtherPrediction,
    Summary,
)
from robustkit.commands.explain.scores import score_maps, similarity
from robustkit.commands.explain.subject import Subject
from robustkit.errors import ConfigError, ExplainError
from robustkit.explain import Contribution, Trace
from robustkit.explain.methods import Maps, make_maps
from robustkit.jobs import Log
from robustkit.models import Classifier
from robustkit.runs import RunFolder, atomic_path

TOP_CLASSES = 10  # classes of highest score that the masking check names


def run_explain(subject: Subject, options: ExplainOptions, folder: RunFolder, log: Log) -> Summary:
    """Make all maps, write `maps.npz` and a panel for each image, and return the summary."""
    images, targets = subject.pixels, subject.targets(options.target)
    check_mask(subject.model, images, options)
    maps = make_maps(subject.model, images, targets, options.method, options.map_settings())
    described = describe_images(subject, targets, options)
    others = None
    if subject.other is not None:
        log("the same maps of the other model")
        others = _other_maps(subject.other, images, targets, options)
    masking = None
    if options.mask is not None:
        log("masking check")
        masking = masking_check(subject, targets, options)
    scores = None
    if options.check:
        log("deletion, insertion, sanity and stability")
        scores = score_maps(subject, targets, maps, described, options)
    write_arrays(folder.file("maps.npz"), _arrays(images, maps, others))
    for name, picture in draw_panels(subject, targets, maps, others):
        with atomic_path(folder.file(name)) as temporary:
            temporary.write_bytes(picture)
    return Summary(
        images=described,
        pixel_space=UNSET if subject.loaded is None else subject.loaded.pixel_space(),
        transfer=UNSET if subject.transfer is None else subject.transfer,
        contrast=UNSET if others is None else _contrast(maps, others),
        mask=UNSET if masking is None else masking,
        scores=UNSET if scores is None else scores,
    )


def describe_images(subject: Subject, targets: Tensor, options: ExplainOptions) -> list[Image]:
    """Return the predictions for every image, and by how much CAV misses its score."""
    with explain.trace(subject.model, subject.pixels, targets, options.layers) as trace:
        residual = None
        cuts = [layer for layer in _contributions(trace, options).values() if layer.cut]
        if cuts:
            residual = torch.stack([layer.residual.abs() for layer in cuts]).amax(dim=0)
        probabilities = trace.logits.softmax(dim=1)
        predicted = trace.logits.argmax(dim=1)
        score = trace.score
    classes = subject.classes
    others = _other_predictions(subject, targets)
    return [
        Image(
            index=name,
            true=None if subject.labels is None else classes[int(subject.labels[row])],
            predicted=classes[int(predicted[row])],
            target=classes[int(targets[row])],
            score=float(score[row]),
            probability=float(probabilities[row, targets[row]]),
            residual_max=None if residual is None else float(residual[row]),
            other=others[row],
        )
        for row, name in enumerate(subject.names)
    ]


def check_mask(model: Classifier, images: Tensor, options: ExplainOptions) -> None:
    """Raise `ConfigError` or `ExplainError` for a box or a module that is not there."""
    box = options.box()
    height, width = images.shape[2:]
    if box is not None and (box[2] > width or box[3] > height):
        raise ConfigError(f"--mask {','.join(options.mask or ())}: images are {width} x {height}")
    if options.mask is None:
        return
    layer = _masked_layer(options)
    with explain.trace(model, images[:1], 0, (layer,)) as trace:
        if box is None:
            explain.cav(trace)  # whose signs they are
        if options.at == "pixels":
            return
        layers = [name for name in trace.layers if name != "input"]
        maps = [name for name in layers if trace.layers[name].dim() == 4]
    if layers != [options.at] or maps != [options.at]:
        raise ConfigError(
            f"--at {options.at}: name one module that is called once and gives (N,C,H,W), or pixels"
        )


def masking_check(subject: Subject, targets: Tensor, options: ExplainOptions) -> Masking:
    """Return scores and highest classes before and after masking, and a linear prediction."""
    layer, images, classes = _masked_layer(options), subject.pixels, subject.classes
    with explain.trace(subject.model, images, targets, (layer,)) as trace:
        contribution = _contributions(trace, options).get(layer)
        shape = trace.layers[layer].shape
    region = _region(contribution, shape, images, options)
    masked = explain.disable(
        subject.model, images, targets, contribution, region, layer, fill=options.fill
    )
    before, after = masked.scores()
    top_before, top_after = masked.top(TOP_CLASSES)
    return Masking(
        at=options.at,
        what=",".join(options.mask or ()),
        fill=options.fill,
        quantile=options.quantile,
        images=[
            MaskedImage(
                share=float(masked.share[row]),
                before=float(before[row]),
                after=float(after[row]),
                predicted=None if masked.predicted is None else float(masked.predicted[row]),
                top_before=[classes[int(number)] for number in top_before[row]],
                top_after=[classes[int(number)] for number in top_after[row]],
            )
            for row in range(len(images))
        ],
    )


def write_arrays(file: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an `.npz`, whole or not at all, the same bytes for the same arrays."""
    packed = io.BytesIO()
    # np.savez takes names as keywords, "file" among them.
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    with atomic_path(file) as temporary:
        temporary.write_bytes(packed.getvalue())


def _other_maps(
    other: Classifier, images: Tensor, targets: Tensor, options: ExplainOptions
) -> dict[str, Maps]:
    try:
        return make_maps(other, images, targets, options.method, options.map_settings())
    except ExplainError as error:
        raise ExplainError(f"the other model: {error}") from None


def _contrast(first: Mapping[str, Maps], second: Mapping[str, Maps]) -> dict[str, MapSimilarity]:
    """Return the similarity of two models' maps, by method."""
    return {name: similarity(first[name].pixels, second[name].pixels) for name in first}


def _other_predictions(subject: Subject, targets: Tensor) -> Sequence[OtherPrediction | None]:
    """Return the other model's prediction for every image; None without one."""
    if subject.other is None:
        return [None] * len(targets)
    logits = predict(subject.other, subject.images)
    return [
        OtherPrediction(
            predicted=subject.classes[int(logits[row].argmax())],
            score=float(logits[row, target]),
            probability=float(logits[row].softmax(dim=0)[target]),
        )
        for row, target in enumerate(targets)
    ]


def _contributions(trace: Trace, options: ExplainOptions) -> Mapping[str, Contribution]:
    """Return CAV at every layer of a trace; nothing where it has no convention for the model."""
    try:
        return explain.cav(trace, paper=options.paper)
    except ExplainError:
        return {}


def _masked_layer(options: ExplainOptions) -> str:
    return "input" if options.at == "pixels" else options.at


def _region(
    contribution: Contribution | None,
    shape: Sequence[int],
    images: Tensor,
    options: ExplainOptions,
) -> Tensor:
    """Return bool (N,h,w) over the layer's maps; a box covers what it touches of a layer."""
    box = options.box()
    if box is None:
        assert options.mask is not None
        assert contribution is not None  # checked beforehand
        return explain.signed_region(contribution, options.mask[0], options.quantile)
    left, top, right, bottom = box
    height, width = images.shape[2:]
    rows, columns = shape[2:]
    region = torch.zeros(len(images), rows, columns, dtype=torch.bool)
    down = slice(top * rows // height, -(-bottom * rows // height))
    across = slice(left * columns // width, -(-right * columns // width))
    region[:, down, across] = True
    return region


def _arrays(
    images: Tensor, maps: Mapping[str, Maps], others: Mapping[str, Maps] | None
) -> dict[str, NDArray[Any]]:
    """Return METHOD (N,H,W), METHOD/LAYER (N,h,w) at the layer's own size, and contrast/…."""
    arrays: dict[str, NDArray[Any]] = {"images": images.numpy()}
    for prefix, maps_by_method in (("", maps), ("contrast/", others or {})):
        for name, method in maps_by_method.items():
            arrays[f"{prefix}{name}"] = method.pixels.cpu().numpy()
            for layer, values in method.layers.items():
                arrays[f"{prefix}{name}/{layer}"] = values.cpu().numpy()
    return arrays
