"""Rates counted image by image, and the identity between the published tables."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from robustkit.repair import PatchEffect, accuracy_after

CLASSES = st.integers(0, 2)


def effect(rows: list[tuple[int, int, int, bool]]) -> PatchEffect:
    """From (label, before, after, to be repaired); only what is wrong can be repaired."""
    labels, before, after, wanted = (torch.tensor(each) for each in zip(*rows, strict=True))
    return PatchEffect(labels, before, after, wanted & (before != labels))


@given(st.lists(st.tuples(CLASSES, CLASSES, CLASSES, st.booleans()), min_size=1, max_size=40))
def test_the_effect_is_counted_image_by_image(
    rows: list[tuple[int, int, int, bool]],
) -> None:
    made = effect(rows)
    neg = [i for i, (label, before, _, wanted) in enumerate(rows) if before != label and wanted]
    pos = [i for i, (label, before, _, _) in enumerate(rows) if before == label]
    repaired = [i for i in neg if rows[i][2] == rows[i][0]]
    broken = [i for i in pos if rows[i][2] != rows[i][0]]
    now = [i for i, (label, _, after, _) in enumerate(rows) if after == label]
    for mask, expected in (
        (made.pos, pos),
        (made.neg, neg),
        (made.repaired, repaired),
        (made.broken, broken),
    ):
        assert mask.dtype == torch.bool
        assert [i for i, yes in enumerate(mask.tolist()) if yes] == expected
    metrics = made.metrics()
    assert metrics.n == len(rows)
    assert (metrics.n_neg, metrics.n_pos) == (len(neg), len(pos))
    assert metrics.acc_before == pytest.approx(len(pos) / len(rows))
    assert metrics.acc_after == pytest.approx(len(now) / len(rows))
    for name, hits, among in (("rr", repaired, neg), ("br", broken, pos)):
        if not among:
            assert getattr(metrics, name) is None
            assert getattr(metrics, f"{name}_interval") == (None, None)
            continue
        assert getattr(metrics, name) == pytest.approx(len(hits) / len(among))
        interval = binomtest(len(hits), len(among)).proportion_ci(0.95, method="wilson")
        assert getattr(metrics, f"{name}_interval") == pytest.approx(
            (interval.low, interval.high), abs=1e-9
        )


def test_a_rate_without_images_is_none() -> None:
    all_right = effect([(1, 1, 1, True), (0, 0, 1, True)]).metrics()
    assert (all_right.rr, all_right.br) == (None, 0.5)
    all_wrong = effect([(1, 0, 1, True), (0, 2, 1, True)]).metrics()
    assert (all_wrong.rr, all_wrong.br) == (0.5, None)
    none_wanted = effect([(1, 0, 1, False), (0, 2, 1, False)]).metrics()
    assert (none_wanted.rr, none_wanted.br, none_wanted.acc_after) == (None, None, 0.5)


@given(st.lists(st.tuples(CLASSES, CLASSES, CLASSES), min_size=1, max_size=40))
def test_the_identity_holds_where_all_failures_are_to_be_repaired(
    rows: list[tuple[int, int, int]],
) -> None:
    metrics = effect([(*row, True) for row in rows]).metrics()
    expected = accuracy_after(metrics.n_pos, metrics.n_neg, metrics.rr or 0.0, metrics.br or 0.0)
    assert metrics.acc_after == pytest.approx(expected)


# Table 1: images the model is right and wrong on.
SETS = {
    "gtsrb(5)": (12140, 490),
    "gtsrb(10)": (12197, 433),
    "cifar(5)": (6743, 3257),
    "cifar(10)": (7429, 2571),
}
# Table 3: ACC, RR and BR in percent.
TABLE_3 = {
    ("history", "gtsrb(5)"): (96.425, 9.776, 0.077),
    ("history", "gtsrb(10)"): (96.779, 7.691, 0.058),
    ("history", "cifar(5)"): (67.556, 0.869, 0.233),
    ("history", "cifar(10)"): (74.447, 1.225, 0.213),
    ("arachne", "gtsrb(5)"): (95.559, 10.225, 0.997),
    ("arachne", "gtsrb(10)"): (96.070, 11.778, 0.938),
    ("arachne", "cifar(5)"): (64.210, 8.299, 8.784),
    ("arachne", "cifar(10)"): (71.924, 12.653, 7.564),
}


@pytest.mark.parametrize("row", TABLE_3, ids="-".join)
def test_the_published_tables_agree(row: tuple[str, str]) -> None:
    accuracy, rr, br = TABLE_3[row]
    pos, neg = SETS[row[1]]
    assert 100 * accuracy_after(pos, neg, rr / 100, br / 100) == pytest.approx(accuracy, abs=1e-3)
