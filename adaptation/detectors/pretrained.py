"""Published detectors that start from trained weights: COCO's, or those of a classifier."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models as torchvision_models

from adaptation.detectors.norms import BATCH, FROZEN
from adaptation.detectors.published import (
    BACKBONE,
    FROZEN_NORMS,
    WEIGHTS,
    Start,
    check_published,
    coco_classes,
    from_classifier,
    in_words_of,
    published,
    statistics_of,
)
from robustkit.compute.seeds import isolated_rng
from robustkit.errors import ModelError, did_you_mean
from robustkit.models.weights import cached_download, check_weights, read_weights
from robustkit.reading import typed_path

COUNTS = ".num_batches_tracked"
# What depends on the classes: the last layer of each classifier, and Faster R-CNN's boxes by class.
_HEAD = re.compile(
    r"roi_heads\.box_predictor\..*|head\.classification_head\.(cls_logits\.\w+|"
    r"module_list\.\d+\.(1\.)?(weight|bias))"
)


@dataclass(frozen=True, eq=False)
class Started:
    """A published detector with trained weights, and what its card has to record of them.

    `notes` are lines for the user; `provenance` names the weights.
    """

    net: nn.Module
    start: Start
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights, what it is called, and its entry in torchvision's enum, if it has one."""

    path: Path
    name: str
    entry: Any = None


def start_from(
    name: str, classes: Sequence[str], source: str, asked: str, *, seed: int | None, download: bool
) -> Started:
    """Return torchvision's detector `name` of `classes`, started from the weights `asked` for.

    `source` "weights": those of the whole detector, trained on COCO. They are put in strictly at
    their own 91 classes; where the classes wanted are others the last layers are exchanged: rows of
    classes that both know by name are kept, the others are fresh from the `seed`, and everything
    else keeps its bits. "weights_backbone": those of the backbone's classifier, whose mean and
    standard deviation the detector takes over. Raises `ModelError` for weights that are unknown,
    not there (`download` allows torchvision's to be fetched), or do not fit.
    """
    check_published(name)
    if source == WEIGHTS:
        return _on_coco(name, tuple(classes), asked, seed, download)
    return _on_classifier(name, len(classes), asked, seed, download)


def find_weights(architecture: str, asked: str, where: str, *, download: bool) -> WeightsFile:
    """Return the file of the weights `asked` for: a name of torchvision's enum, or a path.

    A named one lies in the cache of torch's hub, or is fetched there, its hash checked, if
    `download` allows it. Raises `ModelError`, beginning with `where`.
    """
    enum: Any = torchvision_models.get_model_weights(architecture)
    if asked in enum.__members__:
        entry = enum[asked]
        return WeightsFile(
            cached_download(entry.url, f"{where}={asked}", download=download), entry.name, entry
        )
    if not (Path(asked).suffix or Path(asked).is_file()):
        hint = did_you_mean(asked, enum.__members__)
        raise ModelError(f"{where}={asked}: no such weights{hint}, nor a file of that name")
    called = Path(asked).name
    entry = next((weights for weights in enum if _basename(weights.url) == called), None)
    return WeightsFile(typed_path(asked, error=ModelError), asked, entry)


def _basename(url: str) -> str:
    return url.rpartition("/")[2]


def _on_coco(
    name: str, classes: tuple[str, ...], asked: str, seed: int | None, download: bool
) -> Started:
    where = f"torchvision:{name}?{WEIGHTS}"
    file = find_weights(name, asked, where, download=download)
    tensors = read_weights(file.path)
    # Norms that counted their batches were trained as such, and go on so.
    counted = any(name.startswith("backbone.body") and name.endswith(COUNTS) for name in tensors)
    frozen = name in FROZEN_NORMS and (file.entry is not None or not counted)
    start = Start(WEIGHTS, FROZEN if frozen else BATCH)
    known = in_words_of(coco_classes(), classes)
    with torch.device("meta"):
        described = published(name, len(known), start)
    if frozen:
        names = described.state_dict().keys()
        tensors = {k: v for k, v in tensors.items() if k in names or not k.endswith(COUNTS)}
    check_weights(described, tensors, file.path)
    notes = [f"weights: {file.name}, trained on COCO"]
    with isolated_rng(seed):
        net = published(name, len(classes), start)
    if known == classes:
        net.load_state_dict(tensors)
    else:
        notes.append(_head_note(exchange_head(net, tensors, known, classes), classes))
    notes += _frozen_note(net)
    return Started(net, start, tuple(notes), {WEIGHTS: file.name})


def exchange_head(
    net: nn.Module, state: Mapping[str, Tensor], known: Sequence[str], classes: Sequence[str]
) -> tuple[str, ...]:
    """Copy into `net`, of `classes`, the `state` of the same detector of the classes `known`.

    Of its last layers the rows of background and of classes that both know are copied, the rest
    stays as it is; all other tensors are copied whole. Returns the classes whose rows were kept.
    """
    kept = tuple(name for name in classes if name in known)
    # Label 0 is the background of every detector here.
    rows = [0, *(1 + list(classes).index(name) for name in kept)]
    known_rows = [0, *(1 + list(known).index(name) for name in kept)]
    counts = (1 + len(classes), 1 + len(known))
    merged = {}
    for called, target in net.state_dict().items():
        tensor = state[called]
        if not is_head(called):
            merged[called] = tensor
            continue
        target = target.clone()
        if ".bbox_pred." in called:  # four numbers for each class
            _by_class(target, counts[0])[rows] = _by_class(tensor, counts[1])[known_rows]
        else:  # all classes for each anchor
            _by_anchor(target, counts[0])[:, rows] = _by_anchor(tensor, counts[1])[:, known_rows]
        merged[called] = target
    net.load_state_dict(merged)
    return kept


def is_head(name: str) -> bool:
    """Return whether the tensor `name` of a detector's state depends on its number of classes.

    >>> is_head("head.classification_head.cls_logits.weight")
    True
    >>> is_head("head.classification_head.conv.0.weight")
    False
    """
    return _HEAD.fullmatch(name) is not None


def _by_class(tensor: Tensor, classes: int) -> Tensor:
    return tensor.view(classes, -1, *tensor.shape[1:])


def _by_anchor(tensor: Tensor, classes: int) -> Tensor:
    return tensor.view(-1, classes, *tensor.shape[1:])


def _head_note(kept: Sequence[str], classes: Sequence[str]) -> str:
    fresh = [name for name in classes if name not in kept]
    text = f"; fresh: {', '.join(fresh)}" if fresh else ""
    return (
        f"head exchanged: {1 + len(coco_classes())} COCO classes -> {len(classes)} classes of the "
        f"data; {len(kept)} of {len(classes)} classes keep their COCO rows{text}"
    )


def _frozen_note(net: nn.Module) -> list[str]:
    fixed = sum(parameter.numel() for parameter in net.parameters() if not parameter.requires_grad)
    norms = any(type(module).__name__ == "FrozenBatchNorm2d" for module in net.modules())
    if not fixed and not norms:
        return []
    parts = [f"{fixed:,} parameters of the first stages"] if fixed else []
    parts += ["the batch norms"] if norms else []
    return [f"not trained any further, as published: in the backbone {' and '.join(parts)}"]


def _classifier_of(name: str) -> str:
    """Return the name of torchvision's classifier that is the backbone of the detector `name`."""
    return next(
        architecture
        for architecture in ("resnet50", "mobilenet_v3_large", "vgg16")
        if architecture in name
    )


def _on_classifier(
    name: str, classes: int, asked: str, seed: int | None, download: bool
) -> Started:
    architecture = _classifier_of(name)
    where = f"torchvision:{name}?{BACKBONE}"
    file = find_weights(architecture, asked, where, download=download)
    tensors = read_weights(file.path)
    entry = file.entry
    if entry is None:
        # A file of unknown training is taken to be prepared as torchvision's usual ones.
        entry = torchvision_models.get_model_weights(architecture)["DEFAULT"]
    prepared = entry.transforms()
    start = Start(BACKBONE, FROZEN if name in FROZEN_NORMS else BATCH)
    with isolated_rng(seed):
        net = published(name, classes, start, (prepared.mean, prepared.std))
    _check_classifier(architecture, tensors, file.path)
    called = from_classifier(name)
    moved = {called(name_in_file): tensor for name_in_file, tensor in tensors.items()}
    placed = {target: tensor for target, tensor in moved.items() if target is not None}
    if start.norms == FROZEN:
        placed = {
            target: tensor for target, tensor in placed.items() if not target.endswith(COUNTS)
        }
    net.load_state_dict({**net.state_dict(), **placed})
    copied = sum(tensor.numel() for tensor in placed.values() if tensor.is_floating_point())
    mean, std = statistics_of(net)
    notes = [
        f"backbone: {architecture} with {file.name}, {copied:,} weights; images normalised as it "
        f"was trained, mean {_listed(mean)}, std {_listed(std)}",
        *_frozen_note(net),
    ]
    return Started(net, start, tuple(notes), {BACKBONE: file.name})


def _check_classifier(architecture: str, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise `ModelError` unless these are the classifier's weights; its head may have any size."""
    with torch.device("meta"):
        net = torchvision_models.get_model(architecture, weights=None)
    state = net.state_dict()
    head = [name for name in state if name.startswith(("fc.", "classifier."))]
    fit = {**{name: state[name] for name in head}, **tensors}
    fit |= {name: state[name] for name in head}
    fit |= {name: state[name] for name in state if name.endswith(COUNTS)}
    check_weights(net, fit, path)


def _listed(values: Sequence[float]) -> str:
    return "/".join(f"{value:.4g}" for value in values)
