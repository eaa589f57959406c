"""One file per model: weights and card in a safetensors file. Nothing is ever unpickled."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from robustkit.compute.seeds import isolated_rng
from robustkit.compute.tensorfiles import read_notes, write_tensors
from robustkit.errors import ModelError
from robustkit.models.build import make_net
from robustkit.models.card import DETECTOR, Card
from robustkit.models.classifier import Classifier, takes_grey
from robustkit.models.weights import check_weights, fit_weights, read_weights
from robustkit.reading import typed_path

RUNS_CODE = ("factory",)  # families whose nets are made by a user's own function
_CARD, _CHECKSUM = "robustkit", "sha256"


class Storable(Protocol):
    """What can travel in a model file: a network and its card."""

    net: nn.Module
    card: Card


def save(
    model: Storable, path: Path | str, *, parent: str | None = None, **provenance: Any
) -> None:
    """Write `model` to `path`, whole or not at all, replacing what was there.

    `provenance` (JSON values) is added to the card's; `parent` is the digest of the model this one
    was made from. The model itself stays as it is. Raises `RunError` when the file cannot be
    written, and `ModelError` for a model behind defences, which a file does not hold.
    """
    if in_front := getattr(model, "in_front", ()):
        raise ModelError(f"save: a file holds a model without its defences ({', '.join(in_front)})")
    kept_provenance = dict(model.card.provenance)
    if parent is not None:
        kept_provenance.pop("published", None)  # which was said of the parent
    card = replace(
        model.card,
        provenance={**kept_provenance, **provenance},
        parent=parent if parent is not None else model.card.parent,
    )
    tensors = _tensors(model)
    notes = {_CARD: card.to_json(), _CHECKSUM: _digest(tensors, card)}
    write_tensors(path, tensors, notes)


def load_file(
    path: Path | str,
    *,
    num_classes: int | None = None,
    input_shape: Sequence[int] | None = None,
    trust: Sequence[str] = (),
    allow_code: bool = False,
    net: nn.Module | None = None,
) -> Classifier:
    """Return the classifier in the file `path`, in eval mode and on the CPU.

    A model whose architecture is a user's function is refused unless that function is among `trust`
    (or `allow_code`), because the file names code to be imported and run. With a `net` the weights
    are put into a copy of it instead of what the card describes. Raises `ModelError`, naming the
    file, when it is missing, damaged, of a newer format or no model file, and when the model has
    not `num_classes` classes or does not take images of `input_shape` (C,H,W).
    """
    card = read_card(path)
    if card.architecture["family"] == DETECTOR:
        raise ModelError(f"{path}: holds a detector, where a classifier is needed")
    _check_use(path, card, num_classes, input_shape)
    card, tensors = read(path)
    if net is not None:
        model = Classifier(copy.deepcopy(net), card)
        fit_weights(model.net, tensors, path)
        return model.eval()
    _check_code(path, card, trust, allow_code)
    try:
        if card.architecture["family"] not in RUNS_CODE:
            # Described first, without memory: a card may ask for a net of any size.
            with isolated_rng(), torch.device("meta"):
                described = make_net(card)
            check_weights(described, tensors, path)
        with isolated_rng():
            model = Classifier(make_net(card), card)
    except ModelError as error:
        raise ModelError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    fit_weights(model.net, tensors, path)
    return model.eval()


def read_card(path: Path | str) -> Card:
    """Return the card of the model file `path`; raises `ModelError` as `load`."""
    return _read_notes(typed_path(path, error=ModelError))[0]


def read(path: Path | str) -> tuple[Card, dict[str, Tensor]]:
    """Return card and weights in the file `path`, checked against each other."""
    card, checksum = _read_notes(typed_path(path, error=ModelError))
    tensors = read_weights(path)
    if _digest(tensors, card) != checksum:
        raise ModelError(f"{path}: damaged: its weights do not match the checksum saved with them")
    return card, tensors


def digest(model: Storable) -> str:
    """Return the SHA-256 (hex) of what `model` computes: weights, architecture, preprocessing."""
    order = getattr(model, "order", None)
    in_front: tuple[str, ...] = getattr(model, "in_front", ())
    own_digest = _digest(_tensors(model), model.card)
    if order is None and not in_front:
        return own_digest
    beside = "" if order is None else f" {order.tolist()}"
    return hashlib.sha256(f"{own_digest}{beside}{''.join(in_front)}".encode()).hexdigest()


def _tensors(model: Storable) -> dict[str, Tensor]:
    state = model.net.state_dict()
    # Cloned, as safetensors refuses tensors that share memory (tied weights).
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}


def _digest(tensors: Mapping[str, Tensor], card: Card) -> str:
    function: list[Any] = [card.architecture, card.input_shape, card.mean, card.std]
    if not card.is_plain:
        function[1] = [card.input_shape[0]]  # the pixel space is the comparison's, not the net's
        # Advice to whoever reads pictures is no part of what is computed.
        function.append({**card.preprocessing.to_dict(), "geometry": None})
    hashed = hashlib.sha256(json.dumps(function, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hashed.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def _read_notes(path: Path) -> tuple[Card, str]:
    if not os.path.lexists(path):
        raise ModelError(f"{path}: no such model file")
    notes = read_notes(path, error=ModelError)
    if _CARD not in notes or _CHECKSUM not in notes:
        raise ModelError(
            f"{path}: holds weights but no model card; name the model, and give this file as its "
            "weights"
        )
    try:
        return Card.from_json(notes[_CARD]), notes[_CHECKSUM]
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def _check_use(
    path: Path | str, card: Card, num_classes: int | None, input_shape: Sequence[int] | None
) -> None:
    if num_classes is not None and len(card.classes) != num_classes:
        raise ModelError(
            f"{path}: the model has {len(card.classes)} classes, the data {num_classes}"
        )
    if input_shape is None:
        return
    channels, *size = input_shape
    preprocessing = card.preprocessing
    fits = preprocessing.interpolation is not None or preprocessing.input_size in (
        None,
        tuple(size),
    )
    grey = channels == 1 and takes_grey(preprocessing)
    if not (channels in (0, card.input_shape[0]) or grey) or not fits:
        raise ModelError(
            f"{path}: the model takes images of shape {card.input_shape}, "
            f"the data has {tuple(input_shape)}"
        )


def _check_code(path: Path | str, card: Card, trust: Sequence[str], allow_code: bool) -> None:
    if card.architecture["family"] != "factory" or allow_code:
        return
    factory = card.architecture.get("factory")
    if factory not in trust:
        raise ModelError(
            f"{path}: its network is made by the function {factory}, which loading would run; "
            f"if you trust it, say so: --trust {factory}"
        )
