"""One file per model: weights and card in a safetensors file. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as pack
from torch import Tensor, nn

from robustkit.errors import ModelError
from robustkit.models.build import rebuild
from robustkit.models.card import Card
from robustkit.models.classifier import Classifier
from robustkit.runs.atomic import atomic_path

_CARD, _CHECKSUM = "robustkit", "sha256"


def save(
    model: Classifier, path: Path | str, *, parent: str | None = None, **provenance: Any
) -> None:
    """Write `model` to `path`, whole or not at all, replacing what was there.

    `provenance` (JSON values) is added to the card's, `parent` is the digest of the model this one
    was made from. Raises `RunError` when the file cannot be written.
    """
    card = replace(
        model.card,
        provenance={**model.card.provenance, **provenance},
        parent=parent if parent is not None else model.card.parent,
    )
    tensors = _tensors(model)
    notes = {_CARD: card.to_json(), _CHECKSUM: _digest(tensors, card)}
    with atomic_path(path) as temporary:
        # Written by python, not by safetensors, so that a full disk is an OSError.
        temporary.write_bytes(pack(tensors, metadata=notes))


def load(
    path: Path | str,
    *,
    num_classes: int | None = None,
    input_shape: Sequence[int] | None = None,
) -> Classifier:
    """The classifier in the file `path`, in eval mode.

    Raises `ModelError`, naming the file, when it is missing, damaged, of a newer format or no
    model file, and when the model has not `num_classes` classes or does not take `input_shape`.
    """
    card, checksum, tensors = _read(Path(path))
    try:
        _check_use(card, num_classes, input_shape)
        if _digest(tensors, card) != checksum:
            raise ModelError("damaged: the weights do not have the checksum written with them")
        model = rebuild(card, seed=0)
        fit_weights(model.net, tensors)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    return model.eval()


def read_card(path: Path | str) -> Card:
    """The card of the model file `path`; raises `ModelError` as `load`."""
    return _read(Path(path))[0]


def digest(model: Classifier) -> str:
    """SHA-256 (hex) over what `model` computes: weights, architecture, input and normalisation."""
    return _digest(_tensors(model), model.card)


def fit_weights(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy `tensors` into `net`; raises `ModelError` naming the first that does not fit."""
    wanted = net.state_dict()
    for name, own in wanted.items():
        if name not in tensors:
            raise ModelError(f"weights do not fit the architecture: '{name}' is missing")
        if own.shape != tensors[name].shape:
            raise ModelError(
                f"weights do not fit the architecture: '{name}' has shape "
                f"{tuple(tensors[name].shape)}, not {tuple(own.shape)}"
            )
    for name in tensors:
        if name not in wanted:
            raise ModelError(f"weights do not fit the architecture: '{name}' is not in it")
    net.load_state_dict(dict(tensors))


def _tensors(model: Classifier) -> dict[str, Tensor]:
    state = model.net.state_dict()
    # Cloned, as safetensors refuses tensors that share memory (tied weights).
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}


def _digest(tensors: Mapping[str, Tensor], card: Card) -> str:
    function = [card.architecture, card.input_shape, card.mean, card.std]
    hashed = hashlib.sha256(json.dumps(function, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hashed.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def _read(path: Path) -> tuple[Card, str, dict[str, Tensor]]:
    if not path.is_file():
        raise ModelError(f"{path}: no such model file")
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelError(f"{path}: damaged, or not a safetensors file ({error})") from None
    if _CARD not in notes or _CHECKSUM not in notes:
        raise ModelError(
            f"{path}: weights without a model card; name their model and give them as weights"
        )
    try:
        return Card.from_json(notes[_CARD]), notes[_CHECKSUM], tensors
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def _check_use(card: Card, num_classes: int | None, input_shape: Sequence[int] | None) -> None:
    if num_classes is not None and len(card.classes) != num_classes:
        raise ModelError(f"the model has {len(card.classes)} classes, the data {num_classes}")
    if input_shape is not None and card.input_shape != tuple(input_shape):
        raise ModelError(
            f"the model takes images of shape {card.input_shape}, the data has {tuple(input_shape)}"
        )
