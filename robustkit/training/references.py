"""Unit gradients of a fixed reference, computed once and shared by everything trained against it.

A live reference costs a forward and a backward pass of its own in every step of every candidate;
on fixed views of a fixed training set these are the same numbers each time.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from robustkit.attacks import LOSSES, loss_gradient
from robustkit.attacks.predictions import source_digest
from robustkit.compute import device_of
from robustkit.data import map_array, to_unit, write_array
from robustkit.errors import DataError
from robustkit.models.state import state_preserved
from robustkit.training.misalignment import MIN_NORM

BATCH = 250


@dataclass(frozen=True, eq=False)
class ReferenceGradients:
    """g_R of every view of every image, normalised in float32 *before* it is stored in float16.

    `directions` float16 (K,N,C,H,W) has unit L2 norm per image, or is zero where g_R underflowed;
    `norms` float32 (K,N) are the norms before normalisation.
    """

    directions: Tensor
    norms: Tensor

    @property
    def usable(self) -> Tensor:
        """(K,N), False where the gradient has no direction."""
        return self.norms > MIN_NORM

    @property
    def masked(self) -> int:
        """How many of the K·N gradients have no direction."""
        return int((~self.usable).sum())

    def subset(self, indices: Tensor) -> ReferenceGradients:
        """Return the gradients of the images at `indices`, copied into memory."""
        return replace(self, directions=self.directions[:, indices], norms=self.norms[:, indices])


def compute_reference(
    model: nn.Module, views: Tensor, labels: Tensor, loss: str = "ce"
) -> ReferenceGradients:
    """Return unit gradients of the loss on `views` uint8 (K,N,C,H,W), `labels` int64 (N,)."""
    directions = np.empty(tuple(views.shape), dtype=np.float16)
    norms = _fill(directions, model, views, labels, loss)
    return ReferenceGradients(torch.from_numpy(directions), norms)


def cached_reference(
    model: nn.Module, views: Tensor, labels: Tensor, folder: Path, loss: str = "ce"
) -> ReferenceGradients:
    """As `compute_reference`, kept in `folder` by (model, views, labels, loss) and memory-mapped.

    Processes that map the same file share its memory. Raises `DataError` for a damaged file.
    """
    key = reference_key(model, views, labels, loss)
    directions_path, norms_path = folder / f"{key}.npy", folder / f"{key}.norms.npy"
    if not (norms_path.is_file() and directions_path.is_file()):
        folder.mkdir(parents=True, exist_ok=True)
        kept: list[Tensor] = []
        write_array(
            directions_path,
            tuple(views.shape),
            lambda out: kept.append(_fill(out, model, views, labels, loss)),
            dtype=np.float16,
        )
        norms = kept[0].numpy()
        # Written last: where the norms are, the directions are whole.
        write_array(norms_path, norms.shape, lambda out: np.copyto(out, norms), dtype=np.float32)
    return open_reference(directions_path, norms_path, tuple(views.shape))


def open_reference(
    directions_path: Path, norms_path: Path, shape: tuple[int, ...]
) -> ReferenceGradients:
    """Map a cached reference; raises `DataError` unless it holds views of `shape` (K,N,C,H,W)."""
    directions, norms = map_array(directions_path), map_array(norms_path)
    for path, array, wanted, dtype in (
        (directions_path, directions, shape, torch.float16),
        (norms_path, norms, shape[:2], torch.float32),
    ):
        if array.shape != wanted or array.dtype != dtype:
            raise DataError(
                f"{path} holds {array.dtype} of shape {tuple(array.shape)}, "
                f"not {dtype} of shape {wanted}; delete it"
            )
    return ReferenceGradients(directions, norms.clone())


def reference_key(model: nn.Module, views: Tensor, labels: Tensor, loss: str) -> str:
    """Return what the gradients depend on, as 32 hexadecimal digits."""
    sha = hashlib.sha256(
        json.dumps([source_digest(model, tuple(views.shape[2:])), loss, list(views.shape)]).encode()
    )
    for view in views:
        sha.update(view.contiguous().numpy().data.cast("B"))
    sha.update(labels.numpy().tobytes())
    return sha.hexdigest()[:32]


def _fill(
    out: np.ndarray[tuple[int, ...], np.dtype[np.float16]],
    model: nn.Module,
    views: Tensor,
    labels: Tensor,
    loss: str,
) -> Tensor:
    """Write the directions into `out`; returns the norms float32 (K,N)."""
    LOSSES.find(loss)
    norms = torch.empty(views.shape[:2])
    device = device_of(model)
    with state_preserved(model):
        for view in range(len(views)):
            for start in range(0, views.shape[1], BATCH):
                part = slice(start, start + BATCH)
                images = to_unit(views[view, part]).to(device)
                gradient, _ = loss_gradient(model, images, labels[part].to(device), loss)
                directions, norms[view, part] = unit_rows(gradient.cpu().float())
                out[view, part] = directions.half().numpy()
    return norms


def unit_rows(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows of `gradient` (N,C,H,W) scaled to unit L2 norm, and their norms (N,).

    Scaled by the largest entry first: squares of entries below 1e-19 underflow in float32, which
    is where a confident reference lives. A row that has no direction comes out as zero.
    """
    peak = gradient.flatten(1).abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
    scaled = gradient / peak.view(-1, 1, 1, 1)
    size = scaled.flatten(1).norm(dim=1)
    norms = size * peak
    safe = torch.where(norms > MIN_NORM, size, torch.inf)
    return scaled / safe.view(-1, 1, 1, 1), norms
