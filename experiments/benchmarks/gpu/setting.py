"""How large everything is that the bench measures, on a GPU and in a rehearsal without one."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Nets of the zoo on images 3×`side`×`side`, and how often each thing is measured.

    `batch` images make a training step, `images` are attacked and explained, `stored` are those
    whose reference gradients are laid out as for a training. A packed candidate trains `epochs`
    on `candidate_images`; each number in `packs` of processes gets `candidates` of them.
    """

    nets: tuple[str, ...]
    side: int
    batch: int
    images: int
    attack_steps: int
    stored: int
    packs: tuple[int, ...]
    candidates: int
    candidate_images: int
    epochs: int
    rounds: int
    warm_ups: int
    pack_rounds: int


FULL = Setting(
    nets=("small", "resnet18"),
    side=32,
    batch=128,
    images=1000,
    attack_steps=10,
    stored=50_000,
    packs=(1, 2, 4),
    candidates=8,
    candidate_images=5000,
    epochs=2,
    rounds=30,
    warm_ups=5,
    pack_rounds=3,
)
REHEARSAL = Setting(
    nets=("small",),
    side=16,
    batch=8,
    images=16,
    attack_steps=2,
    stored=64,
    packs=(1, 2),
    candidates=2,
    candidate_images=32,
    epochs=1,
    rounds=3,
    warm_ups=1,
    pack_rounds=1,
)


def setting_for(device: torch.device) -> Setting:
    """The whole of it, or on a CPU as much as shows that it works."""
    return REHEARSAL if device.type == "cpu" else FULL
