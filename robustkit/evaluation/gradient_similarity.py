"""Input gradients of models: their norms, and the cosines between those of two models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from tempfile import TemporaryFile
from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor, nn

from robustkit.attacks.cache import SMALL_SETS, Store
from robustkit.attacks.gradients import loss_gradient
from robustkit.attacks.predictions import BATCH, check_model, source_digest
from robustkit.compute import Note, fitting_batches, on_device
from robustkit.compute.batching import warn
from robustkit.data import ImageSet, as_image_set
from robustkit.errors import ModelError
from robustkit.models.state import state_preserved
from robustkit.runs.summaries import Amount, Cosine, Quartiles, Result, Share

# Below any norm of float32 gradients that is not zero.
LEAST = 1e-48
NETS_BATCH = 250
CHUNK = 16 * 2**20  # bytes of directions that are multiplied at once


@dataclass(frozen=True)
class GradientAlignment:
    """Per image (n,): `cosine` between the two gradients and the L2 `norm` of the first model's.

    The cosine is NaN where either gradient is exactly zero, and such rows are to be left out.
    """

    cosine: Tensor
    norm: Tensor


def input_gradients(
    model: nn.Module,
    images: Any,
    loss: str = "ce",
    *,
    batch_size: int | None = None,
    device: torch.device | None = None,
    on_note: Note = warn,
) -> Tensor:
    """Return ∂L/∂x of every image, float32 (N,C,H,W) on the CPU; the state is preserved.

    In batches of `batch_size`, by default 500 or as many as fit, with the model on `device`; a
    batch that does not fit is halved, and `on_note` gets a line. Raises `ModelError` for a model
    that gives no logits, `DataError` where a label has no logit.
    """
    images = as_image_set(images)
    batches = gradient_batches(
        model, images, loss, batch_size=batch_size, device=device, on_note=on_note
    )
    return torch.cat([gradients for _, gradients in batches])


def gradient_batches(
    model: nn.Module,
    images: ImageSet,
    loss: str = "ce",
    *,
    most: int = BATCH,
    batch_size: int | None = None,
    device: torch.device | None = None,
    on_note: Note = warn,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of the images with their gradients (n,C,H,W), as `input_gradients` has them.

    Between two of them the model is on `device` and otherwise as it was.
    """
    with on_device(model, device) as target:
        check_model(model, images)
        with state_preserved(model):
            batches = fitting_batches(
                model, images.shape, chosen=batch_size, most=most, backward=True, on_note=on_note
            )

        def gradients_of(rows: slice) -> Tensor:
            indices = torch.arange(rows.start, rows.stop)
            batch, labels = images.floats(indices).to(target), images.labels[indices].to(target)
            with state_preserved(model):
                return loss_gradient(model, batch, labels, loss)[0].cpu()

        yield from batches.over(len(images), gradients_of)


def alignment(gradients: Tensor, others: Tensor) -> GradientAlignment:
    """Return cosines of two stacks of gradients (N,C,H,W), row by row, and norms of the first.

    Float64, because norms of confident models' gradients underflow when squared in float32.
    """
    first, second = gradients.flatten(1).double(), others.flatten(1).double()
    norm, other = first.norm(dim=1), second.norm(dim=1)
    product = (first / norm.clamp_min(LEAST)[:, None] * second).sum(dim=1)
    cosine = torch.where((norm > 0) & (other > 0), product / other, torch.nan)
    return GradientAlignment(cosine, norm)


def unit_rows(gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Return directions float32 (N,D) of gradients (N,...) and their L2 norms float64 (N,).

    Float64 row by row, for the reason `alignment` has. A gradient that is zero stays so.
    """
    rows = gradients.flatten(1)
    unit, norm = torch.empty_like(rows), torch.empty(len(rows), dtype=torch.float64)
    for index, row in enumerate(rows):
        exact = row.double()
        norm[index] = exact.norm()
        unit[index] = exact / norm[index].clamp_min(LEAST)
    return unit, norm


class Cosines(Result, frozen=True, kw_only=True):
    """The cosines of two models' input gradients; None where no image has one."""

    cos_mean: Cosine | None = None
    cos_abs_mean: Cosine | None = None
    cos_quartiles: Annotated[list[Cosine], Meta(min_length=3, max_length=3)] | None = None


class GradientNorms(Result, frozen=True, kw_only=True):
    """The norms of a model's input gradients, and the share of images on which they are zero."""

    grad_norm_mean: Amount
    grad_norm_quartiles: Quartiles
    grad_zero: Share


@dataclass(frozen=True, eq=False)
class GradientPairs:
    """For M nets in the order of `names` and N images, float64: `cosine` (M,M,N), `norm` (M,N).

    A cosine is NaN where either gradient is exactly zero. The norm is the L2 norm of ∂L/∂x.
    """

    names: tuple[str, ...]
    cosine: Tensor
    norm: Tensor

    def cosines(self, first: str, second: str) -> Cosines:
        """Return mean, mean magnitude and quartiles of the cosine over images that have one."""
        row, column = self.names.index(first), self.names.index(second)
        cosine = self.cosine[row, column]
        known = cosine[~cosine.isnan()]
        if not len(known):
            return Cosines()
        quartiles = torch.quantile(known, torch.tensor([0.25, 0.5, 0.75], dtype=known.dtype))
        return Cosines(
            cos_mean=float(known.mean()),
            cos_abs_mean=float(known.abs().mean()),
            cos_quartiles=quartiles.tolist(),
        )

    def norms(self, name: str) -> GradientNorms:
        """Return mean and quartiles of a net's gradient norms, and the share that is zero."""
        norm = self.norm[self.names.index(name)]
        quartiles = torch.quantile(norm, torch.tensor([0.25, 0.5, 0.75], dtype=norm.dtype))
        return GradientNorms(
            grad_norm_mean=float(norm.mean()),
            grad_norm_quartiles=quartiles.tolist(),
            grad_zero=float((norm == 0).double().mean()),
        )


def gradient_pairs(
    nets: Mapping[str, nn.Module],
    images: Any,
    *,
    loss: str = "ce",
    store: Store | None = None,
    batch_size: int | None = None,
    device: torch.device | None = None,
    on_note: Note | None = None,
) -> GradientPairs:
    """Return cosines between the input gradients of every two nets on every image.

    One net at a time is looked up, moved to `device` and let go of. Directions are kept in float32,
    in a temporary file where they are not small, and multiplied batch by batch: cosines are those
    of float64 to 1e-6. `batch_size`, by default 250 or as many as fit, and `on_note` are as in
    `craft`, as are the errors.
    """
    images = as_image_set(images)
    note = on_note or (warn if store is None else store.notes.append)
    names = tuple(nets)

    def compare() -> dict[str, Tensor]:
        return _compare(nets, images, loss, batch_size, device, note)

    if store is None:
        compared = compare()
    else:
        origin = {
            "nets": [source_digest(nets[name], images.shape) for name in names],
            "data": images.digest(),
            "loss": loss,
        }
        fault = partial(_fault, len(names), len(images))
        compared = store.fetch("gradients", origin, compare, fault)
    return GradientPairs(names, compared["cosine"], compared["norm"])


def _fault(nets: int, count: int, kept: Mapping[str, Tensor]) -> str | None:
    shapes = {"cosine": (nets, nets, count), "norm": (nets, count)}
    for name, shape in shapes.items():
        tensor = kept.get(name)
        if tensor is None or tensor.dtype != torch.float64 or tensor.shape != shape:
            return f"no {name} of {nets} nets and {count:,} images"
    cosine, norm = kept["cosine"], kept["norm"]
    if bool((cosine.abs() > 1).any()) or not bool(((norm >= 0) & norm.isfinite()).all()):
        return "cosines or norms that are none"
    return None


def _compare(
    nets: Mapping[str, nn.Module],
    images: ImageSet,
    loss: str,
    batch_size: int | None,
    device: torch.device | None,
    on_note: Note,
) -> dict[str, Tensor]:
    names, count = tuple(nets), len(images)
    norm = torch.empty(len(names), count, dtype=torch.float64)
    with _scratch((len(names), count, images.images[0].numel())) as directions:
        for index, name in enumerate(names):
            for rows, gradients in gradient_batches(
                nets[name],
                images,
                loss,
                most=NETS_BATCH,
                batch_size=batch_size,
                device=device,
                on_note=on_note,
            ):
                unit, norm[index, rows] = unit_rows(gradients)
                directions[index, rows] = unit.numpy()
            if lost := int(norm[index].isnan().sum()):
                raise ModelError(f"{name}: NaN in the gradients of {lost} of {count} images")
        cosine = _products(directions)
    # A gradient without a direction has no cosine with anything.
    cosine[(norm == 0)[:, None].expand_as(cosine)] = torch.nan
    cosine[(norm == 0)[None].expand_as(cosine)] = torch.nan
    return {"cosine": cosine, "norm": norm}


def _products(directions: NDArray[np.float32]) -> Tensor:
    """Return cosines float64 (M,M,N) of directions float32 (M,N,D), image by image."""
    nets, count, pixels = directions.shape
    products = torch.empty(nets, nets, count, dtype=torch.float64)
    step = max(1, CHUNK // (nets * pixels * 8))
    for start in range(0, count, step):
        rows = slice(start, start + step)
        units = torch.from_numpy(directions[:, rows].astype(np.float64))
        units /= units.norm(dim=2, keepdim=True).clamp_min(LEAST)  # they were rounded
        products[:, :, rows] = torch.einsum("and,bnd->abn", units, units)
    return products.clamp_(-1, 1)


@contextmanager
def _scratch(shape: tuple[int, ...]) -> Iterator[NDArray[np.float32]]:
    """Yield a float32 array of `shape`: in memory if small, else in a temporary file."""
    if prod(shape) * 4 <= SMALL_SETS:
        yield np.empty(shape, dtype=np.float32)
        return
    with TemporaryFile(prefix="robustkit-") as file:
        yield np.memmap(file, np.float32, "w+", shape=shape)
