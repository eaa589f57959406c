from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustkit.data import batches, stratified_sample, stratified_split
from robustkit.errors import ConfigError, DataError

LABELS = st.lists(st.integers(0, 4), min_size=2, max_size=80).map(torch.tensor)
FRACTIONS = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 2**63 - 1)


def divisible(labels: torch.Tensor) -> bool:
    return bool((torch.bincount(labels) >= 2).any())


@given(LABELS.filter(divisible), FRACTIONS, SEEDS)
def test_a_split_divides_every_class_near_the_fraction(
    labels: torch.Tensor, fraction: float, seed: int
) -> None:
    rest, part = stratified_split(labels, fraction, seed)
    assert sorted(torch.cat([rest, part]).tolist()) == list(range(len(labels)))
    assert rest.tolist() == sorted(rest.tolist())
    assert part.tolist() == sorted(part.tolist())
    for label, count in enumerate(torch.bincount(labels).tolist()):
        inside = int((labels[part] == label).sum())
        if count < 2:
            assert inside == 0
        else:
            assert 1 <= inside < count
            assert abs(inside - fraction * count) <= 1


@given(LABELS.filter(divisible), FRACTIONS, SEEDS)
def test_a_split_depends_on_its_arguments_alone(
    labels: torch.Tensor, fraction: float, seed: int
) -> None:
    once = stratified_split(labels, fraction, seed)
    torch.manual_seed(seed % 7)
    again = stratified_split(labels, fraction, seed)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_another_seed_splits_otherwise() -> None:
    labels = torch.arange(200) % 2
    assert not torch.equal(stratified_split(labels, 0.5, 0)[1], stratified_split(labels, 0.5, 1)[1])


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), min_size=12, max_size=80), SEEDS)
def test_a_track_is_never_divided(pairs: list[tuple[int, int]], seed: int) -> None:
    pairs += [(0, 0), (0, 1)]  # at least one class has two tracks
    labels, tracks = torch.tensor(pairs).T
    rest, part = stratified_split(labels, 0.3, seed, tracks)
    sides = [{pairs[index] for index in side.tolist()} for side in (rest, part)]
    assert not sides[0] & sides[1]
    assert len(rest) + len(part) == len(pairs)
    assert set(labels[rest].tolist()) == set(labels.tolist())


def test_equal_tracks_come_as_near_the_fraction_as_tracks_allow() -> None:
    labels = torch.arange(2).repeat_interleave(100)
    tracks = torch.arange(200) // 10 % 10  # ten tracks of ten frames in each class
    _, part = stratified_split(labels, 0.2, 0, tracks)
    assert torch.bincount(labels[part]).tolist() == [20, 20]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_outside_zero_to_one_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        stratified_split(torch.zeros(9).long(), fraction, 0)


def test_a_split_that_would_be_empty_is_refused() -> None:
    with pytest.raises(DataError, match="empty split: no class has two images"):
        stratified_split(torch.arange(3), 0.5, 0)
    with pytest.raises(DataError, match="empty split: no class has two tracks"):
        stratified_split(torch.zeros(9).long(), 0.5, 0, torch.full((9,), 7))


@given(LABELS, st.data(), SEEDS)
def test_a_sample_keeps_proportions_and_every_class(
    labels: torch.Tensor, data: st.DataObject, seed: int
) -> None:
    counts = torch.bincount(labels)
    present = int((counts > 0).sum())
    size = data.draw(st.integers(present, len(labels)))
    chosen = stratified_sample(labels, size, seed)
    assert len(chosen) == size
    assert len(set(chosen.tolist())) == size
    assert chosen.tolist() == sorted(chosen.tolist())
    kept = torch.bincount(labels[chosen], minlength=len(counts))
    assert (kept[counts > 0] >= 1).all()
    exact = counts * size / len(labels)
    if (exact[counts > 0] >= 1).all():
        assert ((kept - exact).abs() < 1).all()


def test_a_sample_is_random_but_repeatable() -> None:
    labels = torch.arange(300) % 3
    first = stratified_sample(labels, 30, 5)
    assert torch.equal(first, stratified_sample(labels, 30, 5))
    assert not torch.equal(first, stratified_sample(labels, 30, 6))


def test_samples_too_large_or_too_small_are_refused() -> None:
    labels = torch.arange(30) % 3
    with pytest.raises(DataError, match="31 images was asked for, but there are 30"):
        stratified_sample(labels, 31, 0)
    with pytest.raises(DataError, match="2 images cannot hold 3 classes; ask for at least 3"):
        stratified_sample(labels, 2, 0)


@given(st.integers(0, 50), st.integers(1, 60), st.booleans(), st.booleans())
def test_batches_cover_every_index_once(
    count: int, batch_size: int, shuffled: bool, drop_last: bool
) -> None:
    generator = torch.Generator().manual_seed(0) if shuffled else None
    parts = list(batches(count, batch_size, generator=generator, drop_last=drop_last))
    seen = [index for part in parts for index in part.tolist()]
    assert len(set(seen)) == len(seen)
    assert len(seen) == (count - count % batch_size if drop_last else count)
    assert all(len(part) == batch_size for part in parts[:-1])
    assert all(len(part) > 0 for part in parts)
    if not shuffled:
        assert seen == list(range(len(seen)))


def test_a_generator_shuffles_anew_every_epoch() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.cat(list(batches(50, 8, generator=generator))) for _ in range(2))
    again = torch.cat(list(batches(50, 8, generator=torch.Generator().manual_seed(0))))
    assert not torch.equal(first, second)
    assert torch.equal(first, again)


def test_a_batch_holds_at_least_one_image() -> None:
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        next(batches(5, 0))
