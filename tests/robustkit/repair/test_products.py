"""Candidates in fully connected tails, scored by products, against changed copies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robustkit.models import Classifier, build
from robustkit.repair import Selection, make_scorer
from tests.robustkit.repair.nets import (
    CLASSES,
    SIDE,
    chosen,
    noise,
    seeded,
    wrap,
)
from tests.robustkit.repair.scored import (
    INPUTS,
    TOUCHED,
    Twice,
    candidates,
    check,
    check_all_ways,
    deep,
    drawn,
    naive,
)


@pytest.fixture(scope="module")
def repaired_net() -> Classifier:
    """The net of the source's experiments, as it is before training."""
    return build("cnn6_2", num_classes=6, in_channels=1, image_size=22, seed=0).eval()


@pytest.mark.parametrize("touched", [("hidden.1",), ("head.1",), ("hidden.1", "head.1")])
@pytest.mark.parametrize("count", [1, 60])
def test_the_published_net_is_scored_by_products(
    repaired_net: Classifier, touched: tuple[str, ...], count: int
) -> None:
    selection = Selection(
        {name: torch.tensor(drawn(repaired_net, name, count)) for name in touched}
    )
    images = noise(12, classes=6, side=22)
    assert make_scorer(repaired_net, images, selection).way == "products"
    values = candidates(repaired_net, selection, 4)
    expected = naive(repaired_net, images, selection, values)
    assert count == 1 or float((expected[1] - expected[0]).abs().max()) > 1e-3
    for way in ("products", "tail", "whole"):
        scorer = make_scorer(repaired_net, images, selection, ways=(way,))
        assert scorer.way == way
        torch.testing.assert_close(scorer.logits(values), expected, rtol=0, atol=1e-5)
        if count > 1:
            check(scorer, repaired_net, images, selection, count=4)


def test_weights_on_changed_inputs_are_counted_once(repaired_net: Classifier) -> None:
    """Cross terms: the last layer's chosen weights lie on units that the first one changes."""
    rows = [3, 100, 101, 511]
    first = sorted(row * 128 + column for row in rows for column in (0, 5, 77))
    crossing = sorted(k * 512 + row for k in range(6) for row in (3, 101))
    apart = [k * 512 + 200 for k in range(6)]
    images = noise(12, classes=6, side=22)
    for last in (crossing, sorted(crossing + apart), apart):
        selection = Selection({"hidden.1": torch.tensor(first), "head.1": torch.tensor(last)})
        check_all_ways(repaired_net, selection, images, count=4)


@pytest.mark.parametrize("touched", TOUCHED)
def test_three_layers_are_scored_alike_in_all_ways(touched: str) -> None:
    check_all_ways(deep(), TOUCHED[touched])


@pytest.mark.parametrize("touched", ["first", "last", "all"])
def test_layers_without_biases(touched: str) -> None:
    check_all_ways(deep(bias=False), TOUCHED[touched])


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "relu in place": lambda: nn.ReLU(inplace=True),
    "relu6": nn.ReLU6,
    "leaky": lambda: nn.LeakyReLU(0.3),
    "elu in place": lambda: nn.ELU(0.7, inplace=True),
    "celu": nn.CELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "gelu tanh": lambda: nn.GELU(approximate="tanh"),
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "hardtanh": lambda: nn.Hardtanh(-0.2, 0.3),
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": lambda: nn.Softplus(beta=2),
    "several": lambda: nn.Sequential(nn.Dropout(0.5), nn.Tanh(), nn.AlphaDropout(), nn.Sigmoid()),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_elementwise_activation(activation: str) -> None:
    check_all_ways(deep(activation=ACTIVATIONS[activation]), TOUCHED["all"])


@pytest.mark.parametrize("kind", ["softmax", "layer norm", "prelu", "softshrink"])
def test_what_is_not_known_to_be_elementwise_is_no_product(kind: str) -> None:
    widths = iter((12, 9))
    activation: dict[str, Callable[[], nn.Module]] = {
        "softmax": lambda: nn.Softmax(dim=-1),
        "layer norm": lambda: nn.LayerNorm(next(widths)),
        "prelu": lambda: nn.PReLU(init=-0.4),
        "softshrink": lambda: nn.Softshrink(0.05),
    }
    model = deep(activation=activation[kind])
    for selection in (TOUCHED["first"], TOUCHED["middle"]):
        assert make_scorer(model, noise(20), selection, ways=("products",)).way == "whole"
        scorer = make_scorer(model, noise(20), selection)
        assert scorer.way == "tail"
        check(scorer, model, noise(20), selection)
    # What comes before the last layer alone does not matter.
    assert make_scorer(model, noise(20), TOUCHED["last"], ways=("products",)).way == "products"


class Functional(nn.Module):
    """Elementwise functions as functions, as methods and in place."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.a, self.b = nn.Linear(INPUTS, 12), nn.Linear(12, 9)
        self.c = nn.Linear(9, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        y: Tensor = self.a(torch.flatten(x, 1))
        y = {
            "F.relu": lambda: F.relu(y),
            "F.relu in place": lambda: F.relu(y, inplace=True),
            "torch.relu": lambda: torch.relu(y),
            "method": lambda: y.relu(),
            "sigmoid": lambda: y.sigmoid(),
            "tanh": lambda: torch.tanh(y),
            "gelu": lambda: F.gelu(y),
            "silu": lambda: F.silu(y),
            "gelu tanh": lambda: F.gelu(y, approximate="tanh"),
            "relu_": lambda: y.relu_(),
            "clamp": lambda: y.clamp(-0.1, 0.2),
            "add": lambda: y + 1,
        }[self.kind]()
        z: Tensor = self.c(F.relu(self.b(y)))
        return z


@pytest.mark.parametrize("selection", [chosen(a=[0, 50]), chosen(a=[0, 50], b=[0, 13], c=[0, 35])])
@pytest.mark.parametrize(
    "kind",
    ["F.relu", "F.relu in place", "torch.relu", "method", "sigmoid", "tanh", "gelu", "silu"],
)
def test_functions_may_stand_for_modules(kind: str, selection: Selection) -> None:
    check_all_ways(wrap(seeded(lambda: Functional(kind))), selection)


@pytest.mark.parametrize("kind", ["gelu tanh", "relu_", "clamp", "add"])
def test_other_functions_are_scored_by_the_tail(kind: str) -> None:
    model, selection = wrap(seeded(lambda: Functional(kind))), chosen(a=[0, 50], c=[0, 35])
    assert make_scorer(model, noise(9), selection, ways=("products",)).way == "whole"
    scorer = make_scorer(model, noise(9), selection)
    assert scorer.way == "tail"
    check(scorer, model, noise(9), selection)


def test_rows_may_have_unequal_numbers_of_weights() -> None:
    """Of the first layer row 0 entirely, row 1 in one weight, row 2 in three, row 5 in 17."""
    rows = {0: list(range(INPUTS)), 1: [7], 2: [0, 5, 35], 5: list(range(3, 20))}
    first = sorted(row * INPUTS + column for row, columns in rows.items() for column in columns)
    check_all_ways(deep(), chosen(_1=first))
    last = [3, *range(27, 36)]
    check_all_ways(deep(), chosen(_1=first, _3=[0, 1, 2, 26, 30, 31], _5=last))


@settings(max_examples=40)
@given(
    places=st.tuples(
        st.sets(st.integers(0, 12 * INPUTS - 1), max_size=60),
        st.sets(st.integers(0, 107), max_size=60),
        st.sets(st.integers(0, 35), max_size=20),
    ).filter(any),
    order=st.permutations(["1", "3", "5"]),
)
def test_any_selection_is_scored_alike(places: tuple[set[int], ...], order: list[str]) -> None:
    """The layers of a selection may be listed in any order."""
    by_name = dict(zip(("1", "3", "5"), places, strict=True))
    selection = Selection(
        {name: torch.tensor(sorted(by_name[name])) for name in order if by_name[name]}
    )
    model, images = deep(activation=nn.Tanh), noise(9)
    values = candidates(model, selection, 3)
    expected = naive(model, images, selection, values)
    for way in ("products", "tail", "whole"):
        scorer = make_scorer(model, images, selection, ways=(way,))
        assert scorer.way == way
        found = scorer.logits(values)
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)


class Residual(nn.Module):
    """A sum of two ways through fully connected layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(INPUTS, 10), nn.Linear(10, 10)
        self.c = nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        y = torch.tanh(self.a(x.flatten(1)))
        z: Tensor = self.c(torch.tanh(self.b(y)) + y)
        return z


class Positions(nn.Module):
    """Fully connected layers on (n, positions, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(SIDE, 5), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        y: Tensor = self.b(torch.tanh(self.a(x[:, 0]))).mean(dim=1)
        return y


@pytest.mark.parametrize(
    ("make", "selection"),
    [
        (Twice, chosen(b=[0, 9, 63])),
        (Residual, chosen(a=[0, 50])),
        (Residual, chosen(b=[0, 50])),
        (Positions, chosen(a=[0, 29], b=[3])),
    ],
    ids=["called twice", "before branches", "in a branch", "positions"],
)
def test_a_tail_that_is_no_chain_of_rows_is_no_product(
    make: Callable[[], nn.Module], selection: Selection
) -> None:
    model = wrap(seeded(make))
    assert make_scorer(model, noise(9), selection, ways=("products",)).way == "whole"
    assert make_scorer(model, noise(9), selection).way == "tail"
    for way in ("tail", "whole"):
        check(make_scorer(model, noise(9), selection, ways=(way,)), model, noise(9), selection)


def test_branches_before_the_cut_do_not_matter() -> None:
    check_all_ways(wrap(seeded(Residual)), chosen(c=[0, 39]))
