"""Nets whose code writes in place, cannot be traced or ties weights, scored right all the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.repair import Selection, make_scorer
from tests.robustkit.repair.impacts_slowly import TiedNet
from tests.robustkit.repair.nets import (
    CLASSES,
    chosen,
    noise,
    parameter,
    seeded,
    wrap,
)
from tests.robustkit.repair.scored import (
    INPUTS,
    TOUCHED,
    check,
    deep,
)


class Writing(nn.Module):
    """Writes in place just before, just behind and beside the cut."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.a, self.b = nn.Linear(INPUTS, 10), nn.Linear(10, 10)
        self.c, self.relu = nn.Linear(10, CLASSES), nn.ReLU(inplace=True)
        with torch.no_grad():
            self.a.bias.fill_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        h: Tensor = self.a(x.flatten(1))
        if self.kind == "before":
            h = self.relu(h)
            y = F.relu(self.b(h)) + h
        elif self.kind == "behind":
            y = self.relu(self.b(h)) + h
        elif self.kind == "beside":
            y = self.b(h) + self.relu(h)
        elif self.kind == "twice":
            y = self.b(h)
            h = self.relu(h)
            y = y + self.b(h)
        elif self.kind == "sum":
            h += self.b(h)
            y = h
        else:
            y = self.b(h)
            h.mul_(torch.sigmoid(y))
            y = y + h
        z: Tensor = self.c(y)
        return z


KINDS = ["before", "behind", "beside", "twice", "sum", "product"]


@pytest.mark.parametrize("selection", [chosen(a=[0, 50]), chosen(b=[0, 50, 99]), chosen(c=[0, 39])])
@pytest.mark.parametrize("kind", KINDS)
def test_code_that_writes_in_place_corrupts_nothing(kind: str, selection: Selection) -> None:
    model, images = wrap(seeded(lambda: Writing(kind))), noise(20)
    scorer = make_scorer(model, images, selection)
    check(scorer, model, images, selection)
    check(scorer, model, images, selection)


@pytest.mark.parametrize("kind", ["before", "behind"])
def test_in_place_code_that_does_no_harm_keeps_its_tail(kind: str) -> None:
    scorer = make_scorer(wrap(seeded(lambda: Writing(kind))), noise(20), chosen(b=[0, 50]))
    assert scorer.way == "tail"


@pytest.mark.parametrize("kind", ["beside", "product"])
def test_harm_by_in_place_code_is_seen_on_later_images_too(kind: str) -> None:
    """The first eight images are such that what is written is what was there."""
    model, images = wrap(seeded(lambda: Writing(kind))), noise(20)
    with torch.no_grad():
        parameter(model, "a", "bias").fill_(0.5 if kind == "beside" else 0.0)
        parameter(model, "b", "bias").fill_(0.0)
    # Nothing is subtracted, so the first layer gives its bias for black images.
    model.preprocess.mean.fill_(0.0)
    images.images[:8] = 0
    scorer = make_scorer(model, images, chosen(b=[0, 50, 99]))
    check(scorer, model, images, chosen(b=[0, 50, 99]))


class Untraceable(nn.Module):
    """Its way depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(INPUTS, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        y = F.relu(self.a(x.flatten(1)))
        if float(y.sum()) > 0:
            y = 2 * y
        z: Tensor = self.b(y)
        return z


class OwnLinear(nn.Linear):
    """A layer with code of its own."""

    def forward(self, x: Tensor) -> Tensor:
        """Twice what a layer of the kind gives."""
        return 2 * super().forward(x)


class Reader(nn.Module):
    """Uses a layer's weight without calling the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(INPUTS, INPUTS), nn.Linear(INPUTS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        y = F.relu(self.a(x.flatten(1)))
        z: Tensor = self.b(F.linear(y, self.a.weight.T))
        return z


class Sized(nn.Module):
    """The number of images is computed before the chosen layer and used behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(INPUTS, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        count = x.size(0)
        y: Tensor = self.b(F.relu(self.a(x.flatten(1))).view(count, 6))
        return y


def own_code() -> nn.Module:
    return nn.Sequential(nn.Flatten(), OwnLinear(INPUTS, 5), nn.ReLU(), nn.Linear(5, CLASSES))


@pytest.mark.parametrize(
    ("make", "selection"),
    [
        (Untraceable, chosen(a=[0, 50], b=[1])),
        (Untraceable, chosen(b=[1, 31])),
        (Reader, chosen(a=[0, 50])),
        (own_code, chosen(_1=[0, 50], _3=[1])),
        (Sized, chosen(a=[0, 50])),
    ],
    ids=["data decides", "data decides, last layer", "weight is read", "own code", "no rows"],
)
def test_a_net_that_cannot_be_cut_is_scored_whole(
    make: Callable[[], nn.Module], selection: Selection
) -> None:
    model = wrap(seeded(make))
    scorer = make_scorer(model, noise(9), selection)
    assert scorer.way == "whole"
    check(scorer, model, noise(9), selection)


def test_too_little_memory_forces_the_whole_net() -> None:
    model, images, selection = deep(), noise(20), TOUCHED["all"]
    needed = 20 * INPUTS * 4
    assert make_scorer(model, images, selection, memory=needed).way == "products"
    assert make_scorer(model, images, selection, memory=needed, ways=("tail",)).way == "tail"
    for memory in (needed - 1, 0):
        scorer = make_scorer(model, images, selection, memory=memory)
        assert scorer.way == "whole"
        check(scorer, model, images, selection)


@pytest.mark.parametrize(
    ("way", "layer"), [("products", "first"), ("products", "second"), ("tail", "second")]
)
def test_tied_weights_change_together(way: str, layer: str) -> None:
    model, selection = wrap(seeded(TiedNet)), chosen(**{layer: [0, 40, 500]})
    check(make_scorer(model, noise(9), selection, ways=(way,)), model, noise(9), selection)


@pytest.mark.parametrize("layer", ["first", "second"])
def test_tied_weights_change_together_in_the_whole_net(layer: str) -> None:
    model, selection = wrap(seeded(TiedNet)), chosen(**{layer: [0, 40, 500]})
    scorer = make_scorer(model, noise(9), selection, ways=("whole",))
    check(scorer, model, noise(9), selection)
