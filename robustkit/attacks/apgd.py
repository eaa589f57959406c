"""Auto-PGD: ascent whose step size is chosen on the way (Croce and Hein 2020; l1: 2021)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustkit.attacks.base import Attack
from robustkit.attacks.gradients import LOSSES, loss_gradient
from robustkit.attacks.norms import l1_project, per_image, sparse_sign
from robustkit.attacks.ranges import MOST_GRADIENT_STEPS, check_count

FIRST, LESS, LEAST = 0.22, 0.03, 0.06  # shares of the steps between checkpoints
INERTIA = 0.75  # of the new direction
IMPROVED = 0.75  # share of steps that must have improved the loss
# In l1: shares of the steps in balls of these radii, in ε.
STAGES = ((0.3, 3.0), (0.3, 2.0), (0.4, 1.0))
SPARSE, SPARSER = 0.2, 1.5  # share of the pixels that move at first, and what divides it
CHECKED = 0.04  # share of the steps between looks at the sparsity


@dataclass(frozen=True, kw_only=True)
class APGD(Attack):
    """Ascent with momentum, whose steps are halved where the loss no longer improves.

    The best adversarial of each image is what is given back. `loss` is what is ascended: "ce",
    "dlr" or another of `LOSSES`. In l1 steps move a share of the pixels that follows how sparse the
    best perturbation is, in balls that shrink to ε.
    """

    paper: ClassVar[str] = "Croce and Hein 2020 (arXiv 2003.01690); l1: 2021 (arXiv 2103.01208)"
    steps: int = 100
    loss: str = "ce"
    random_start: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        LOSSES.find(self.loss)
        check_count(f"{self.name}: steps", self.steps, MOST_GRADIENT_STEPS)

    def perturb(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,
        stop_when_fooled: bool,
        others: Tensor | None = None,
    ) -> Tensor:
        """Return the best adversarials; see `Attack.__call__` for shapes and units."""
        start = images
        if self.random_start:
            noise = self.geometry.random(tuple(images.shape), self.eps, generator).to(images)
            start = self.inside(images, images + noise, self.eps)
        for number, (steps, radius) in enumerate(self._stages()):
            ascent = _Course(self, model, images, labels, radius, stop_when_fooled, number > 0)
            start = ascent.run(self.inside(images, start, radius), steps)
        return self.inside(images, start, self.eps)

    def _stages(self) -> list[tuple[int, float]]:
        """Return the steps and the radius of every stage."""
        if self.norm != "l1":
            return [(self.steps, self.eps)]
        counts = [max(1, round(share * self.steps)) for share, _ in STAGES[:-1]]
        last = max(1, self.steps - sum(counts))
        radii = [self.eps * factor for _, factor in STAGES]
        return list(zip([*counts, last], radii, strict=True))

    def inside(self, images: Tensor, adversarials: Tensor, eps: float) -> Tensor:
        """Return the nearest images in the ball of a radius and in the range."""
        delta = adversarials - images
        if self.norm == "l1":
            return (images + l1_project(delta, eps, -images, 1 - images)).clamp_(0, 1)
        return (images + self.geometry.project(delta, eps)).clamp_(0, 1)


def checkpoints(steps: int) -> Iterator[int]:
    """Yield after which steps the step size is looked at (Croce and Hein 2020, section 3.2).

    >>> list(checkpoints(100))
    [22, 41, 57, 70, 80, 87, 93, 99]
    """
    place, span = 0.0, FIRST
    while place < 1:
        place += span
        span = max(span - LESS, LEAST)
        after = math.ceil(round(place * steps, 6))
        if after >= steps:
            return
        yield after


@dataclass(eq=False)
class _Course:
    """One stage of the ascent, within `radius`. `rows` are the images still attacked.

    `now` holds of each of them where it is and was, its value and gradient, the best so far with
    value and gradient, and what the next step is made of.
    """

    attack: APGD
    model: nn.Module
    images: Tensor
    labels: Tensor
    radius: float
    stop_when_fooled: bool
    goes_on: bool = False  # from where another has ended

    def run(self, start: Tensor, steps: int) -> Tensor:
        """Return the best adversarials found in so many steps from `start`."""
        result = start.clone()
        rows = torch.arange(len(start), device=start.device)
        value, gradient, fooled = self._at(start, rows)
        one = torch.ones_like(value)
        sparse, kept_sparse = self._first_sparsity(start)
        first = self.radius if self.attack.norm == "l1" else 2 * self.radius
        now = {
            **{"here": start, "before": start, "best": start},
            **{"value": value, "best_value": value, "kept_value": value},
            **{"gradient": gradient, "best_gradient": gradient},
            **{"length": first * one, "kept_length": first * one},
            **{"sparse": sparse, "kept_sparse": kept_sparse},
            **{"improved": 0 * one, "fooled": fooled},
        }
        checks, last = set(self._checks(steps)), 0
        for step in range(steps):
            if self.stop_when_fooled and bool(now["fooled"].any()):
                left = ~now["fooled"]
                result[rows[~left]] = now["here"][~left]
                rows, now = rows[left], {name: each[left] for name, each in now.items()}
            if not len(rows):
                return result
            self._step(now, rows, with_inertia=step > 0)
            if step + 1 in checks:
                self._check(now, rows, step + 1 - last)
                last = step + 1
        ended = now["fooled"] if self.stop_when_fooled else torch.zeros_like(now["fooled"])
        result[rows] = torch.where(per_image(ended), now["here"], now["best"])
        return result

    def _checks(self, steps: int) -> Iterable[int]:
        """Return after which steps the step size is looked at."""
        if self.attack.norm != "l1":
            return checkpoints(steps)
        span = max(int(CHECKED * steps), 1)
        return range(span, steps + 1, span)

    def _sparsity(self, places: Tensor, images: Tensor) -> Tensor:
        """Return the share of pixels to move next, of the perturbation's own (n,)."""
        size = images[0].numel()
        moved = ((places - images).flatten(1) != 0).sum(dim=1).to(images)
        return (moved / (SPARSER * size)).clamp(1 / size, 1)

    def _first_sparsity(self, start: Tensor) -> tuple[Tensor, Tensor]:
        """Return the share of pixels that move at first, and the one it is compared with."""
        if self.goes_on:
            own = self._sparsity(start, self.images)
            return own, own
        one = torch.ones_like(start[:, 0, 0, 0])
        return SPARSE * one, one / SPARSER

    def _step(self, now: dict[str, Tensor], rows: Tensor, *, with_inertia: bool) -> None:
        """Go on by one step, and note what is better than before."""
        attack, images, here = self.attack, self.images[rows], now["here"]
        if attack.norm == "l1":
            size = images[0].numel()
            step = sparse_sign(now["gradient"], (now["sparse"] * size).round().clamp_min(1))
        else:
            step = attack.geometry.steepest(now["gradient"])
        moved = attack.inside(images, here + per_image(now["length"]) * step, self.radius)
        if with_inertia and attack.norm != "l1":
            moved = here + INERTIA * (moved - here) + (1 - INERTIA) * (here - now["before"])
            moved = attack.inside(images, moved, self.radius)
        value, gradient, fooled = self._at(moved, rows)
        now["improved"] = now["improved"] + (value > now["value"]).to(value)
        better = value > now["best_value"]
        now |= {
            **{"before": here, "here": moved, "value": value, "gradient": gradient},
            "fooled": fooled,
            "best": torch.where(per_image(better), moved, now["best"]),
            "best_gradient": torch.where(per_image(better), gradient, now["best_gradient"]),
            "best_value": torch.where(better, value, now["best_value"]),
        }

    def _check(self, now: dict[str, Tensor], rows: Tensor, span: int) -> None:
        """Look at the last `span` steps; where they failed go on from the best, by shorter ones."""
        length, images = now["length"], self.images[rows]
        if self.attack.norm == "l1":
            sparse = self._sparsity(now["best"], images)
            # From the best, by the longest steps, where that has become sparser.
            again = sparse / now["kept_sparse"] < 0.95
            shorter = (length / SPARSER).clamp_min(self.radius / 10)
            now["length"] = torch.where(again, torch.full_like(length, self.radius), shorter)
            now["sparse"] = now["kept_sparse"] = sparse
        else:
            again = now["improved"] < IMPROVED * span
            again |= (length == now["kept_length"]) & (now["best_value"] <= now["kept_value"])
            now["length"] = torch.where(again, length / 2, length)
        now |= {"kept_length": length, "kept_value": now["best_value"]}
        now["improved"] = torch.zeros_like(now["improved"])
        for name in ("here", "gradient"):
            best = now["best" if name == "here" else "best_gradient"]
            now[name] = torch.where(per_image(again), best, now[name])
        now["value"] = torch.where(again, now["best_value"], now["value"])

    def _at(self, places: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is ascended, its gradient, and whether the model is fooled, at `places`."""
        labels = self.labels[rows]
        gradient, logits = loss_gradient(self.model, places, labels, self.attack.loss)
        value = LOSSES[self.attack.loss](logits, labels)
        right = logits.argmax(dim=1) == labels
        if self.attack.targeted:
            return -value, -gradient, right
        return value, gradient, ~right
