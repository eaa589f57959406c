"""White-box robust accuracy: which images survive attacks on the evaluated model itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.attacks.base import Attack, violations
from robustkit.attacks.crafting import BATCH, pool_of
from robustkit.attacks.predictions import check_predictions, predict, predicted_classes
from robustkit.compute import Batches, Note, fitting_batches, on_device, torch_generator
from robustkit.compute.batching import warn
from robustkit.data import ImageSet, as_image_set
from robustkit.models.state import state_preserved


@dataclass(frozen=True, eq=False)
class Robustness:
    """The outcome of attacks that ran one after the other on N images.

    `correct` bool (N,): right on the clean image. `robust[k]` bool (N,): still right after attack k
    and all before it; each attack saw only the images that the earlier ones had left.
    `violating[k]` counts adversarials that left the ε-ball or [0,1], which do not count as
    successes; `unmoved[k]` robust images that attack k returned unchanged.
    """

    attacks: tuple[Attack, ...]
    classes: int
    correct: Tensor
    robust: tuple[Tensor, ...]
    violating: tuple[int, ...]
    unmoved: tuple[int, ...]

    @property
    def survivors(self) -> Tensor:
        """Bool (N,): right on the clean image and after every attack."""
        return self.robust[-1] if self.robust else self.correct


def worst_case(
    model: nn.Module,
    images: Any,
    attacks: Sequence[Attack],
    *,
    restarts: int = 1,
    seed: int = 0,
    start: Tensor | None = None,
    on_attack: Callable[[Attack], None] = lambda attack: None,
    batch_size: int | None = None,
    device: torch.device | None = None,
    on_note: Note = warn,
) -> Robustness:
    """Attack the correctly classified images with attack after attack, `restarts` times each.

    Every attack and every restart sees the survivors alone, so list cheap attacks first. `start`
    bool (N,) are the images to begin with, by default those classified correctly: an image that
    is fooled within a smaller ball is fooled within a larger one. `on_attack` is called with each
    attack before it runs. All adversarials are verified outside the attack.

    The model is any module from images to logits, moved to `device` (None: left where it is) and
    back. Images are attacked in batches of `batch_size`, by default 250 or as many as fit; one that
    does not fit is halved, and `on_note` is called with a line about it. Raises `ModelError` for a
    model that gives no (N,K) logits or NaN, `DataError` where a label has no logit, `DeviceError`
    where not even one image fits.
    """
    images = as_image_set(images)
    with on_device(model, device):
        logits = predict(model, images.images, batch_size=batch_size, on_note=on_note)
        check_predictions(logits, model, images)
        right = logits.argmax(dim=1) == images.labels
        with state_preserved(model):
            sizes = fitting_batches(
                model,
                images.shape,
                chosen=batch_size,
                most=BATCH,
                backward=True,
                on_note=on_note,
            )
        robust = right if start is None else right & start
        after, violating, unmoved = [], [], []
        for attack in attacks:
            on_attack(attack)
            outside = still = 0
            for restart in range(restarts):
                generator = torch_generator("robust", seed, restart)
                robust, broken, still = _attacked(
                    model, images, attack, robust, generator, sizes, on_note
                )
                outside += broken
            after.append(robust)
            violating.append(outside)
            unmoved.append(still)
    return Robustness(
        attacks=tuple(attacks),
        classes=images.num_classes,
        correct=right,
        robust=tuple(after),
        violating=tuple(violating),
        unmoved=tuple(unmoved),
    )


def survivors(model: nn.Module, images: ImageSet, attack: Attack, *, seed: int = 0) -> Tensor:
    """Return bool (N,): right on the clean image and after the attack."""
    return worst_case(model, images, [attack], seed=seed).survivors


def _attacked(
    model: nn.Module,
    images: ImageSet,
    attack: Attack,
    robust: Tensor,
    generator: torch.Generator,
    sizes: Batches,
    on_note: Note,
) -> tuple[Tensor, int, int]:
    """Return the updated robust mask and the numbers of violations and of unmoved images."""
    robust, outside, unmoved = robust.clone(), 0, 0
    others = pool_of(images, 0) if attack.mixes else None
    survivors = torch.nonzero(robust).squeeze(1)

    def attacked(part: slice) -> tuple[Tensor, int, int]:
        rows = survivors[part]
        batch, labels = images.floats(rows).to(sizes.device), images.labels[rows].to(sizes.device)
        adversarials = attack(
            model,
            batch,
            labels,
            generator=generator,
            stop_when_fooled=True,
            others=None if others is None else others.to(sizes.device),
        )
        broken = violations(adversarials, batch, attack)
        same = (adversarials == batch).flatten(1).all(dim=1)
        right = predicted_classes(model, adversarials, on_note=on_note).to(labels.device) == labels
        return (right | broken).cpu(), int(broken.sum()), int((same & right).sum())

    for part, (left, broken, still) in sizes.over(len(survivors), attacked, generator=generator):
        robust[survivors[part]] = left
        outside += broken
        unmoved += still
    return robust, outside, unmoved
