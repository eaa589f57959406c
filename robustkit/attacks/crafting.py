"""Adversarial sets: made once on a source, kept on the disk, scored on any target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.attacks.base import TOLERANCE, Attack, verify
from robustkit.attacks.cache import Origin, Rows, Store, key
from robustkit.attacks.predictions import PredictionCache
from robustkit.compute import Note, fitting_batches, on_device, torch_generator
from robustkit.compute.batching import warn
from robustkit.compute.tensorfiles import checksum
from robustkit.data import ImageSet, as_image_set, to_unit
from robustkit.data.imageset import chunks
from robustkit.errors import AttackError
from robustkit.models.state import state_preserved

LEVELS = 255
_ROWS = 16  # images at once, in float64 on the CPU


def to_levels(images: Tensor) -> Tensor:
    """Return float images (N,C,H,W) in [0,1] as uint8, rounded to the nearest level, not cut off.

    Images that are uint8 already stay as they are.

    >>> to_levels(torch.tensor([0.0, 0.499 / 255, 0.501 / 255, 1.0]))
    tensor([  0,   0,   1, 255], dtype=torch.uint8)
    """
    if images.dtype == torch.uint8:
        return images
    return (images * LEVELS).round().clamp(0, LEVELS).to(torch.uint8)


def check_levels(images: ImageSet) -> None:
    """Raise `AttackError` unless the clean images are on the grid of 256 levels, that is uint8."""
    if images.images.dtype != torch.uint8:
        kind = str(images.images.dtype).removeprefix("torch.")
        raise AttackError(
            f"round: these images are {kind}, whose pixels are not whole levels of 256: "
            "give uint8 images, or do not round"
        )


def rounded(adversarials: Tensor, images: Tensor, attack: Attack) -> Tensor:
    """Round `adversarials` float (N,C,H,W) in [0,1] of uint8 `images` to levels, inside the ball.

    Each pixel goes to its nearest level. Where that would leave the ε-ball it goes to the level on
    the side of the clean image instead: in linf where the pixel itself is too far, else as many
    pixels as need be, those whose two levels are most nearly as near first.
    """
    return torch.cat(
        [
            _rounded(adversarials[rows], images[rows], attack)
            for rows in (slice(start, start + _ROWS) for start in range(0, len(images), _ROWS))
        ]
    )


def _rounded(adversarials: Tensor, images: Tensor, attack: Attack) -> Tensor:
    distance = adversarials.double() * LEVELS - images
    # A hair of the ball's tolerance: 8/255 is eight levels, whatever float32 makes of it.
    limit = attack.eps * LEVELS + TOLERANCE * LEVELS
    if attack.norm == "l0":
        moved = distance.round()
    elif attack.norm == "linf":
        moved = distance.round().clamp(-int(limit), int(limit))
    else:
        moved = _within(distance.flatten(1), limit, attack.norm).view_as(distance)
    return (images + moved).to(torch.uint8)


def _within(distance: Tensor, limit: float, norm: str) -> Tensor:
    """Return whole numbers (N,D) near `distance` float64 (N,D), of `norm` at most `limit`."""
    size = distance.abs()
    nearest = size.round()
    up = nearest > size
    if norm == "l2":
        excess = nearest.square().sum(dim=1) - limit**2
        # One level less takes 2k-1 from the sum of squares of a pixel that is k levels away.
        gain = torch.where(up, 2 * nearest - 1, 0.0)
    else:
        excess, gain = nearest.sum(dim=1) - limit, up.double()
    order = torch.where(up, size - size.floor(), torch.inf).argsort(dim=1, stable=True)
    before = gain.gather(1, order).cumsum(dim=1) - gain.gather(1, order)
    lowered = torch.zeros_like(up).scatter(1, order, before < excess[:, None]) & up
    return (nearest - lowered.double()) * distance.sign()


OTHERS = 64  # images of a set that attacks may mix in
# Images attacked at once where they fit: what committed results were computed with.
BATCH = 250


def check_targets(targets: Tensor, images: ImageSet) -> None:
    """Raise `AttackError` unless there is a class for every image: int64 (N,), of the images'."""
    if targets.dtype != torch.int64 or targets.shape != images.labels.shape:
        raise AttackError(
            f"targets must be int64 of shape ({len(images)},), one per image, not {targets.dtype} "
            f"of shape {tuple(targets.shape)}"
        )
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= images.num_classes:
        raise AttackError(
            f"targets range over [{low}, {high}], but {images.num_classes} classes allow "
            f"[0, {images.num_classes - 1}]"
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of a crafted set beside its source: the arguments of `craft`.

    `target_labels` int64 (N,) or None are those that a targeted attack steers to; with `round` the
    adversarials are uint8 levels. `batch_size` and `on_note` are as in `craft`.
    """

    images: ImageSet
    attack: Attack
    seed: int = 0
    target_labels: Tensor | None = None
    round: bool = False
    batch_size: int | None = None
    on_note: Note = warn

    def __post_init__(self) -> None:
        if self.target_labels is not None and not self.attack.targeted:
            raise AttackError(f"{self.attack.name}: target labels, but the attack is not targeted")
        if self.target_labels is not None:
            check_targets(self.target_labels, self.images)
        if self.round:
            check_levels(self.images)

    def origin(self, source_digest: str) -> Origin:
        """Return all that a set crafted on this source depends on, as JSON values."""
        origin: Origin = {
            "source": source_digest,
            "data": self.images.digest(),
            "attack": self.attack.to_dict(),
            "seed": self.seed,
        }
        if self.target_labels is not None:
            origin = {**origin, "targets": checksum({"labels": self.target_labels})}
        return {**origin, "round": True} if self.round else origin

    def fetch(self, source: nn.Module, origin: Origin, store: Store) -> Tensor:
        """Return the adversarials (N,C,H,W), float32 in [0,1] or uint8, from `store` or crafted."""
        return store.fetch_rows("set", origin, "images", self._rows(source), self._fault)

    def _fault(self, adversarials: Tensor) -> str | None:
        """Return what is wrong with a kept set, in the words of `verify`; None for nothing."""
        for rows in chunks(adversarials):
            batch = self.images.images[rows]
            try:
                verify(_unit(adversarials[rows]), _unit(batch), self.attack)
            except AttackError as error:
                return str(error)
        return None

    @property
    def nbytes(self) -> int:
        """The bytes of one set."""
        return self.images.images.numel() * (1 if self.round else 4)

    def _rows(self, source: nn.Module) -> Rows:
        dtype = torch.uint8 if self.round else torch.float32
        return Rows(tuple(self.images.images.shape), dtype, lambda: self._crafted(source))

    def _crafted(self, source: nn.Module) -> Iterator[Tensor]:
        """Yield the adversarials of `source`, batch by batch."""
        generator = torch_generator("craft", self.seed)
        with state_preserved(source):
            batches = fitting_batches(
                source,
                self.images.shape,
                chosen=self.batch_size,
                most=BATCH,
                backward=True,
                on_note=self.on_note,
            )

        def crafted(rows: slice) -> Tensor:
            return self._batch(
                source, torch.arange(rows.start, rows.stop), generator, batches.device
            )

        for _, adversarials in batches.over(len(self.images), crafted, generator=generator):
            yield adversarials

    def _batch(
        self, source: nn.Module, rows: Tensor, generator: torch.Generator, device: torch.device
    ) -> Tensor:
        labels = self.images.labels if self.target_labels is None else self.target_labels
        batch = self.images.floats(rows).to(device)
        adversarials = self.attack(
            source,
            batch,
            labels[rows].to(device),
            generator=generator,
            others=pool_of(self.images, self.seed).to(device) if self.attack.mixes else None,
        )
        verify(adversarials, batch, self.attack)
        if not self.round:
            return adversarials.cpu()
        batch = self.images.images[rows]
        adversarials = rounded(adversarials.cpu(), batch, self.attack)
        verify(to_unit(adversarials), to_unit(batch), self.attack)
        return adversarials


def pool_of(images: ImageSet, seed: int) -> Tensor:
    """Return images of the set that attacks may mix in, the same for all batches."""
    order = torch.randperm(len(images), generator=torch_generator("others", seed))
    return images.floats(order[:OTHERS].sort().values)


def _unit(images: Tensor) -> Tensor:
    return to_unit(images) if images.dtype == torch.uint8 else images


@dataclass(frozen=True, eq=False)
class AdversarialSet:
    """Adversarials of a whole image set, never stopped early.

    `images` float32 (N,C,H,W) in [0,1], or their uint8 levels where they were rounded, in the order
    of the image set; `correct` bool (N,): the source is right on the clean image; `fooled` bool
    (N,): the source errs on the adversarial. `origin` holds what the set depends on: source digest,
    data digest, attack, seed. Images from a store's file are mapped, and can be looked at only.
    """

    images: Tensor
    correct: Tensor
    fooled: Tensor
    origin: Origin

    @property
    def key(self) -> str:
        """What the set depends on, as 32 hexadecimal digits."""
        return key(self.origin)


def craft(
    source: nn.Module,
    images: Any,
    attack: Attack,
    *,
    seed: int = 0,
    targets: Tensor | None = None,
    store: Store | None = None,
    round: bool = False,  # noqa: A002
    batch_size: int | None = None,
    device: torch.device | None = None,
    on_note: Note | None = None,
) -> AdversarialSet:
    """Run `attack` on `source` over all `images`; taken from `store` if it is there.

    `source` is any module from images to logits, or an `Ensemble` of them. A targeted attack steers
    to `targets` int64 (N,), by default to the true labels: the sign-flipped control. With `round`
    the adversarials are kept and scored as uint8, rounded towards their image where the ε-ball
    demands it. They are made in batches of `batch_size`, by default 250 or as many as fit, on
    `device` (None: where the source is), and written to the store as they are made. The result of
    our own attacks does not depend on the batch size: random numbers are one stream over the whole
    set. A batch that does not fit is halved; `on_note` gets a line, or `store.notes`.

    The ε-ball and the range are verified here, outside the attack; raises `AttackError` if they are
    violated, for targets beside an untargeted attack, and for `round` with images that are not
    uint8; `ModelError` for a source that gives no logits; `DeviceError` where not even one image
    fits.
    """
    images = as_image_set(images)
    note = on_note or (warn if store is None else store.notes.append)
    store = store or Store(None)
    recipe = Recipe(
        images=images,
        attack=attack,
        seed=seed,
        target_labels=targets,
        round=round,
        batch_size=batch_size,
        on_note=note,
    )
    with on_device(source, device):
        predictions = PredictionCache(source, images, store, batch_size=batch_size, on_note=note)
        # First, as it refuses a source that gives no logits.
        correct = predictions.clean() == images.labels
        origin = recipe.origin(predictions.digest)
        adversarials = recipe.fetch(source, origin, store)
        return AdversarialSet(
            images=adversarials,
            correct=correct,
            fooled=predictions.classes(origin, lambda: adversarials) != images.labels,
            origin=origin,
        )
