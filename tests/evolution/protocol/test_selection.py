"""The rule by which E is chosen, against the rule spelt out pair by pair."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from evolution.genotype import Candidate, Trial
from evolution.protocol.selection import AccuracyThreshold, Selection, ranked
from evolution.sampling import sample
from evolution.space import SearchSpace

GENOTYPE = sample(random.Random(0), space=SearchSpace(min_blocks=1, max_blocks=2))
# Few values, so that equals are common and the threshold is often met exactly.
RATES = st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9, 1.0])


def trial(number: int, accuracy: float, transfer: float) -> Trial:
    values = {"accuracy": accuracy, "transfer": transfer, "cos_abs": 0.1, "params": 5, "macs": 7}
    return Trial(Candidate(number, GENOTYPE, (), "sample", 0), "Ok", values)


def better(one: Trial, other: Trial, threshold: float) -> bool:
    """Whether the rule, spelt out, prefers `one`."""
    assert one.values is not None
    assert other.values is not None
    good, other_good = one.values["accuracy"] >= threshold, other.values["accuracy"] >= threshold
    if good and not other_good:
        return True
    if other_good and not good:
        return False
    more_accurate = one.values["accuracy"] > other.values["accuracy"]
    less_transfer = one.values["transfer"] < other.values["transfer"]
    same_accuracy = one.values["accuracy"] == other.values["accuracy"]
    same_transfer = one.values["transfer"] == other.values["transfer"]
    earlier = one.candidate.number < other.candidate.number
    if good:
        return less_transfer or (same_transfer and (more_accurate or (same_accuracy and earlier)))
    return more_accurate or (same_accuracy and (less_transfer or (same_transfer and earlier)))


@given(
    rates=st.lists(st.tuples(RATES, RATES), min_size=1, max_size=12),
    threshold=st.sampled_from([-0.01, 0.1, 0.15, 0.9, 1.1]),
    order=st.randoms(use_true_random=False),
)
def test_each_is_preferred_to_all_that_follow(
    rates: list[tuple[float, float]], threshold: float, order: random.Random
) -> None:
    trials = [trial(number, *rate) for number, rate in enumerate(rates)]
    order.shuffle(trials)
    result = ranked(trials, threshold)
    assert sorted(each.candidate.number for each in result) == list(range(len(rates)))
    for place, each in enumerate(result):
        assert all(better(each, other, threshold) for other in result[place + 1 :])


def test_a_selection_says_by_which_rule_and_from_how_many() -> None:
    threshold = AccuracyThreshold("R's validation accuracy", 0.75, 0.05)
    told = Selection(trial(3, 0.8, 0.2), threshold, considered=4).result().to_json()
    assert (told["number"], told["considered"]) == (3, 4)
    assert told["validation"]["transfer"] == 0.2
    assert "at least 0.7000 (R's validation accuracy, 0.7500, minus 0.05)" in told["rule"]
    assert told["key"] == GENOTYPE.key()
