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
from evolution.protocol.summary import Mask, compare
from robustkit.models.cost import Cost

ROLES = ("R", "R2", "Rp", "E", "E0", "RS")
SIZES = dict.fromkeys(ROLES, Cost(5, 7))
Z = 1.959963984540054
FIELDS = ("correct", "under_R", "under_flipped", "under_surrogate", "under_own", "R_under_own")

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
        return NetEvaluation(**fields, cosine=cosine, norm=cosine.abs() + 1)

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
        all(bool(net.correct[image]) for group in evaluations.values() for net in group)
        for image in range(images)
    ]


def slow_rates(evaluations: Evaluations, role: str, what: str, fooled: dict[str, Mask]) -> Any:
    """One table entry: {headline, fooling, all}."""
    group = evaluations[role]
    images = len(group[0].correct)
    common = slow_common(evaluations, images)
    counts: dict[str, list[tuple[bool, bool]]] = {"headline": [], "fooling": [], "all": []}
    for net in group:
        for image in range(images):
            reference = evaluations["R"][0]
            right, source_errs = {
                "transfer_from_R": (net.under_R, not reference.under_own[image]),
                "transfer_from_R_flipped": (net.under_flipped, fooled["flipped"][image]),
                "transfer_from_surrogate": (net.under_surrogate, fooled["surrogate"][image]),
                "transfer_to_R": (net.R_under_own, not net.under_own[image]),
            }[what]
            wrong = not right[image]
            counts["headline"].append((common[image], wrong))
            counts["fooling"].append((common[image] and bool(source_errs), wrong))
            counts["all"].append((True, wrong))
    return {name: share(hits, len(group)) for name, hits in counts.items()}


def slow_mcnemar(first: list[bool], second: list[bool]) -> float:
    """Twice the smaller tail of a fair coin tossed once for every image the two disagree on."""
    one = sum(a and not b for a, b in zip(first, second, strict=True))
    other = sum(b and not a for a, b in zip(first, second, strict=True))
    tosses, fewer = one + other, min(one, other)
    tail = sum(math.comb(tosses, heads) for heads in range(fewer + 1)) / 2**tosses
    return float(min(1.0, 2 * tail))


def fooled_sets(seed: int, images: int) -> dict[str, Mask]:
    rng = np.random.default_rng(seed)
    return {name: rng.random(images) < 0.6 for name in ("surrogate", "flipped")}


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
    comparison = compare(evaluations, fooled["surrogate"], fooled["flipped"], sizes=SIZES, seed=0)
    assert comparison.common.tolist() == slow_common(evaluations, images)
    assert list(comparison.nets) == list(ROLES)
    for role, result in comparison.nets.items():
        net = result.to_json()
        transfers = [name for name in net if name.startswith("transfer")]
        assert len(transfers) == (0 if role == "R" else 4)
        for what in transfers:
            expected = slow_rates(evaluations, role, what, fooled)
            for denominator, rate in expected.items():
                assert net[what][denominator] == pytest.approx(rate, abs=1e-6), (role, what)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**30), images=st.integers(1, 25), seeds=st.integers(1, 3))
def test_accuracies_and_gradients_are_means_over_images_and_trainings(
    seed: int, images: int, seeds: int
) -> None:
    evaluations, fooled = made_evaluations(seed, images, seeds, 0.8), fooled_sets(seed, images)
    nets = compare(evaluations, fooled["surrogate"], fooled["flipped"], sizes=SIZES, seed=0).nets
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
    comparison = compare(
        evaluations, fooled["surrogate"], fooled["flipped"], sizes=SIZES, seed=seed
    )
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
    again = compare(evaluations, fooled["surrogate"], fooled["flipped"], sizes=SIZES, seed=seed)
    assert again.gap == gap


def test_without_the_control_there_is_no_published_gap() -> None:
    evaluations, fooled = made_evaluations(3, 25, 2, 0.95), fooled_sets(3, 25)
    whole = compare(evaluations, fooled["surrogate"], fooled["flipped"], sizes=SIZES, seed=3)
    for role in ("R2", "Rp"):
        del evaluations[role]
    comparison = compare(evaluations, fooled["surrogate"], fooled["flipped"], sizes=SIZES, seed=3)
    assert comparison.gap is None
    assert list(comparison.nets) == ["R", "E", "E0", "RS"]
    assert comparison.common.tolist() == slow_common(evaluations, 25)
    assert comparison.common.sum() > whole.common.sum()  # fewer nets have to be right
    for role in comparison.nets:
        net = comparison.nets[role].to_json()
        for what in (name for name in net if name.startswith("transfer")):
            for denominator, rate in slow_rates(evaluations, role, what, fooled).items():
                assert net[what][denominator] == pytest.approx(rate, abs=1e-6)


def test_the_interval_holds_the_gap_of_a_clear_case() -> None:
    evaluations, fooled = made_evaluations(0, 200, 3, 1.0), fooled_sets(0, 200)
    rng = torch.Generator().manual_seed(1)
    for role, chance in (("Rp", 0.3), ("E", 0.8)):
        for net in evaluations[role]:
            net.under_R.copy_(torch.rand(200, generator=rng) < chance)
    gap = compare(evaluations, fooled["surrogate"], fooled["flipped"], sizes=SIZES, seed=0).gap
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
    comparison = compare(evaluations, fooled["surrogate"], fooled["flipped"], sizes=SIZES, seed=0)
    assert not comparison.common.any()
    assert comparison.gap is not None
    assert comparison.gap.n == 0
    rates = comparison.nets["E"].to_json()["transfer_from_R"]
    assert rates["headline"]["rate"] is None
    assert rates["fooling"]["rate"] is None
    assert rates["all"]["n"] == 10
