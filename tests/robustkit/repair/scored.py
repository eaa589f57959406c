"""Candidates, the slow way to score them, and nets of three fully connected layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustkit.data import ImageSet
from robustkit.models import Classifier
from robustkit.repair import Scorer, Selection, make_scorer
from tests.robustkit.repair.nets import (
    CLASSES,
    SIDE,
    chosen,
    noise,
    parameter,
    seeded,
    substituted,
    wrap,
)

INPUTS = SIDE**2


def candidates(model: Classifier, selection: Selection, count: int = 5, seed: int = 0) -> Tensor:
    """The values as they are, then values like those of the whole net, large ones and zeros."""
    generator = torch.Generator().manual_seed(seed)
    current = selection.values(model)
    drawn = current + torch.randn(count, len(current), generator=generator) * 0.5
    drawn[0] = current
    if count > 3:
        drawn[2] *= 4
        drawn[3] = 0
    return drawn


def naive(model: Classifier, images: ImageSet, selection: Selection, values: Tensor) -> Tensor:
    """Logits (P,n,K) by an ordinary forward pass of a changed copy."""
    pixels = images.floats()
    with torch.no_grad():
        return torch.stack([substituted(model, selection, each)(pixels) for each in values])


def check(
    scorer: Scorer, model: Classifier, images: ImageSet, selection: Selection, count: int = 5
) -> None:
    """Logits, hits and losses are those of the changed copies."""
    values = candidates(model, selection, count)
    expected = naive(model, images, selection, values)
    found = scorer.logits(values)
    assert found.shape == expected.shape == (count, len(images), expected.shape[2])
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)
    # Not a comparison of a net with itself.
    assert float((expected[1:] - expected[0]).abs().amax(dim=(1, 2)).median()) > 1e-3
    right, loss = scorer.score(values)
    assert right.dtype == torch.bool
    exact = expected.double()
    for p in range(count):
        for i, label in enumerate(images.labels.tolist()):
            row = exact[p, i]
            others = max(float(row[k]) for k in range(len(row)) if k != label)
            margin = float(row[label]) - others
            if abs(margin) > 1e-4 * scale:
                assert bool(right[p, i]) == (margin > 0)
    cross_entropy = -exact.log_softmax(dim=2)[:, torch.arange(len(images)), images.labels]
    torch.testing.assert_close(loss.double(), cross_entropy, rtol=1e-5, atol=3e-5 * scale)


def check_all_ways(
    model: Classifier, selection: Selection, images: ImageSet | None = None, count: int = 5
) -> None:
    """Products, a traced tail and the whole net agree with the changed copies."""
    images = images or noise(20)
    for way in ("products", "tail", "whole"):
        scorer = make_scorer(model, images, selection, ways=(way,))
        assert scorer.way == way
        check(scorer, model, images, selection, count)


def drawn(model: Classifier, layer: str, count: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(parameter(model, layer).numel(), generator=generator)
    return sorted(order[:count].tolist())


def deep(
    *, activation: Callable[[], nn.Module] = nn.ReLU, bias: bool = True, seed: int = 0
) -> Classifier:
    """Three fully connected layers, "1", "3" and "5", of 12, 9 and 4 outputs."""
    return wrap(
        seeded(
            lambda: nn.Sequential(
                nn.Flatten(),
                nn.Linear(INPUTS, 12, bias=bias),
                activation(),
                nn.Linear(12, 9, bias=bias),
                activation(),
                nn.Linear(9, CLASSES, bias=bias),
            ),
            seed,
        )
    )


TOUCHED = {
    "first": chosen(_1=[0, 40, 41, 200]),
    "middle": chosen(_3=[1, 12, 13, 14, 100]),
    "last": chosen(_5=[0, 8, 9, 35]),
    "first and last": chosen(_1=[0, 40, 41, 200], _5=[0, 1, 5, 12, 35]),
    "first and middle": chosen(_1=[0, 40, 41, 200], _3=[0, 1, 5, 12, 35]),
    "middle and last": chosen(_3=[0, 1, 5, 12, 35], _5=[2, 10, 30]),
    "all": chosen(_1=[3, 71, 72, 180], _3=[0, 1, 5, 24, 107], _5=[0, 9, 18, 27, 28]),
    "one": chosen(_3=[50]),
    "whole layers": chosen(_1=list(range(12 * INPUTS)), _5=list(range(36))),
    "whole middle": chosen(_3=list(range(108))),
    "one whole row": chosen(_1=list(range(INPUTS)), _3=list(range(0, 108, 12))),
}


class Twice(nn.Module):
    """One layer is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(INPUTS, 8), nn.Linear(8, 8)
        self.c = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        y: Tensor = self.c(torch.tanh(self.b(torch.tanh(self.b(self.a(x.flatten(1)))))))
        return y
