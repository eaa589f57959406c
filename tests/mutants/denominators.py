"""Mistakes in what a transfer rate is a share of, and in its interval."""

from __future__ import annotations

from tests.mutants.mutant import Mutant, of

MATRIX = "robustkit/evaluation/transferability.py"
RATES = "robustkit/stats.py"
COUNT_TESTS = ("tests/robustkit/evaluation/test_denominators.py",)
NET_TESTS = of(
    "robustkit/evaluation/test_transfer_matrix.py",
    "the_common_set_holds_every_net_source_or_target",
    "rates_are_counts_under_three_denominators",
    "steering_to_shared_labels",
)
RATE_TESTS = of(
    "robustkit/test_stats.py",
    "wilson_is_scipys",
    "a_pooled_rate_counts_images_not_trainings",
    "mcnemar_is_the_exact_binomial_test_on_discordant_pairs",
    "a_gap_is_in_points_and_its_p_value_that_of_the_worst_pair",
    "the_bootstrap_is_paired",
)

DENOMINATORS = (
    Mutant(
        "an image that one net gets right is jointly correct",
        MATRIX,
        "list(self.correct.values())).all(axis=0)",
        "list(self.correct.values())).any(axis=0)",
        COUNT_TESTS,
    ),
    Mutant(
        "the jointly correct images leave the sources out",
        MATRIX,
        "for name in (*targets, *self._sources)",
        "for name in targets",
        NET_TESTS,
    ),
    Mutant(
        "the headline is over all images",
        MATRIX,
        '"headline": share(fooled, self.common)',
        '"headline": share(fooled, np.ones_like(fooled))',
        COUNT_TESTS,
    ),
    Mutant(
        "those that fool the source need not be common",
        MATRIX,
        "share(fooled, self.common & source_fooled)",
        "share(fooled, source_fooled)",
        COUNT_TESTS,
    ),
    Mutant(
        "those that do not fool the source are counted",
        MATRIX,
        "share(fooled, self.common & source_fooled)",
        "share(fooled, self.common & ~source_fooled)",
        COUNT_TESTS,
    ),
    Mutant(
        "clean errors are left out of all images",
        MATRIX,
        '"all": share(fooled, np.ones_like(fooled))',
        '"all": share(fooled, self.correct[target])',
        COUNT_TESTS,
    ),
    Mutant(
        "hits beyond the denominator are counted",
        MATRIX,
        "float((hits & among).sum() / n)",
        "float(hits.sum() / n)",
        COUNT_TESTS,
    ),
    Mutant(
        "n is that of all images",
        MATRIX,
        "n = int(among.sum())",
        "n = len(among)",
        COUNT_TESTS,
    ),
    Mutant(
        "a source is fooled by what it gets right",
        MATRIX,
        "self._fooled[name] = adversarials.predicted_by(predictions) != self._labels",
        "self._fooled[name] = adversarials.predicted_by(predictions) == self._labels",
        NET_TESTS,
    ),
    Mutant(
        "targets are compared over all images",
        MATRIX,
        "self.target_fooled[source, name][self.common] for name in",
        "self.target_fooled[source, name] for name in",
        COUNT_TESTS,
    ),
    Mutant(
        "a target label is hit where the target errs",
        MATRIX,
        "{cell: self._predicted[cell] == target_labels.numpy() for cell in cells}",
        "{cell: self._predicted[cell] != self._labels for cell in cells}",
        NET_TESTS,
    ),
    Mutant(
        "Wilson's centre is a whole spread off",
        RATES,
        "(rate + spread / 2) / (1 + spread)",
        "(rate + spread) / (1 + spread)",
        RATE_TESTS,
    ),
    Mutant(
        "Wilson's interval is Wald's",
        RATES,
        "math.sqrt(rate * (1 - rate) / n + spread / (4 * n)) / (1 + spread)",
        "math.sqrt(rate * (1 - rate) / n)",
        RATE_TESTS,
    ),
    Mutant(
        "an image seen by three trainings is three images",
        RATES,
        "n = max(1, round(counted / len(among)))",
        "n = counted",
        RATE_TESTS,
    ),
    Mutant(
        "McNemar counts pairs that agree",
        RATES,
        "int((second & ~first).sum())",
        "int((second & first).sum())",
        RATE_TESTS,
    ),
    Mutant(
        "the luckiest pair of trainings gives the p-value",
        RATES,
        "p_value = max(mcnemar(a, b)",
        "p_value = min(mcnemar(a, b)",
        RATE_TESTS,
    ),
    Mutant(
        "the two groups are resampled by themselves",
        RATES,
        "_mean(first, weights, rng) - _mean(second, weights, rng)",
        "_mean(first, weights, rng) - _mean(\n"
        "            second, rng.multinomial(images, np.full(images, 1 / images)) / images, rng\n"
        "        )",
        RATE_TESTS,
    ),
)
