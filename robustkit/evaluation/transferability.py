"""Transfer between any models on any images, by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.attacks import Attack, ForeignSet, Store, TransferMatrix, transfer_matrix
from robustkit.compute import Note
from robustkit.data import as_image_set


def transfer(
    sources: Mapping[str, nn.Module],
    targets: Mapping[str, nn.Module],
    images: Any,
    attack: Attack,
    *,
    seed: int = 0,
    wanted: Tensor | None = None,
    imported: Mapping[str, ForeignSet] | None = None,
    store: Store | None = None,
    round: bool = False,  # noqa: A002
    batch_size: int | None = None,
    device: torch.device | None = None,
    on_source: Callable[[str], None] = lambda source: None,
    on_cell: Callable[[str, str], None] = lambda source, target: None,
    on_note: Note | None = None,
) -> TransferMatrix:
    """Craft `attack` on every source and score every target: counts, rates and intervals.

    Models are any modules from images in [0,1] to logits, by their names; `images` is whatever
    `data.as_image_set` takes. All else, and the errors, are as in `attacks.transfer_matrix`.
    """
    return transfer_matrix(
        sources,
        targets,
        as_image_set(images),
        attack,
        seed=seed,
        wanted=wanted,
        imported=imported,
        store=store,
        round=round,
        batch_size=batch_size,
        device=device,
        on_source=on_source,
        on_cell=on_cell,
        on_note=on_note,
    )
