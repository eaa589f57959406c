"""Which regions of an image matter: cover them and look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks import predict
from robustkit.errors import ExplainError
from robustkit.explain.trace import Target, class_targets

BATCH = 256


@dataclass(frozen=True, eq=False)
class Occlusion:
    """Of N images with G = rows·columns regions: `score` (N,) uncovered, `covered` (N,G) the score
    with a region covered, `flipped` bool (N,G) whether the prediction changed.
    """

    score: Tensor
    covered: Tensor
    flipped: Tensor
    rows: int
    columns: int

    @property
    def drop(self) -> Tensor:
        """How much of the score each region holds: (N,rows,columns)."""
        return (self.score[:, None] - self.covered).view(-1, self.rows, self.columns)

    @property
    def important(self) -> Tensor:
        """Whether covering a region changes the prediction: bool (N,rows,columns)."""
        return self.flipped.view(-1, self.rows, self.columns)


@dataclass(frozen=True, eq=False)
class Greedy:
    """The regions of one image covered one after the other, most of the score first.

    `regions` are their numbers, `scores` the score after each; `flipped` says whether the last one
    changed the prediction.
    """

    regions: tuple[int, ...]
    scores: tuple[float, ...]
    flipped: bool


def occlusion(
    model: nn.Module,
    images: Tensor,
    target: Target = "predicted",
    *,
    region: int = 2,
    fill: float = 0.0,
) -> Occlusion:
    """Cover each square of `region` pixels of images (N,C,H,W), one at a time, with `fill`.

    Squares at the right and lower border are cut off where the sides are no multiples of `region`.
    Raises `ExplainError` for a region that is no size of a square in the image.
    """
    masks = occlusion_regions(images, region)
    logits = predict(model, images)
    targets = class_targets(target, logits)
    covered = torch.empty(len(images), len(masks), dtype=logits.dtype, device=logits.device)
    flipped = torch.empty(covered.shape, dtype=torch.bool, device=logits.device)
    predicted = logits.argmax(dim=1)
    for number, image in enumerate(images):
        said = torch.cat([predict(model, batch) for batch in _covering(image, masks, fill)])
        covered[number] = said[:, targets[number]]
        flipped[number] = said.argmax(dim=1) != predicted[number]
    height, width = (-(-side // region) for side in images.shape[2:])
    return Occlusion(logits.gather(1, targets[:, None])[:, 0], covered, flipped, height, width)


def greedy_occlusion(
    model: nn.Module,
    images: Tensor,
    target: Target = "predicted",
    *,
    region: int = 2,
    fill: float = 0.0,
    most: int | None = None,
) -> list[Greedy]:
    """Cover regions of images (N,C,H,W) one after the other, each time the one that leaves the
    least score, until the prediction changes or `most` are covered (by default all).

    `region` is a square's side in pixels, `fill` what it is covered with, in [0,1].
    """
    masks = occlusion_regions(images, region)
    logits = predict(model, images)
    targets, predicted = class_targets(target, logits), logits.argmax(dim=1)
    return [
        _greedy(model, image, masks, int(wanted), int(said), fill, most or len(masks))
        for image, wanted, said in zip(images, targets, predicted, strict=True)
    ]


def _greedy(
    model: nn.Module,
    image: Tensor,
    masks: Tensor,
    target: int,
    predicted: int,
    fill: float,
    most: int,
) -> Greedy:
    left = list(range(len(masks)))
    chosen: list[int] = []
    scores: list[float] = []
    flipped = False
    while left and len(chosen) < most and not flipped:
        batches = _covering(image, masks[left], fill)
        said = torch.cat([predict(model, batch) for batch in batches])
        best = int(said[:, target].argmin())
        chosen.append(left.pop(best))
        scores.append(float(said[best, target]))
        image = image.masked_fill(masks[chosen[-1]], fill)
        flipped = int(said[best].argmax()) != predicted
    return Greedy(tuple(chosen), tuple(scores), flipped)


def occlusion_regions(images: Tensor, region: int) -> Tensor:
    """Return bool (G,H,W): the squares of `region` pixels of images (N,C,H,W), row by row.

    Those at the right and lower edges may be narrower. Raises `ExplainError` for squares larger
    than the images.

    >>> occlusion_regions(torch.zeros(1, 1, 4, 5), 2).sum(dim=(1, 2))
    tensor([4, 4, 2, 4, 4, 2])
    """
    height, width = images.shape[2:]
    if not 1 <= region <= min(height, width):
        raise ExplainError(
            f"regions of {region} pixels: from 1 to {min(height, width)} in images of "
            f"{height} x {width}"
        )
    down, right = (torch.arange(side, device=images.device) // region for side in (height, width))
    number = down[:, None] * (int(right[-1]) + 1) + right[None]
    count = int(number.max()) + 1
    return number == torch.arange(count, device=images.device)[:, None, None]


def _covering(image: Tensor, masks: Tensor, fill: float) -> Iterator[Tensor]:
    for start in range(0, len(masks), BATCH):
        yield torch.where(masks[start : start + BATCH, None], fill, image)
