"""One perturbation for many pictures: universal noise in a ball, and a patch anywhere in a picture.

Both are trained on images that are not those attacked, once for every model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from robustkit.attacks.base import Attack
from robustkit.attacks.gradients import LOSSES, loss_gradient
from robustkit.attacks.norms import of_unit_peak
from robustkit.attacks.ranges import MOST_GRADIENT_STEPS, check_count
from robustkit.compute import draws, torch_generator
from robustkit.compute.tensorfiles import checksum
from robustkit.data import ImageSet
from robustkit.errors import AttackError
from robustkit.reading import Json

# What was trained last on a model, from which weights, images and settings.
_TRAINED: WeakKeyDictionary[nn.Module, tuple[str, Tensor]] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class _Trained(Attack):
    """What is trained in `steps` steps on batches of `batch` of the `examples`."""

    steps: int = 500
    batch: int = 32
    loss: str = "ce"
    examples: ImageSet | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        LOSSES.find(self.loss)
        for name in ("steps", "batch"):
            check_count(f"{self.name}: {name}", getattr(self, name), MOST_GRADIENT_STEPS)

    def trained_on(self, images: ImageSet) -> Self:
        """Return this attack with the images that it trains on."""
        return replace(self, examples=images)

    def to_dict(self) -> Json:
        """Return name and hyper-parameters as plain values, and what it is trained on."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        del plain["examples"]
        trained = {} if self.examples is None else {"examples": self.examples.digest()}
        return {"name": self.name, **plain, **trained}

    def learnt(self, model: nn.Module, shape: tuple[int, ...], images: Tensor) -> Tensor:
        """Return what was trained on this model, trained once for the same weights."""
        if self.examples is None:
            raise AttackError(f"{self.name} trains on images: give them with `trained_on`")
        if self.examples.shape != shape:
            raise AttackError(
                f"{self.name}: trained on images of shape {self.examples.shape}, not {shape}"
            )
        wanted = f"{checksum(dict(model.state_dict()))} {self.to_dict()} {images.dtype}"
        known, kept = _TRAINED.get(model, ("", torch.zeros(0)))
        if known != wanted:
            kept = self.train(model, images)
            _TRAINED[model] = (wanted, kept)
        return kept.to(images)

    def train(self, model: nn.Module, like: Tensor) -> Tensor:
        """Return what is added to pictures; `like` tells the type and the device."""
        raise NotImplementedError

    def batches(self, like: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels of every step, drawn with replacement."""
        assert self.examples is not None
        generator = torch_generator(self.name, "batches")
        for _ in range(self.steps):
            rows = torch.randint(len(self.examples), (self.batch,), generator=generator)
            labels = self.examples.labels[rows].to(like.device)
            yield self.examples.floats(rows).to(like), labels


@dataclass(frozen=True, kw_only=True)
class Universal(_Trained):
    """Noise in the ball that is the same for all pictures: steps along the mean gradient."""

    paper: ClassVar[str] = "Shafahi et al. 2020 (arXiv 1811.11304)"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm == "l0":
            raise AttackError(f"{self.name}: it works in linf, l2 and l1; for l0 there is 'patch'")
        if self.targeted:
            raise AttackError(f"{self.name} has no targeted form")

    def train(self, model: nn.Module, like: Tensor) -> Tensor:
        """Return the noise (C,H,W)."""
        noise = torch.zeros_like(like[:1])
        for step, (images, labels) in enumerate(self.batches(like)):
            shown = (images + noise).clamp(0, 1)
            gradient, _ = loss_gradient(model, shown, labels, self.loss)
            length = self.eps * (0.25 if step < self.steps / 2 else 0.05)
            noise = noise + length * self.geometry.steepest(gradient.mean(dim=0, keepdim=True))
            noise = self.geometry.project(noise, self.eps)
        return noise[0]

    def perturb(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,
        stop_when_fooled: bool,
        others: Tensor | None = None,
    ) -> Tensor:
        """Return the images with the noise."""
        noise = self.learnt(model, tuple(images.shape[1:]), images)
        return (images + noise).clamp(0, 1)


@dataclass(frozen=True, kw_only=True)
class Patch(_Trained):
    """A square that covers a share `eps` of a picture, the same for all, somewhere in each.

    It is trained at random places; where it lies in a picture is the picture's own luck.
    """

    paper: ClassVar[str] = "Brown et al. 2017 (arXiv 1712.09665)"
    eps: float = 0.05
    norm: str = "l0"
    lr: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm != "l0":
            raise AttackError(f"{self.name}: its radius is a share of the picture: norm l0")
        if self.targeted:
            raise AttackError(f"{self.name} has no targeted form")
        if not 0 < self.lr <= 1:
            raise AttackError(f"{self.name}: lr must be in (0,1], not {self.lr:g}")

    def side(self, height: int, width: int) -> int:
        """Return the patch's side in pixels; raises `AttackError` where that is none."""
        side = int((self.eps * height * width + 1e-6) ** 0.5)
        if not 1 <= side <= min(height, width):
            raise AttackError(
                f"{self.name}: a share of {self.eps:g} is no square in images of {width}x{height}"
            )
        return side

    def train(self, model: nn.Module, like: Tensor) -> Tensor:
        """Return the patch (C,side,side)."""
        side = self.side(*like.shape[2:])
        patch = torch.full((like.shape[1], side, side), 0.5).to(like)
        for step, (images, labels) in enumerate(self.batches(like)):
            seeds = torch.arange(len(images), device=like.device) + step * self.batch
            shown, top, left = self._put(patch, images, seeds)
            gradient, _ = loss_gradient(model, shown, labels, self.loss)
            total = torch.zeros_like(patch)
            for number, (down, across) in enumerate(zip(top.tolist(), left.tolist(), strict=True)):
                total += gradient[number, :, down : down + side, across : across + side]
            patch = (patch + self.lr * of_unit_peak(total[None])[0]).clamp(0, 1)
        return patch

    def perturb(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,
        stop_when_fooled: bool,
        others: Tensor | None = None,
    ) -> Tensor:
        """Return the images with the patch somewhere in each."""
        seeds = torch.randint(2**62, (len(images),), generator=generator).to(images.device)
        patch = self.learnt(model, tuple(images.shape[1:]), images)
        return self._put(patch, images, seeds)[0]

    def _put(self, patch: Tensor, images: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the images with the patch, and where it begins in each: rows and columns (N,)."""
        side, (height, width) = patch.shape[-1], images.shape[2:]
        luck = draws.uniform(seeds, (2,), self.name)
        top = (luck[:, 0] * (height - side + 1)).long().clamp(max=height - side)
        left = (luck[:, 1] * (width - side + 1)).long().clamp(max=width - side)
        row = torch.arange(height, device=images.device) - top[:, None]
        column = torch.arange(width, device=images.device) - left[:, None]
        inside = ((row >= 0) & (row < side))[:, :, None] & ((column >= 0) & (column < side))[
            :, None
        ]
        placed = patch[:, row.clamp(0, side - 1)[:, :, None], column.clamp(0, side - 1)[:, None]]
        return torch.where(inside[:, None], placed.transpose(0, 1), images), top, left
