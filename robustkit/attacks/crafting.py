"""Adversarial sets: made once on a source, kept on disk, scored on any target."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as pack
from torch import Tensor

from robustkit import models
from robustkit.attacks.base import Attack, verify
from robustkit.attacks.predict import predict
from robustkit.compute import torch_generator
from robustkit.data import ImageSet
from robustkit.errors import AttackError
from robustkit.runs import atomic_path

FORMAT = 1
BATCH = 250
_NOTES = "robustkit_adversarials"


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
        return origin_key(self.origin)


def origin_key(origin: dict[str, Any]) -> str:
    """The cache key of an origin."""
    return hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()[:32]


def craft(
    source: models.Classifier,
    images: ImageSet,
    attack: Attack,
    *,
    seed: int = 0,
    cache: Path | None = None,
) -> AdversarialSet:
    """Run `attack` on `source` over all `images`; taken from the folder `cache` if it is there.

    The result does not depend on the batch size: the attack's random numbers are one stream over
    the whole set. The ε-ball and the range are verified here, outside the attack. Raises
    `AttackError` if they are violated, or if a cached file is damaged.
    """
    origin = {
        "source": models.digest(source),
        "data": images.digest(),
        "attack": attack.to_dict(),
        "seed": seed,
    }
    path = None if cache is None else cache / f"{origin_key(origin)}.safetensors"
    if path is not None and path.is_file():
        kept = load_adversarials(path)
        if kept.origin != origin or kept.images.shape != images.images.shape:
            raise AttackError(
                f"{path}: holds another adversarial set than its name says; delete it"
            )
        return kept
    made = _craft(source, images, attack, origin, seed)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_adversarials(made, path)
    return made


def _craft(
    source: models.Classifier,
    images: ImageSet,
    attack: Attack,
    origin: dict[str, Any],
    seed: int,
) -> AdversarialSet:
    generator = torch_generator("craft", seed)
    device = next(source.parameters()).device
    adversarials = torch.empty(images.images.shape, dtype=torch.float32)
    for start in range(0, len(images), BATCH):
        part = torch.arange(start, min(start + BATCH, len(images)))
        clean = images.floats(part).to(device)
        made = attack(source, clean, images.labels[part].to(device), generator=generator)
        verify(made, clean, attack)
        adversarials[part] = made.cpu()
    return AdversarialSet(
        images=adversarials,
        correct=predict(source, images.images).argmax(dim=1) == images.labels,
        fooled=predict(source, adversarials).argmax(dim=1) != images.labels,
        origin=origin,
    )


def save_adversarials(made: AdversarialSet, path: Path) -> None:
    """Write `made` to `path`, whole or not at all."""
    tensors = {"images": made.images, "correct": made.correct, "fooled": made.fooled}
    notes = {_NOTES: json.dumps({"format": FORMAT, "origin": made.origin})}
    with atomic_path(path) as temporary:
        temporary.write_bytes(pack(tensors, metadata=notes))


def load_adversarials(path: Path) -> AdversarialSet:
    """Read a set back; raises `AttackError` naming a file damaged or of another format."""
    try:
        with safe_open(path, framework="pt") as file:
            notes = json.loads((file.metadata() or {})[_NOTES])
            found, origin = notes["format"], notes["origin"]
            tensors = {name: file.get_tensor(name) for name in ("images", "correct", "fooled")}
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise AttackError(f"{path}: no whole adversarial set ({reason}); delete it") from None
    if found != FORMAT:
        raise AttackError(f"{path}: adversarial set of format {found}, this version reads {FORMAT}")
    return AdversarialSet(**tensors, origin=origin)
