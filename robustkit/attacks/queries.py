"""HopSkipJump: an attack that sees a model's decisions and nothing else (Chen et al. 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustkit.attacks.base import Attack
from robustkit.attacks.norms import TINY, per_image
from robustkit.attacks.ranges import MOST_STEPS, check_count
from robustkit.compute import draws
from robustkit.errors import AttackError

TRIES = 50  # random pictures before an image is given up
HALVINGS = 12  # of a step
FINEST = 2.0**-22  # share of a distance that float32 pixels still tell apart


@dataclass(frozen=True, kw_only=True)
class HopSkipJump(Attack):
    """Along the boundary to the nearest adversarial, by decisions alone, in l2 or linf.

    From a random picture that the model gets wrong: to the boundary by halving, then `steps` times
    a direction from `samples`·√t decisions at random places nearby, a step along it, and to the
    boundary again. It keeps to no ball: what lies outside `eps` is given back as the clean image.
    """

    paper: ClassVar[str] = "Chen et al. 2020 (arXiv 1904.02144)"
    steps: int = 20
    samples: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "samples"):
            check_count(f"{self.name}: {name}", getattr(self, name), MOST_STEPS)
        if self.norm not in ("linf", "l2"):
            raise AttackError(f"{self.name}: it works in linf and l2, not in {self.norm}")
        if self.targeted:
            raise AttackError(f"{self.name} has no targeted form")

    @property
    def gradient_free(self) -> bool:
        """Whether it only asks for outputs."""
        return True

    def perturb(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,
        stop_when_fooled: bool,
        others: Tensor | None = None,
    ) -> Tensor:
        """Return the nearest adversarials found, where they lie in the ball."""
        seeds = torch.randint(2**62, (len(images),), generator=generator).to(images.device)
        search = _Search(self, model, images, labels, seeds)
        with torch.no_grad():
            near = search.run()
        return self.kept_in_ball(near, images)


@dataclass(eq=False)
class _Search:
    """The search of all images of a batch, step by step together."""

    attack: HopSkipJump
    model: nn.Module
    images: Tensor
    labels: Tensor
    seeds: Tensor

    def run(self) -> Tensor:
        """Return the nearest adversarials found; where there is none, the image."""
        images, geometry = self.images, self.attack.geometry
        here, found = self._starts()
        here = self._to_boundary(here)
        size = images[0].numel()
        for step in range(1, self.attack.steps + 1):
            distance = geometry.size(here - images)
            # How far to look: as far as an error of the boundary search does not matter.
            share = self._finest() * (size**0.5 if self.attack.norm == "l2" else size)
            reach = distance * (0.1 if step == 1 else min(share, 0.1))
            direction = self._direction(here, reach, step)
            moved = self._step(here, direction, distance / step**0.5)
            better = self._to_boundary(moved)
            nearer = geometry.size(better - images) < geometry.size(here - images)
            here = torch.where(per_image(nearer), better, here)
        return torch.where(per_image(found), here, images)

    def _finest(self) -> float:
        """Return how near the boundary is found, as a share of the distance: the paper's θ."""
        power = 1.5 if self.attack.norm == "l2" else 2.0
        size: int = self.images[0].numel()
        return max(float(size**-power), FINEST)

    def _fooled(self, pictures: Tensor, rows: Tensor | None = None) -> Tensor:
        labels = self.labels if rows is None else self.labels[rows]
        fooled: Tensor = self.model(pictures).argmax(dim=1) != labels
        return fooled

    def _noise(self, name: str, *place: int) -> Tensor:
        shape = self.images.shape[1:]
        return draws.uniform(self.seeds, shape, name, *place).to(self.images)

    def _starts(self) -> tuple[Tensor, Tensor]:
        """Return adversarials to start from, and where there are any; the image where it is one."""
        found = self._fooled(self.images)
        start = self.images.clone()
        for number in range(TRIES):
            if bool(found.all()):
                break
            guess = self._noise("hopskipjump start", number)
            hit = self._fooled(guess) & ~found
            start = torch.where(per_image(hit), guess, start)
            found = found | hit
        return start, found

    def _between(self, here: Tensor, share: Tensor) -> Tensor:
        """Return places between the images (0) and `here` (1): on the way, or in a shrunk ball."""
        delta = here - self.images
        if self.attack.norm == "l2":
            return self.images + per_image(share) * delta
        most = per_image(share * self.attack.geometry.size(delta))
        return self.images + torch.minimum(torch.maximum(delta, -most), most)

    def _to_boundary(self, here: Tensor) -> Tensor:
        """Return the places next to the images that are still adversarial, by halving."""
        low, high = torch.zeros_like(self.seeds).to(here), torch.ones_like(self.seeds).to(here)
        for _ in range(math.ceil(-math.log2(self._finest()))):
            middle = (low + high) / 2
            fooled = self._fooled(self._between(here, middle))
            low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
        return self._between(here, high)

    def _direction(self, here: Tensor, reach: Tensor, step: int) -> Tensor:
        """Return where adversarials lie, by decisions at random places around, of l2 norm 1."""
        count = round(self.attack.samples * step**0.5)
        total, decided = torch.zeros_like(here), torch.zeros_like(reach)
        moved_by = torch.zeros_like(here)
        for number in range(count):
            luck = self._noise("hopskipjump", step, number).clamp(1e-7, 1 - 1e-7)
            noise = torch.special.ndtri(luck)
            noise = noise / per_image(noise.flatten(1).norm(dim=1).clamp_min(TINY))
            near = (here + per_image(reach) * noise).clamp(0, 1)
            noise = (near - here) / per_image(reach.clamp_min(TINY))
            sign = 2.0 * self._fooled(near).to(here) - 1
            total += per_image(sign) * noise
            decided += sign
            moved_by += noise
        # Less the mean decision, which says nothing of the direction, unless all decide alike.
        alike = decided.abs() == count
        direction = total - per_image(torch.where(alike, 0.0, decided / count)) * moved_by
        return direction / per_image(direction.flatten(1).norm(dim=1).clamp_min(TINY))

    def _step(self, here: Tensor, direction: Tensor, length: Tensor) -> Tensor:
        """Return the places after a step, halved until it still is adversarial."""
        step = direction if self.attack.norm == "l2" else direction.sign()
        moved, done = here, torch.zeros_like(self.seeds).bool()
        for _ in range(HALVINGS):
            tried = (here + per_image(length) * step).clamp(0, 1)
            hit = self._fooled(tried) & ~done
            moved = torch.where(per_image(hit), tried, moved)
            done = done | hit
            length = length / 2
            if bool(done.all()):
                break
        return moved
