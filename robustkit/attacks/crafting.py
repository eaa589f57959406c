"""Adversarial sets: made once on a source, kept on the disk, scored on any target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.attacks.answers import answers, clean_answers, source_digest
from robustkit.attacks.base import Attack, verify
from robustkit.attacks.store import Store, checksum, key
from robustkit.compute import device_of, torch_generator
from robustkit.data import ImageSet
from robustkit.errors import AttackError

BATCH = 250


@dataclass(frozen=True, eq=False)
class AdversarialSet:
    """Adversarials of a whole image set, never stopped early.

    `images` float32 (N,C,H,W) in [0,1], in the order of the image set; `correct` bool (N,): the
    source is right on the clean image; `fooled` bool (N,): the source errs on the adversarial.
    `origin` holds what the set depends on: source digest, data digest, attack, seed.
    """

    images: Tensor
    correct: Tensor
    fooled: Tensor
    origin: dict[str, Any]

    @property
    def key(self) -> str:
        """What the set depends on, as 32 hexadecimal digits."""
        return key(self.origin)


def craft(
    source: nn.Module,
    images: ImageSet,
    attack: Attack,
    *,
    seed: int = 0,
    targets: Tensor | None = None,
    store: Store | None = None,
) -> AdversarialSet:
    """Run `attack` on `source` over all `images`; taken from `store` if it is there.

    `source` is a classifier or an `Ensemble` of them. A targeted attack steers to `targets` int64
    (N,), by default to the true labels: the sign-flipped control. The result of our own attacks
    does not depend on the batch size: random numbers are one stream over the whole set. The ε-ball
    and the range are verified here, outside the attack; raises `AttackError` if they are violated,
    and for targets beside an untargeted attack.
    """
    if targets is not None and not attack.targeted:
        raise AttackError(f"{attack.name}: target labels, but the attack is not targeted")
    origin = set_origin(source, images, attack, seed, targets)
    store = store or Store(None)
    made = crafted_images(source, images, attack, origin, seed, targets, store)
    return AdversarialSet(
        images=made,
        correct=clean_answers(source, images, store) == images.labels,
        fooled=answers(source, origin, lambda: made, store) != images.labels,
        origin=origin,
    )


def crafted_images(
    source: nn.Module,
    images: ImageSet,
    attack: Attack,
    origin: dict[str, Any],
    seed: int,
    targets: Tensor | None,
    store: Store,
) -> Tensor:
    """The adversarials alone, float32 (N,C,H,W), of the set that `origin` describes."""
    kept = store.fetch(
        "set", origin, lambda: {"images": _craft(source, images, attack, seed, targets)}
    )
    return kept["images"]


def set_origin(
    source: nn.Module,
    images: ImageSet,
    attack: Attack,
    seed: int,
    targets: Tensor | None = None,
) -> dict[str, Any]:
    """All that a crafted set depends on, as JSON values."""
    origin = {
        "source": source_digest(source),
        "data": images.digest(),
        "attack": attack.to_dict(),
        "seed": seed,
    }
    return origin if targets is None else {**origin, "targets": checksum({"labels": targets})}


def _craft(
    source: nn.Module,
    images: ImageSet,
    attack: Attack,
    seed: int,
    targets: Tensor | None,
) -> Tensor:
    generator = torch_generator("craft", seed)
    device = device_of(source)
    labels = images.labels if targets is None else targets
    adversarials = torch.empty(images.images.shape, dtype=torch.float32)
    for start in range(0, len(images), BATCH):
        part = torch.arange(start, min(start + BATCH, len(images)))
        clean = images.floats(part).to(device)
        made = attack(source, clean, labels[part].to(device), generator=generator)
        verify(made, clean, attack)
        adversarials[part] = made.cpu()
    return adversarials
