"""Candidates scored in every way, against a deep copy of the net with the values put in."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robustkit.models import Classifier, build
from robustkit.repair import Selection, make_scorer
from robustkit.repair import dense as products
from tests.robustkit.attacks.test_state_preserved import Restless, mixed, same, state
from tests.robustkit.repair.nets import (
    CLASSES,
    bits,
    chosen,
    frozen,
    mixed_net,
    noise,
    parameter,
    same_tensors,
    seeded,
    wrap,
)
from tests.robustkit.repair.scored import (
    INPUTS,
    TOUCHED,
    candidates,
    check,
    deep,
    drawn,
    naive,
)


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
    assert scorer.way == way
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
    assert scorer.way == "tail"
    check(scorer, model, images, selection)
    check(make_scorer(model, images, selection, ways=("whole",)), model, images, selection)


def test_a_convolution_before_fully_connected_layers() -> None:
    model, selection = mixed_net(), chosen(_2=[0, 50, 107], _5=[0, 447], _7=[3])
    assert make_scorer(model, noise(9), selection, ways=("products",)).way == "whole"
    scorer = make_scorer(model, noise(9), selection)
    assert scorer.way == "tail"
    check(scorer, model, noise(9), selection)


def test_products_are_given_up_where_a_loop_is_cheaper() -> None:
    selection = TOUCHED["whole layers"]
    assert make_scorer(deep(), noise(9), selection).way == "tail"
    assert make_scorer(deep(), noise(9), TOUCHED["first"]).way == "products"


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
    assert scorer.way == way
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
