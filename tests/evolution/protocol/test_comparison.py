"""Every value of the comparison, counted image by image as methods §1 says it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evolution.protocol.jobs import NetEvaluation
from evolution.protocol.roles import COMPARED, ROLES
from evolution.protocol.summary import Mask, compare, verdict
from robustkit.models.cost import Cost
from robustkit.stats import Gap

SIZES = dict.fromkeys(ROLES, Cost(5, 7))
Z = 1.959963984540054
SOURCES = ("R", "S", "R.2", "S.2")
FIELDS = ("correct", "under_flipped", "under_own", "R_under_own")

Evaluations = dict[str, list[NetEvaluation]]


def made_evaluations(seed: int, images: int, seeds: int, right: float) -> Evaluations:
    """Random evaluations; `right` is the chance of every clean image to be classified correctly."""
    generator = torch.Generator().manual_seed(seed)

    def metrics() -> NetEvaluation:
        chances = {"correct": right} | dict.fromkeys(FIELDS[1:], 0.5)
        fields = {
            name: torch.rand(images, generator=generator) < chance
            for name, chance in chances.items()
        }
        cosine = torch.rand(images, generator=generator).double() * 2 - 1
        cosine[torch.rand(images, generator=generator) < 0.1] = torch.nan
        under = {name: torch.rand(images, generator=generator) < 0.5 for name in SOURCES}
        return NetEvaluation(under=under, **fields, cosine=cosine, norm=cosine.abs() + 1)

    return {role: [metrics() for _ in range(seeds if role != "R" else 1)] for role in ROLES}


def share(hits: list[tuple[bool, bool]], trainings: int) -> dict[str, Any]:
    """(counts, is wrong) of every image under every training, as a rate with Wilson's interval."""
    counted = [wrong for counts, wrong in hits if counts]
    if not counted:
        return {"rate": None, "n": 0, "low": None, "high": None}
    rate, n = sum(counted) / len(counted), max(1, round(len(counted) / trainings))
    # Wilson: the rates p from which the one seen is exactly Z standard deviations away.
    roots = np.roots([1 + Z**2 / n, -(2 * rate + Z**2 / n), rate**2])
    low, high = sorted(float(root.real) for root in roots)
    return {"rate": rate, "n": n, "low": low, "high": high}


def slow_common(evaluations: Evaluations, images: int) -> list[bool]:
    return [
        all(
            bool(net.correct[image])
            for role, group in evaluations.items()
            if role in COMPARED
            for net in group
        )
        for image in range(images)
    ]


def slow_rates(evaluations: Evaluations, role: str, what: str, fooled: dict[str, Mask]) -> Any:
    """One table entry: {headline, fooling, all}; `what` is a field, or a source in its own one."""
    group = evaluations[role]
    images = len(group[0].correct)
    common = slow_common(evaluations, images)
    source = {"transfer_from_R": "R", "transfer_from_surrogate": "S"}.get(what, what)
    counts: dict[str, list[tuple[bool, bool]]] = {"headline": [], "fooling": [], "all": []}
    for net in group:
        for image in range(images):
            if what == "transfer_from_R_flipped":
                right, source_errs = net.under_flipped, bool(fooled["flipped"][image])
            elif what == "transfer_to_R":
                right, source_errs = net.R_under_own, not net.under_own[image]
            else:
                right, source_errs = net.under[source], bool(fooled[source][image])
            wrong = not right[image]
            counted = common[image] and bool(net.correct[image])  # a baseline may be wrong there
            counts["headline"].append((counted, wrong))
            counts["fooling"].append((counted and source_errs, wrong))
            counts["all"].append((True, wrong))
    return {name: share(hits, len(group)) for name, hits in counts.items()}


def slow_matched(evaluations: Evaluations, role: str, source: str) -> list[tuple[float, float]]:
    """Both rates of every pair of trainings, over the images that the pair (and R) gets right."""
    rates = []
    for one in evaluations[role]:
        for other in evaluations["E"]:
            images = [
                image
                for image in range(len(one.correct))
                if one.correct[image] and other.correct[image]
                if source != "R" or evaluations["R"][0].correct[image]
            ]
            if images:
                wrong = [sum(not net.under[source][i] for i in images) for net in (one, other)]
                rates.append((wrong[0] / len(images), wrong[1] / len(images)))
    return rates


def slow_mcnemar(first: list[bool], second: list[bool]) -> float:
    """Twice the smaller tail of a fair coin tossed once for every image the two disagree on."""
    one = sum(a and not b for a, b in zip(first, second, strict=True))
    other = sum(b and not a for a, b in zip(first, second, strict=True))
    tosses, fewer = one + other, min(one, other)
    tail = sum(math.comb(tosses, heads) for heads in range(fewer + 1)) / 2**tosses
    return float(min(1.0, 2 * tail))


def fooled_sets(seed: int, images: int) -> dict[str, Mask]:
    rng = np.random.default_rng(seed)
    return {name: rng.random(images) < 0.6 for name in (*SOURCES, "flipped")}


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**30),
    images=st.integers(1, 25),
    seeds=st.integers(1, 3),
    right=st.sampled_from([0.0, 0.8, 0.95, 1.0]),
)
def test_every_rate_is_what_counting_gives(
    seed: int, images: int, seeds: int, right: float
) -> None:
    evaluations, fooled = made_evaluations(seed, images, seeds, right), fooled_sets(seed, images)
    comparison = compare(evaluations, fooled, sizes=SIZES, seed=0)
    assert comparison.common.tolist() == slow_common(evaluations, images)
    assert list(comparison.nets) == list(ROLES)
    for role, result in comparison.nets.items():
        net = result.to_json()
        transfers = [name for name in net if name.startswith("transfer")]
        assert len(transfers) == (0 if role == "R" else 5)
        found = net.pop("transfer_from", {}) | {w: net[w] for w in transfers if w in net}
        assert len(found) == (0 if role == "R" else 6)
        for what in found:
            expected = slow_rates(evaluations, role, what, fooled)
            for denominator, rate in expected.items():
                assert found[what][denominator] == pytest.approx(rate, abs=1e-6), (role, what)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**30), images=st.integers(1, 25), seeds=st.integers(1, 3))
def test_accuracies_and_gradients_are_means_over_images_and_trainings(
    seed: int, images: int, seeds: int
) -> None:
    evaluations, fooled = made_evaluations(seed, images, seeds, 0.8), fooled_sets(seed, images)
    nets = compare(evaluations, fooled, sizes=SIZES, seed=0).nets
    for role, group in evaluations.items():
        clean = [sum(net.correct.tolist()) / images for net in group]
        robust = [
            bool(net.correct[image] and net.under_own[image])
            for net in group
            for image in range(images)
        ]
        cosines = [float(value) for net in group for value in net.cosine]
        kept = [value for value in cosines if not math.isnan(value)]
        net = nets[role].to_json()
        assert net["clean_acc_by_seed"] == pytest.approx(clean)
        assert net["clean_acc"] == pytest.approx(sum(clean) / len(clean))
        assert net["whitebox_acc"] == pytest.approx(sum(robust) / len(robust))
        assert net["zero_gradients"] == pytest.approx(1 - len(kept) / len(cosines))
        if kept:
            assert net["cos_mean"] == pytest.approx(sum(kept) / len(kept))
            assert net["cos_abs_mean"] == pytest.approx(sum(map(abs, kept)) / len(kept))
        else:
            assert net["cos_mean"] is None


@settings(max_examples=15)
@given(seed=st.integers(0, 2**30), images=st.integers(5, 25), seeds=st.integers(1, 3))
@example(seed=0, images=5, seeds=2)
def test_the_gap_is_paired_on_the_common_images(seed: int, images: int, seeds: int) -> None:
    evaluations, fooled = made_evaluations(seed, images, seeds, 0.98), fooled_sets(seed, images)
    comparison = compare(evaluations, fooled, sizes=SIZES, seed=seed)
    common = [image for image, kept in enumerate(slow_common(evaluations, images)) if kept]
    gap = comparison.gap
    assert gap is not None
    assert gap.n == len(common)
    if not common:
        assert (gap.value, gap.low, gap.high, gap.p_value) == (None, None, None, None)
        return
    wrong = {
        role: [[not bool(net.under_R[image]) for image in common] for net in evaluations[role]]
        for role in ("Rp", "RS", "E", "E0")
    }
    rates = {role: np.mean(each) for role, each in wrong.items()}
    assert gap.value == pytest.approx(100 * (rates["Rp"] - rates["E"]))
    assert comparison.search_gap.value == pytest.approx(100 * (rates["RS"] - rates["E"]))
    assert comparison.penalty_gap.value == pytest.approx(100 * (rates["E0"] - rates["E"]))
    tests = [slow_mcnemar(one, other) for one in wrong["Rp"] for other in wrong["E"]]
    assert gap.p_value == pytest.approx(max(tests))
    assert gap.low is not None
    assert gap.high is not None
    assert -100 <= gap.low <= gap.high <= 100
    again = compare(evaluations, fooled, sizes=SIZES, seed=seed)
    assert again.gap == gap


def test_without_the_control_there_is_no_published_gap() -> None:
    evaluations, fooled = made_evaluations(3, 25, 2, 0.95), fooled_sets(3, 25)
    whole = compare(evaluations, fooled, sizes=SIZES, seed=3)
    for role in ("R2", "Rp"):
        del evaluations[role]
    comparison = compare(evaluations, fooled, sizes=SIZES, seed=3)
    assert comparison.gap is None
    assert list(comparison.nets) == [role for role in ROLES if role not in ("R2", "Rp")]
    assert comparison.common.tolist() == slow_common(evaluations, 25)
    assert comparison.common.sum() > whole.common.sum()  # fewer nets have to be right
    for role in comparison.nets:
        net = comparison.nets[role].to_json()
        for what in {"transfer_from_R", "transfer_to_R"} & net.keys():
            for denominator, rate in slow_rates(evaluations, role, what, fooled).items():
                assert net[what][denominator] == pytest.approx(rate, abs=1e-6)


def test_the_interval_holds_the_gap_of_a_clear_case() -> None:
    evaluations, fooled = made_evaluations(0, 200, 3, 1.0), fooled_sets(0, 200)
    rng = torch.Generator().manual_seed(1)
    for role, chance in (("Rp", 0.3), ("E", 0.8)):
        for net in evaluations[role]:
            net.under["R"].copy_(torch.rand(200, generator=rng) < chance)
    gap = compare(evaluations, fooled, sizes=SIZES, seed=0).gap
    assert gap is not None
    assert gap.low is not None
    assert gap.high is not None
    assert gap.value == pytest.approx(50, abs=5)
    assert 30 < gap.low < 45 < 50 < gap.high < 65
    assert gap.p_value is not None
    assert gap.p_value < 1e-10


def test_a_training_that_is_wrong_everywhere_leaves_no_common_image() -> None:
    evaluations, fooled = made_evaluations(0, 10, 2, 1.0), fooled_sets(0, 10)
    evaluations["RS"][1].correct.fill_(False)
    comparison = compare(evaluations, fooled, sizes=SIZES, seed=0)
    assert not comparison.common.any()
    assert comparison.gap is not None
    assert comparison.gap.n == 0
    rates = comparison.nets["E"].to_json()["transfer_from_R"]
    assert rates["headline"]["rate"] is None
    assert rates["fooling"]["rate"] is None
    assert rates["all"]["n"] == 10


@settings(max_examples=10)
@given(seed=st.integers(0, 2**30), images=st.integers(1, 25), seeds=st.integers(1, 3))
def test_every_net_is_compared_with_e_over_the_images_of_each_pair(
    seed: int, images: int, seeds: int
) -> None:
    evaluations, fooled = made_evaluations(seed, images, seeds, 0.8), fooled_sets(seed, images)
    comparison = compare(evaluations, fooled, sizes=SIZES, seed=seed)
    assert list(comparison.comparisons) == [role for role in ROLES if role not in ("R", "E")]
    accuracy = {role: np.mean([n.correct.tolist() for n in evaluations[role]]) for role in ROLES}
    for role, found in comparison.comparisons.items():
        difference = accuracy["E"] - accuracy[role]
        assert found.accuracy.value == pytest.approx(100 * difference)
        rates = slow_matched(evaluations, role, "R")
        assert (found.transfer.value is None) == (not rates)
        if rates:
            first, second = np.mean(rates, axis=0)
            assert found.transfer.value == pytest.approx(100 * (first - second))
            net = comparison.nets[role].to_json()
            assert net["paired"]["rate"] == pytest.approx(first)
            assert net["paired_E"]["rate"] == pytest.approx(second)
        per_surrogate = [slow_matched(evaluations, role, source) for source in ("S", "S.2")]
        if per_surrogate[0]:
            means = np.mean(per_surrogate, axis=(0, 1))
            assert found.to_json()["unseen"]["points"] == pytest.approx(100 * (means[0] - means[1]))


def test_unseen_transfer_is_the_mean_and_the_worst_of_the_surrogates() -> None:
    evaluations, fooled = made_evaluations(1, 200, 2, 1.0), fooled_sets(1, 200)
    for net in evaluations["E"]:
        net.under["S"].fill_(True)
        net.under["S.2"].fill_(False)
    unseen = compare(evaluations, fooled, sizes=SIZES, seed=0).unseen["E"]
    assert (unseen.mean, unseen.worst_source, unseen.worst.value) == (0.5, "S.2", 1.0)


@pytest.mark.parametrize(
    ("transfer", "accuracy", "expected"),
    [
        ((9.0, 3.0, 14.0), 0.0, "better"),
        ((9.0, 3.0, 14.0), 8.0, "better"),
        ((9.0, 3.0, 14.0), -0.9, "better"),
        ((9.0, 3.0, 14.0), -1.1, "costs accuracy"),
        ((2.0, -3.0, 7.0), 0.5, "undecided"),
        ((-9.0, -12.0, -5.0), 0.5, "worse"),
        ((-9.0, -12.0, -5.0), 4.0, "less accurate"),
        ((2.0, -3.0, 7.0), 4.0, "less accurate"),
        ((None, None, None), 0.0, "undecided"),
    ],
)
def test_a_verdict_needs_less_transfer_and_no_less_accuracy(
    transfer: tuple[float | None, float | None, float | None], accuracy: float, expected: str
) -> None:
    value, low, high = transfer
    gap = Gap(value=value, low=low, high=high, n=100, p_value=None)
    measured = Gap(value=accuracy, low=accuracy - 1, high=accuracy + 1, n=500, p_value=0.5)
    assert verdict(gap, measured, 0.01) == expected
