"""Candidates scored in every way, against a deep copy of the net with the values put in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robustkit.data import ImageSet
from robustkit.models import Classifier, build
from robustkit.repair import Scorer, Selection, make_scorer, products
from tests.robustkit.attacks.test_purity import Restless, mixed, same, state
from tests.robustkit.repair.nets import (
    CLASSES,
    SIDE,
    bits,
    chosen,
    frozen,
    mixed_net,
    noise,
    parameter,
    same_tensors,
    seeded,
    substituted,
    wrap,
)
from tests.robustkit.repair.test_impacts import TiedNet

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
        assert scorer.how == way
        check(scorer, model, images, selection, count)


# ------------------------------------------------------------------------------------ dense tails


@pytest.fixture(scope="module")
def repaired_net() -> Classifier:
    """The net of the source's experiments, as it is before training."""
    return build("cnn6_2", num_classes=6, in_channels=1, image_size=22, seed=0).eval()


def drawn(model: Classifier, layer: str, count: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(parameter(model, layer).numel(), generator=generator)
    return sorted(order[:count].tolist())


@pytest.mark.parametrize("touched", [("hidden.1",), ("head.1",), ("hidden.1", "head.1")])
@pytest.mark.parametrize("count", [1, 60])
def test_the_published_net_is_scored_by_products(
    repaired_net: Classifier, touched: tuple[str, ...], count: int
) -> None:
    selection = Selection(
        {name: torch.tensor(drawn(repaired_net, name, count)) for name in touched}
    )
    images = noise(12, classes=6, side=22)
    assert make_scorer(repaired_net, images, selection).how == "products"
    values = candidates(repaired_net, selection, 4)
    expected = naive(repaired_net, images, selection, values)
    assert count == 1 or float((expected[1] - expected[0]).abs().max()) > 1e-3
    for way in ("products", "tail", "whole"):
        scorer = make_scorer(repaired_net, images, selection, ways=(way,))
        assert scorer.how == way
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
        assert make_scorer(model, noise(20), selection, ways=("products",)).how == "whole"
        scorer = make_scorer(model, noise(20), selection)
        assert scorer.how == "tail"
        check(scorer, model, noise(20), selection)
    # What comes before the last layer alone does not matter.
    assert make_scorer(model, noise(20), TOUCHED["last"], ways=("products",)).how == "products"


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
    assert make_scorer(model, noise(9), selection, ways=("products",)).how == "whole"
    scorer = make_scorer(model, noise(9), selection)
    assert scorer.how == "tail"
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
        assert scorer.how == way
        found = scorer.logits(values)
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)


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
    assert make_scorer(model, noise(9), selection, ways=("products",)).how == "whole"
    assert make_scorer(model, noise(9), selection).how == "tail"
    for way in ("tail", "whole"):
        check(make_scorer(model, noise(9), selection, ways=(way,)), model, noise(9), selection)


def test_branches_before_the_cut_do_not_matter() -> None:
    check_all_ways(wrap(seeded(Residual)), chosen(c=[0, 39]))


# ------------------------------------------------------------------------------------ chunks


@pytest.mark.parametrize("chunk", [1, 700, 4_000, 10_000])
def test_scores_do_not_depend_on_the_size_of_a_chunk(
    monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    model, images, selection = deep(), noise(150), TOUCHED["all"]
    values = candidates(model, selection, 9)
    scorer = make_scorer(model, images, selection, ways=("products",))
    assert len(list(scorer.parts(values))) == 1
    whole_logits, (whole_right, whole_loss) = scorer.logits(values), scorer.score(values)
    monkeypatch.setattr(products, "CHUNK", chunk)
    scorer = make_scorer(model, images, selection, ways=("products",))
    parts = list(scorer.parts(values))
    assert len(parts) > 1
    covered = torch.zeros(9, 150, dtype=torch.int64)
    for which, some, logits in parts:
        covered[which, some] += 1
        assert logits.shape == (CLASSES, which.stop - which.start, some.stop - some.start)
    assert bool((covered == 1).all())
    torch.testing.assert_close(scorer.logits(values), whole_logits, rtol=0, atol=1e-5)
    right, loss = scorer.score(values)
    torch.testing.assert_close(loss, whole_loss, rtol=1e-5, atol=1e-5)
    settled = (whole_logits.topk(2).values.diff().abs() > 1e-4).squeeze(2)
    assert torch.equal(right[settled], whole_right[settled])
    check(scorer, model, images, selection)


@pytest.mark.parametrize("way", ["tail", "whole"])
@pytest.mark.parametrize("count", [249, 250, 251, 600])
def test_more_images_than_a_batch(way: str, count: int) -> None:
    model, selection = deep(), TOUCHED["first and last"]
    scorer = make_scorer(model, noise(count), selection, ways=(way,))
    assert scorer.how == way
    check(scorer, model, noise(count), selection, count=2)


@pytest.mark.parametrize("way", ["products", "tail", "whole"])
def test_one_image_and_one_candidate(way: str) -> None:
    model, selection = deep(), TOUCHED["all"]
    scorer = make_scorer(model, noise(1), selection, ways=(way,))
    values = candidates(model, selection)[2:3]
    expected = naive(model, noise(1), selection, values)
    torch.testing.assert_close(scorer.logits(values), expected, rtol=1e-5, atol=1e-5)
    right, loss = scorer.score(values)
    assert right.shape == loss.shape == (1, 1)
    wanted = F.cross_entropy(expected[0], noise(1).labels)
    assert float(loss) == pytest.approx(float(wanted), rel=1e-5)


# ------------------------------------------------------------------------------------ convolutions


def trained_statistics(name: str) -> Classifier:
    """A net whose batch norm has seen images."""
    model = build(name, num_classes=4, in_channels=1, image_size=8, width=4, seed=0)
    model.train()(noise(40, side=8, seed=5).floats())
    return model.eval()


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet20", ["stem.0"]),
        ("resnet20", ["stage1.1.branch.0"]),
        ("resnet20", ["stage2.0.branch.3"]),
        ("resnet20", ["stage3.2.branch.3"]),
        ("resnet20", ["stage2.1.branch.0", "stage3.0.branch.3", "head.1"]),
        ("resnet18", ["stage2.0.shortcut.0"]),
        ("resnet18", ["stage4.1.branch.3", "stage4.0.shortcut.0"]),
        ("vgg3", ["stage1.0"]),
        ("vgg3", ["stage3.0", "head.1"]),
    ],
)
def test_convolutions_are_scored_by_the_tail(name: str, layers: list[str]) -> None:
    model, images = trained_statistics(name), noise(10, side=8)
    selection = Selection({each: torch.tensor(drawn(model, each, 9)) for each in layers})
    scorer = make_scorer(model, images, selection)
    assert scorer.how == "tail"
    check(scorer, model, images, selection)
    check(make_scorer(model, images, selection, ways=("whole",)), model, images, selection)


def test_a_convolution_before_fully_connected_layers() -> None:
    model, selection = mixed_net(), chosen(_2=[0, 50, 107], _5=[0, 447], _7=[3])
    assert make_scorer(model, noise(9), selection, ways=("products",)).how == "whole"
    scorer = make_scorer(model, noise(9), selection)
    assert scorer.how == "tail"
    check(scorer, model, noise(9), selection)


def test_products_are_given_up_where_a_loop_is_cheaper() -> None:
    selection = TOUCHED["whole layers"]
    assert make_scorer(deep(), noise(9), selection).how == "tail"
    assert make_scorer(deep(), noise(9), TOUCHED["first"]).how == "products"


# ---------------------------------------------------------------------------------- in-place code


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
    assert scorer.how == "tail"


@pytest.mark.parametrize("kind", ["beside", "product"])
def test_harm_by_in_place_code_is_seen_on_later_images_too(kind: str) -> None:
    """The first eight images are such that what is written is what was there."""
    model, images = wrap(seeded(lambda: Writing(kind))), noise(20)
    with torch.no_grad():
        parameter(model, "a", "bias").fill_(0.5 if kind == "beside" else 0.0)
        parameter(model, "b", "bias").fill_(0.0)
    # Nothing is subtracted, so the first layer gives its bias for black images.
    model.normalise.mean.fill_(0.0)
    images.images[:8] = 0
    scorer = make_scorer(model, images, chosen(b=[0, 50, 99]))
    check(scorer, model, images, chosen(b=[0, 50, 99]))


# ------------------------------------------------------------------------------------ the fallback


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
    assert scorer.how == "whole"
    check(scorer, model, noise(9), selection)


def test_too_little_memory_forces_the_whole_net() -> None:
    model, images, selection = deep(), noise(20), TOUCHED["all"]
    needed = 20 * INPUTS * 4
    assert make_scorer(model, images, selection, memory=needed).how == "products"
    assert make_scorer(model, images, selection, memory=needed, ways=("tail",)).how == "tail"
    for memory in (needed - 1, 0):
        scorer = make_scorer(model, images, selection, memory=memory)
        assert scorer.how == "whole"
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


# ------------------------------------------------------------------------------------ scores


@pytest.mark.parametrize("way", ["products", "tail", "whole"])
def test_a_candidate_that_is_no_number_is_wrong(way: str) -> None:
    model, selection = deep(), TOUCHED["first"]
    values = candidates(model, selection, 2)
    values[1] = torch.nan
    right, loss = make_scorer(model, noise(20), selection, ways=(way,)).score(values)
    expected = naive(model, noise(20), selection, values[:1])[0].argmax(dim=1)
    assert right[0].tolist() == (expected == noise(20).labels).tolist()
    assert not right[1].any()
    assert bool(loss[1].isnan().all())


@pytest.mark.parametrize("way", ["products", "tail", "whole"])
def test_of_equal_logits_the_one_that_is_predicted_counts(way: str) -> None:
    """A net that ends in ReLU, and says nothing at all of any image."""
    model = wrap(seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, CLASSES), nn.ReLU())))
    with torch.no_grad():
        parameter(model, "1", "bias").fill_(-100.0)
    images, selection = noise(40), chosen(_1=[0, 1])
    scorer = make_scorer(model, images, selection, ways=(way,))
    right, _ = scorer.score(selection.values(model)[None])
    predicted = model(images.floats()).argmax(dim=1)
    assert right[0].tolist() == (predicted == images.labels).tolist()


# ---------------------------------------------------------------------------------- what is left


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("way", ["products", "tail", "whole"])
def test_the_model_and_the_random_states_are_left_as_they_were(way: str, training: bool) -> None:
    net = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3),
            nn.BatchNorm2d(2),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(32, 6),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(6, CLASSES),
        )
    )
    model, images, selection = wrap(net), noise(20), chosen(_4=[0, 50, 100], _7=[1])
    if training:
        mixed(model)
    before, kept = state(model), bits(images.images)
    scorer = make_scorer(model, images, selection, ways=(way,))
    assert scorer.how == way
    assert same(before, state(model))
    values = candidates(model, selection)
    given_values = values.clone()
    first = scorer.score(values)
    second = scorer.score(values)
    assert all(map(torch.equal, first, second))
    assert same(before, state(model))
    assert torch.equal(values, given_values)
    assert bits(images.images) == kept


def test_a_model_in_train_mode_is_scored_in_evaluation_mode() -> None:
    model = deep(activation=lambda: nn.Dropout(0.5))
    weights = frozen(model)
    for way in ("products", "tail", "whole"):
        model.train()
        scorer = make_scorer(model, noise(20), TOUCHED["all"], ways=(way,))
        check(scorer, model, noise(20), TOUCHED["all"])
    assert same_tensors(weights, frozen(model))


@pytest.mark.parametrize("ways", [("whole",), ("products", "tail", "whole")])
def test_code_with_a_memory_is_left_as_it_was(ways: tuple[str, ...]) -> None:
    """Tracing runs the net's code, which counts its calls and draws random numbers."""
    model, images = wrap(Restless(), classes=3, side=8), noise(9, classes=3, side=8)
    mixed(model)
    selection = Selection({"net.5": torch.tensor([0, 100])})
    before = state(model)
    scorer = make_scorer(model, images, selection, ways=ways)
    assert same(before, state(model))
    scorer.score(candidates(model, selection))
    assert same(before, state(model))
