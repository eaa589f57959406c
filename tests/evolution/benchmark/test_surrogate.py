"""The surrogate of trainings: against the formula that made the table, and slow computations."""

from __future__ import annotations

import random
import statistics
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from scipy.stats import kendalltau
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from evolution import Genotype
from evolution.benchmark import Surrogate, Table
from evolution.benchmark.features import feature_matrix, network_features
from evolution.benchmark.measure import INPUT_SHAPE, RUNGS, SPACE, VAL_IMAGES
from evolution.benchmark.regression import (
    REGRESSORS,
    Floats,
    _Forest,
    _leave_one_out,
    _matern,
)
from evolution.benchmark.surrogate import Column, columns_of, measured
from robustkit.errors import ConfigError, RunError
from robustkit.models.blueprint import BLOCKS, Block, Head, wire
from tests.evolution.benchmark.synthetic import NOISE, networks, synthetic_table, truth

LAST = RUNGS[-1]
ACCURACY = Column("accuracy", None, LAST)


@pytest.fixture(scope="module")
def surrogate() -> Surrogate:
    return Surrogate(synthetic_table())


def test_predictions_rank_networks_it_was_not_fitted_on(surrogate: Surrogate) -> None:
    new = networks(60, seed=5)
    means = surrogate.means(new)
    accuracy = means[:, surrogate.columns.index(ACCURACY)]
    assert kendalltau(accuracy, [truth(each)[0] for each in new]).statistic > 0.5
    assert np.abs(accuracy - [truth(each)[0] for each in new]).mean() < 0.05


def test_draws_scatter_about_the_expected_training_as_repeated_trainings_do(
    surrogate: Surrogate,
) -> None:
    [genotype] = networks(1, seed=6)
    expected = surrogate.expected(genotype).rungs
    drawn = [surrogate.draw(genotype, seed).rungs for seed in range(400)]
    for place in range(len(RUNGS)):
        accuracy = [rungs[place].accuracy for rungs in drawn]
        assert statistics.mean(accuracy) == pytest.approx(expected[place].accuracy, abs=0.005)
        assert 0.5 * NOISE < statistics.stdev(accuracy) < 1.7 * NOISE
    early, late = ([rungs[place].accuracy for rungs in drawn] for place in (0, 2))
    # Half of the variance is common to all epochs; it is estimated from fifteen networks.
    assert 0.1 < np.corrcoef(early, late)[0, 1] < 0.9


def test_a_draw_is_one_of_the_network_and_the_seed(surrogate: Surrogate) -> None:
    first, second = networks(2, seed=7)
    again = Surrogate(synthetic_table())
    assert surrogate.draw(first, 3) == surrogate.draw(first, 3) == again.draw(first, 3)
    assert surrogate.draw(first, 3) != surrogate.draw(first, 4)
    idle = Genotype(
        (*first.blocks, Block(kind="identity", inputs=(len(first.blocks),))), first.head
    )
    if SPACE.contains(idle):
        assert surrogate.draw(idle, 3) == surrogate.draw(first, 3)
    assert surrogate.draw(second, 3) != surrogate.draw(first, 3)


def test_predictions_do_not_depend_on_what_else_is_asked(surrogate: Surrogate) -> None:
    new = networks(20, seed=8)
    fresh = Surrogate(synthetic_table())
    together = surrogate.means(new)
    single = np.concatenate([fresh.means([each]) for each in reversed(new)])[::-1]
    assert together == pytest.approx(single, rel=1e-9, abs=1e-12)


def test_an_expected_training_is_a_legal_measurement(surrogate: Surrogate) -> None:
    for genotype in networks(30, seed=9):
        for made in (surrogate.expected(genotype), surrogate.draw(genotype, 0)):
            assert [rung.epochs for rung in made.rungs] == list(RUNGS)
            seconds = [rung.seconds for rung in made.rungs]
            assert seconds == sorted(seconds)
            for rung in made.rungs:
                shares = (rung.accuracy, *rung.transfer, *rung.unseen, *rung.cosine_abs)
                assert all(0 <= share <= 1 for share in shares)
                assert all(0 <= count <= VAL_IMAGES for count in rung.transfer_n)
            assert made.rungs[0].unseen == []
            assert len(made.rungs[-1].unseen) == 3


def test_deviations_are_fixed_per_network_and_as_large_as_the_unexplained_error() -> None:
    table = synthetic_table()
    smooth, rough = Surrogate(table), Surrogate(table, deviations=True)
    new = networks(80, seed=10)
    column = smooth.columns.index(ACCURACY)
    moved = rough.means(new)[:, column] - smooth.means(new)[:, column]
    assert rough.expected(new[0]) == Surrogate(table, deviations=True).expected(new[0])
    low, high = smooth.interval(new, 0.6826)
    error = (high - low)[:, column] / 2
    noise = [
        statistics.stdev(smooth.draw(each, seed).rungs[-1].accuracy for seed in range(30))
        for each in new
    ]
    unexplained = np.sqrt(np.maximum(error**2 - np.square(noise), 0)).mean()
    assert 0.5 * unexplained < moved.std() < 2 * unexplained


@pytest.mark.parametrize(
    ("genotype", "said"),
    [
        (
            Genotype((Block(channels=128), Block(kind="conv", channels=128, inputs=(1,)))),
            "MACs, and at most 1,880,704 are allowed",
        ),
        (Genotype((Block(channels=8),)), "2 blocks with weights at least"),
        (
            Genotype((Block(channels=7, stride=2), Block(channels=8, inputs=(1,)))),
            "the default choices for every gene",
        ),
        (
            Genotype(
                (Block(channels=48, stride=2), Block(channels=48, inputs=(1,))),
                Head(pool="flatten", hidden=128),
            ),
            "parameters, and at most 400,000 are allowed",
        ),
    ],
)
def test_a_network_outside_the_space_is_one_line(
    genotype: Genotype, said: str, surrogate: Surrogate
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        surrogate.expected(genotype)
    assert genotype.key() in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_small_table_is_refused() -> None:
    table = synthetic_table()
    with pytest.raises(RunError, match="29 networks, of which 3 were trained more than once"):
        Surrogate(replace(table, records=table.records[:29]))
    single = [each for each in table.records if len(each.trainings) == 1]
    with pytest.raises(RunError, match="of which 0 were"):
        Surrogate(replace(table, records=tuple(single)))


def test_a_training_that_failed_is_not_learned_from() -> None:
    table = synthetic_table()
    records = list(table.records)
    number = next(place for place, each in enumerate(records) if len(each.trainings) == 3)
    good = records[number].trainings
    records[number] = replace(records[number], trainings=(None, *good[1:]))
    without = replace(records[number], trainings=good[1:])
    new = networks(5, seed=11)
    other = [*records[:number], without, *records[number + 1 :]]
    assert np.array_equal(
        Surrogate(replace(table, records=tuple(records))).means(new),
        Surrogate(replace(table, records=tuple(other))).means(new),
    )


def test_columns_are_the_numbers_of_a_training() -> None:
    table = synthetic_table()
    columns = columns_of(table.setting)
    assert len(set(columns)) == len(columns) == 51
    [rungs] = table.records[1].trainings
    assert rungs is not None
    row = dict(zip(columns, measured(table.records[1], table.setting)[0], strict=True))
    assert row[Column("transfer", 1, 2)] == rungs[1].transfer[1]
    assert row[Column("unseen", 2, 4)] == rungs[2].unseen[2]
    assert row[Column("norm", None, 1)] == rungs[0].norm


# Features.


def slow_receptive_field(genotype: Genotype) -> tuple[int, int]:
    """Return depth and receptive field by enumerating every path from the image to the head."""
    blocks = genotype.canonical().blocks

    def paths(node: int) -> list[list[Block]]:
        if node == 0:
            return [[]]
        block = blocks[node - 1]
        return [[*path, block] for source in block.inputs for path in paths(source)]

    depths, fields = [], []
    for path in paths(len(blocks)):
        depths.append(sum(BLOCKS[block.kind].learned for block in path))
        field, stride = 1, 1
        for block in path:
            kernels = {
                "identity": [block.stride],
                "residual": [block.kernel],
                "inception": [block.kernel + 2],
            }.get(block.kind, [block.kernel])
            for kernel in kernels:
                field += (kernel - 1) * stride
            stride *= block.stride
            if block.kind == "residual":
                field += (block.kernel - 1) * stride
        fields.append(field)
    return max(depths), max(fields)


def test_depth_and_receptive_field_are_those_of_the_longest_path() -> None:
    one_way = [
        each
        for each in networks(150, seed=12)
        if all(len(block.inputs) == 1 for block in each.canonical().blocks)
    ]
    assert len(one_way) > 20
    for genotype in one_way:
        features = network_features(genotype)
        depth, field = slow_receptive_field(genotype)
        assert features["longest path"] == features["shortest path"] == depth
        assert np.exp(features["log receptive field"]) == pytest.approx(field)
    for genotype in networks(60, seed=13):  # with joins, fields are bounds: strides may differ
        features = network_features(genotype)
        depth, field = slow_receptive_field(genotype)
        assert features["longest path"] == depth
        assert np.exp(features["log receptive field"]) >= field - 1e-9


def test_features_are_of_the_network_expressed() -> None:
    rng = random.Random(0)
    for genotype in networks(20, seed=14):
        idle = Genotype((Block(channels=rng.choice((8, 16))), *_after(genotype)), genotype.head)
        assert idle.key() == genotype.key()
        assert network_features(idle) == network_features(genotype)
        wirings = wire(genotype.blueprint(), INPUT_SHAPE[0], INPUT_SHAPE[1])
        learned = sum(BLOCKS[each.block.kind].learned for each in wirings)
        features = network_features(genotype)
        assert sum(features[f"blocks at {side}"] for side in (16, 8, 4, 2, 1)) == learned


def _after(genotype: Genotype) -> list[Block]:
    """Return the blocks behind one from which no path leads to the head."""
    return [
        replace(block, inputs=tuple(node + (node > 0) for node in block.inputs))
        for block in genotype.blocks
    ]


# Regressors.


@pytest.fixture(scope="module")
def sample() -> tuple[Floats, Floats, Floats]:
    genotypes = networks(70, seed=15)
    x = feature_matrix(genotypes)
    x = (x - x.mean(axis=0)) / np.where(x.std(axis=0) > 0, x.std(axis=0), 1)
    y = np.array([[truth(each)[0], *truth(each)[1]] for each in genotypes])
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    return x[:50], y[:50], x[50:]


def test_left_out_residuals_are_those_of_fits_without_the_row(
    sample: tuple[Floats, Floats, Floats],
) -> None:
    x, y, _ = sample
    kernel = _matern(np.linalg.norm(x[:, None] - x[None], axis=2) / 8)
    noise = 0.1
    slow = np.empty_like(y)
    for row in range(len(x)):
        rest = [each for each in range(len(x)) if each != row]
        solved = np.linalg.solve(kernel[np.ix_(rest, rest)] + noise * np.eye(len(rest)), y[rest])
        slow[row] = y[row] - kernel[row, rest] @ solved
    inverse = np.linalg.inv(kernel + noise * np.eye(len(x)))
    assert slow == pytest.approx(inverse @ y / np.diag(inverse)[:, None])
    found, _ = _leave_one_out(kernel, y)
    assert ((found**2).sum(axis=0) <= (slow**2).sum(axis=0) + 1e-9).all()


def test_the_process_is_scikit_learns(sample: tuple[Floats, Floats, Floats]) -> None:
    x, y, new = sample
    distance = np.linalg.norm(x[:, None] - x[None], axis=2)
    assert _matern(distance / 5) == pytest.approx(Matern(length_scale=5, nu=2.5)(x))
    fitted = REGRESSORS["gaussian process"](x, y, 0)
    scale, predicted = fitted._scale, fitted.predict(new)  # type: ignore[attr-defined]
    kernel = Matern(length_scale=scale, nu=2.5)
    closest = np.full(y.shape[1], np.inf)
    for noise in np.logspace(-3, 2, 16):
        slow = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None).fit(x, y).predict(new)
        closest = np.minimum(closest, np.abs(slow - predicted).max(axis=0))
    assert (closest < 1e-8).all()


def test_flat_trees_predict_as_scikit_learns_do(sample: tuple[Floats, Floats, Floats]) -> None:
    x, y, new = sample
    trees = ExtraTreesRegressor(20, min_samples_leaf=2, bootstrap=True, oob_score=True)
    ours = _Forest(trees, x, y)
    assert ours.predict(new) == pytest.approx(trees.predict(new), abs=1e-6)
    assert ours.predict(new[:1]) == pytest.approx(trees.predict(new[:1]), abs=1e-6)


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_regressor_is_the_same_again_and_predicts_what_it_left_out(
    name: str, sample: tuple[Floats, Floats, Floats]
) -> None:
    x, y, new = sample
    first, second = REGRESSORS[name](x, y[:, :2], 3), REGRESSORS[name](x, y[:, :2], 3)
    assert np.array_equal(first.predict(new), second.predict(new))
    assert first.held_out.shape == (50, 2)
    in_sample = ((first.predict(x) - y[:, :2]) ** 2).mean()
    assert ((first.held_out - y[:, :2]) ** 2).mean() > in_sample


def test_a_table_of_replicates_alone_differs_by_its_noise() -> None:
    """The scale of noise follows what the table's repeated trainings scatter by."""
    quiet, loud = synthetic_table(), _louder(synthetic_table())
    [genotype] = networks(1, seed=16)
    spreads = [
        statistics.stdev(made.draw(genotype, seed).rungs[-1].accuracy for seed in range(100))
        for made in (Surrogate(quiet), Surrogate(loud))
    ]
    assert 1.5 < spreads[1] / spreads[0] < 6


def _louder(table: Table) -> Table:
    """Return the table with the deviations of repeated trainings three times as large."""
    records = []
    for record in table.records:
        trainings = [rungs for rungs in record.trainings if rungs is not None]
        means = [
            statistics.mean(rungs[place].accuracy for rungs in trainings) for place in range(3)
        ]
        changed = []
        for rungs in trainings:
            accuracies = [
                min(0.95, max(0.05, mean + 3 * (rung.accuracy - mean)))
                for mean, rung in zip(means, rungs, strict=True)
            ]
            changed.append(
                tuple(
                    msgspec.structs.replace(rung, accuracy=accuracy)
                    for rung, accuracy in zip(rungs, accuracies, strict=True)
                )
            )
        records.append(replace(record, trainings=tuple(changed)))
    return Table(table.setting, tuple(records))
