"""White-box robust accuracy: which images survive attacks on the very model that is judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks.base import Attack, violations
from robustkit.attacks.crafting import BATCH
from robustkit.attacks.predict import predict
from robustkit.compute import device_of, torch_generator
from robustkit.data import ImageSet, batches


@dataclass(frozen=True, eq=False)
class Robustness:
    """What became of N images under attacks that ran one after the other.

    `correct` bool (N,): right on the clean image. `standing[k]` bool (N,): still right after
    attack k and all before it; each attack saw only what the earlier ones had left. `violating[k]`
    counts adversarials that left the ε-ball or [0,1], which do not count as successes; `unmoved[k]`
    images that attack k gave back as they were and that still stand.
    """

    attacks: tuple[Attack, ...]
    classes: int
    correct: Tensor
    standing: tuple[Tensor, ...]
    violating: tuple[int, ...]
    unmoved: tuple[int, ...]

    @property
    def survivors(self) -> Tensor:
        """Bool (N,): right on the clean image and after every attack."""
        return self.standing[-1] if self.standing else self.correct


def worst_case(
    model: nn.Module,
    images: ImageSet,
    attacks: Sequence[Attack],
    *,
    restarts: int = 1,
    seed: int = 0,
    start: Tensor | None = None,
    on_attack: Callable[[Attack], None] = lambda attack: None,
) -> Robustness:
    """Attack what the model gets right until it falls: attack after attack, `restarts` times each.

    Every attack and every restart sees the survivors alone, so list cheap attacks first. `start`
    bool (N,) are the images to begin with, by default those classified correctly: an image that
    fell within a smaller ball has fallen within a larger one. `on_attack` is told of each attack
    before it runs. All adversarials are verified outside the attack.
    """
    correct = predict(model, images.images).argmax(dim=1) == images.labels
    standing = correct if start is None else correct & start
    after, violating, unmoved = [], [], []
    for attack in attacks:
        on_attack(attack)
        outside = still = 0
        for restart in range(restarts):
            generator = torch_generator("robust", seed, restart)
            standing, left, still = _stand(model, images, attack, standing, generator)
            outside += left
        after.append(standing)
        violating.append(outside)
        unmoved.append(still)
    return Robustness(
        attacks=tuple(attacks),
        classes=images.num_classes,
        correct=correct,
        standing=tuple(after),
        violating=tuple(violating),
        unmoved=tuple(unmoved),
    )


def survivors(model: nn.Module, images: ImageSet, attack: Attack, *, seed: int = 0) -> Tensor:
    """Bool (N,): right on the clean image and on everything the attack comes by."""
    return worst_case(model, images, [attack], seed=seed).survivors


def _stand(
    model: nn.Module,
    images: ImageSet,
    attack: Attack,
    standing: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, int, int]:
    """Who of those standing still stands, how many adversarials broke the rules, and how many
    images came back as they were."""
    standing, outside, unmoved = standing.clone(), 0, 0
    device = device_of(model)
    attacked = torch.nonzero(standing).squeeze(1)
    for chosen in batches(len(attacked), BATCH):
        part = attacked[chosen]
        clean, labels = images.floats(part).to(device), images.labels[part].to(device)
        made = attack(model, clean, labels, generator=generator, stop_when_fooled=True)
        broken = violations(made, clean, attack)
        outside += int(broken.sum())
        same = (made == clean).flatten(1).all(dim=1)
        right = predict(model, made).argmax(dim=1).to(device) == labels
        standing[part] = (right | broken).cpu()
        unmoved += int((same & right).sum())
    return standing, outside, unmoved
