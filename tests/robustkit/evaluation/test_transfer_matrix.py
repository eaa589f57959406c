"""The matrix against counting image by image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from robustkit.attacks import (
    FGSM,
    MIFGSM,
    PGD,
    Attack,
    Ensemble,
    ExternalSet,
    Store,
    craft,
    loss_gradient,
)
from robustkit.evaluation.gradient_similarity import Cosines, gradient_pairs
from robustkit.evaluation.transferability import TransferMatrix, transfer_matrix
from robustkit.models import Classifier
from tests.robustkit.attacks.nets import classifier, striped, trained

IMAGES = striped(45, seed=3)
ATTACK = MIFGSM(eps=0.15)


@pytest.fixture(scope="module")
def nets() -> dict[str, Classifier]:
    """Three nets that have learnt a little, and not the same."""
    return {name: trained(seed) for seed, name in enumerate("abc")}


@pytest.fixture(scope="module")
def matrix(nets: dict[str, Classifier]) -> TransferMatrix:
    return transfer_matrix({"a": nets["a"], "b": nets["b"]}, nets, IMAGES, ATTACK, seed=4)


def right(net: Classifier, images: torch.Tensor) -> list[bool]:
    with torch.no_grad():
        return [bool(fine) for fine in net(images).argmax(1) == IMAGES.labels]


def test_rates_are_counts_under_three_denominators(
    nets: dict[str, Classifier], matrix: TransferMatrix
) -> None:
    clean = {name: right(net, IMAGES.floats()) for name, net in nets.items()}
    everyone = [all(row) for row in zip(*clean.values(), strict=True)]
    assert 5 < sum(everyone) < len(everyone)
    seen = set()
    for source in "ab":
        made = craft(nets[source], IMAGES, ATTACK, seed=4).images
        own = right(nets[source], made)
        for target in "abc":
            said = right(nets[target], made)
            rates = matrix.rates(source, target)
            for name, among in {
                "headline": everyone,
                "fooling": [all_ and not mine for all_, mine in zip(everyone, own, strict=True)],
                "all": [True] * len(said),
            }.items():
                wrong = sum(counted and not fine for counted, fine in zip(among, said, strict=True))
                assert rates[name].n == sum(among)
                assert rates[name].value == pytest.approx(wrong / sum(among))
                low, high = binomtest(wrong, sum(among)).proportion_ci(method="wilson")
                assert (rates[name].low, rates[name].high) == pytest.approx((low, high))
                seen.add(rates[name].value)
    assert len(seen) > 4


def test_the_common_set_holds_every_net_source_or_target(nets: dict[str, Classifier]) -> None:
    only = transfer_matrix({"a": nets["a"]}, {"b": nets["b"]}, IMAGES, ATTACK)
    both = np.array(right(nets["a"], IMAGES.floats())) & right(nets["b"], IMAGES.floats())
    assert np.array_equal(only.common, both)


def test_mcnemar_counts_the_images_on_which_two_targets_differ(matrix: TransferMatrix) -> None:
    first, second = (matrix.target_fooled["a", name][matrix.common] for name in "bc")
    one, other = int((first & ~second).sum()), int((second & ~first).sum())
    expected = binomtest(one, one + other).pvalue if one + other else 1.0
    assert matrix.p_value("a", "b", "c") == pytest.approx(expected)
    assert matrix.p_value("a", "b", "b") == 1.0


def test_steering_to_shared_labels(nets: dict[str, Classifier]) -> None:
    wanted = (IMAGES.labels + 1) % 3
    attack = PGD(eps=0.4, targeted=True)
    steered = transfer_matrix(
        {"a": nets["a"]}, {"a": nets["a"], "b": nets["b"]}, IMAGES, attack, target_labels=wanted
    )
    made = craft(nets["a"], IMAGES, attack, targets=wanted).images
    there = (nets["b"](made).argmax(1) == wanted).numpy()
    assert np.array_equal(steered.target_hit["a", "b"], there)
    reach = steered.hit_rate("a", "b")
    assert reach.n == int(steered.common.sum())
    assert reach.value == pytest.approx(there[steered.common].mean())
    assert not matrix_of(nets, attack).target_hit


def matrix_of(nets: dict[str, Classifier], attack: Attack) -> TransferMatrix:
    return transfer_matrix({"a": nets["a"]}, {"b": nets["b"]}, IMAGES, attack)


def test_without_a_common_image_there_is_no_rate(nets: dict[str, Classifier]) -> None:
    wrong = torch.tensor([not fine for fine in right(nets["a"], IMAGES.floats())])
    some = IMAGES.subset(torch.nonzero(wrong).squeeze(1))
    found = transfer_matrix({"a": nets["a"]}, {"b": nets["b"]}, some, FGSM())
    for name in ("headline", "fooling"):
        rate = found.rates("a", "b")[name]
        assert (rate.value, rate.n, rate.low, rate.high) == (None, 0, None, None)
    assert found.rates("a", "b")["all"].n == len(some)
    assert found.p_value("a", "b", "b") == 1.0


def test_the_second_time_nothing_is_computed(
    nets: dict[str, Classifier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Store(tmp_path)
    sources = {"a": nets["a"], "both": Ensemble([nets["a"], nets["b"]], "loss").eval()}
    once = transfer_matrix(sources, nets, IMAGES, ATTACK, store=first)
    gradient_pairs(nets, IMAGES, store=first)
    assert first.hits > 0  # a target that is the source itself is asked once
    monkeypatch.setattr(Attack, "__call__", None)
    monkeypatch.setattr(Classifier, "forward", None)
    second = Store(tmp_path)
    again = transfer_matrix(sources, nets, IMAGES, ATTACK, store=second)
    gradient_pairs(nets, IMAGES, store=second)
    assert (second.misses, second.notes) == (0, [])
    for kind in ("correct", "source_fooled", "target_fooled"):
        before, after = getattr(once, kind), getattr(again, kind)
        assert before.keys() == after.keys()
        assert all(np.array_equal(before[name], after[name]) for name in before)
    assert once.keys == again.keys


def test_sets_made_elsewhere_are_scored_too(nets: dict[str, Classifier], tmp_path: Path) -> None:
    pictures = ExternalSet(1 - IMAGES.floats(), {"file": "inverted.npz", "sha256": "0"})
    found = transfer_matrix(
        {}, nets, IMAGES, FGSM(), imported={"inverted": pictures}, store=Store(tmp_path)
    )
    assert found.sources == ("inverted",)
    wrong = ~np.array(right(nets["b"], pictures.images))
    assert np.array_equal(found.target_fooled["inverted", "b"], wrong)
    assert found.rates("inverted", "b")["headline"].value == wrong[found.common].mean()
    assert found.rates("inverted", "b")["fooling"].n == 0  # whom it fools is not known


def test_gradients_are_compared_between_every_two_nets(nets: dict[str, Classifier]) -> None:
    pairs = gradient_pairs(nets, IMAGES)
    rows = {
        name: loss_gradient(net, IMAGES.floats(), IMAGES.labels)[0].flatten(1).double()
        for name, net in nets.items()
    }
    both = rows["a"].any(dim=1) & rows["c"].any(dim=1)
    cosine = torch.cosine_similarity(rows["a"], rows["c"])[both]
    found = pairs.cosines("a", "c")
    assert found.cos_mean == pytest.approx(float(cosine.mean()), abs=1e-6)
    assert found.cos_abs_mean == pytest.approx(float(cosine.abs().mean()), abs=1e-6)
    assert found.cos_quartiles == pytest.approx(
        np.quantile(cosine.numpy(), [0.25, 0.5, 0.75]), abs=1e-6
    )
    assert pairs.cosines("b", "b").cos_mean == pytest.approx(1)
    norms = pairs.norms("b")
    assert norms.grad_norm_mean == pytest.approx(float(rows["b"].norm(dim=1).mean()))
    assert norms.grad_zero == float((~rows["b"].any(dim=1)).double().mean())


def test_zero_gradients_have_no_cosine_and_are_counted(nets: dict[str, Classifier]) -> None:
    flat = classifier(seed=9).eval()
    with torch.no_grad():
        for weight in flat.parameters():
            weight.zero_()
    pairs = gradient_pairs({"a": nets["a"], "flat": flat}, IMAGES)
    assert pairs.cosines("a", "flat") == Cosines()
    assert pairs.norms("flat").grad_zero == 1
    assert pairs.norms("flat").grad_norm_mean == 0
