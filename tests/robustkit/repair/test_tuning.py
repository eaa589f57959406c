"""Descent as a baseline: what it reports, what it keeps, when it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustkit import models
from robustkit.errors import ConfigError
from robustkit.repair import TuneConfig, repair_sets, tune
from tests.robustkit.attacks.test_state_preserved import same, state
from tests.robustkit.repair.nets import (
    mlp,
    noise,
    same_tensors,
    seeded,
    wrap,
)
from tests.robustkit.repair.trained import (
    Trained,
    check_figures,
    entries,
    known,
    said,
    untimed,
)


@pytest.mark.parametrize("scope", ["last", "all"])
def test_descent_is_what_its_report_says_and_never_worse(net: Trained, scope: str) -> None:
    train, test = net.splits.train, net.splits.test
    before = state(net.model)
    made = tune(net.model, TuneConfig(scope=scope, steps=60, lr=0.01, runs=2), train, test)
    assert same(before, state(net.model))
    applied = made.patch.apply(net.model)
    check_figures(made.result, train, said(net.model, train), said(applied, train))
    check_figures(made.result.held_out, test, said(net.model, test), said(applied, test))
    assert made.result.acc_after > made.result.acc_before
    assert made.result.iterations == 60
    names = set(made.patch.changes)
    if scope == "last":
        assert names == {"head.1.weight", "head.1.bias"}
    else:
        assert names == set(dict(net.model.net.named_parameters()))
    accuracies = [run.effect.metrics().acc_after for run in made.runs]
    assert made.best == accuracies.index(max(accuracies))
    assert made.runs[0].patch.child != made.runs[1].patch.child


@pytest.mark.parametrize("scope", ["last", "all"])
@pytest.mark.parametrize("lr", [1e-6, 0.1, 30.0])
def test_descent_never_ends_below_where_it_began(net: Trained, scope: str, lr: float) -> None:
    train = net.splits.train
    made = tune(net.model, TuneConfig(scope=scope, steps=12, lr=lr, checks=4), train)
    applied = made.patch.apply(net.model)
    now, then = (
        sum(answer == y for answer, y in zip(said(each, train), train.labels.tolist(), strict=True))
        for each in (applied, net.model)
    )
    assert now >= then
    if lr == 30.0:
        # Nothing better was met: nothing is changed at all.
        assert (now, len(made.patch)) == (then, 0)


@pytest.mark.parametrize("settings", [{}, {"anchor": 5.0}, {"budget": 0.01}])
@pytest.mark.parametrize("scope", ["last", "all"])
def test_descent_is_reproducible(net: Trained, scope: str, settings: dict[str, Any]) -> None:
    """To the bit, whatever the global random state is; dropout's draws included."""
    model = wrap(
        seeded(
            lambda: nn.Sequential(
                nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Dropout(0.4), nn.Linear(12, 4)
            )
        )
    )
    images = noise(50)
    config = TuneConfig(scope=scope, steps=25, lr=0.02, batch_size=16, seed=3, **settings)
    torch.manual_seed(1)
    first = tune(model, config, images)
    torch.manual_seed(2)
    random = torch.get_rng_state()
    second = tune(model, config, images)
    assert torch.equal(torch.get_rng_state(), random)
    assert len(first.patch) > 0
    assert same_tensors(entries(first), entries(second))
    assert untimed(first) == untimed(second)
    other = tune(model, replace(config, seed=4), images)
    assert not same_tensors(entries(first), entries(other))


@pytest.mark.parametrize("scope", ["last", "all"])
@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_keeps_its_statistics(scope: str, training: bool) -> None:
    model = models.build("resnet20", num_classes=4, in_channels=1, image_size=8, width=2, seed=0)
    images = noise(60, side=8)
    model.train()(images.floats())
    model.train(training)
    before = state(model)
    made = tune(model, TuneConfig(scope=scope, steps=30, lr=0.02, batch_size=20), images)
    assert same(before, state(model))
    assert len(made.patch) > 0
    applied = made.patch.apply(model)
    buffers = dict(model.named_buffers())
    assert sum("running_var" in name for name in buffers) > 10
    assert same_tensors(buffers, dict(applied.named_buffers()))
    check_figures(made.result, images, said(model, images), said(applied, images))
    assert made.result.acc_after > made.result.acc_before


def test_descent_may_be_on_failures_alone() -> None:
    model, images = mlp(), noise(60)
    sets = repair_sets(model, images)
    failures = images.subset(torch.nonzero(sets.neg).squeeze(1))
    result = tune(model, TuneConfig(steps=40, lr=0.02, batch_size=16), failures).result
    assert result.n_pos == 0
    assert result.br is None
    assert known(result.rr) > 0


@pytest.mark.parametrize("budget", [0.0, 0.05, 0.3])
def test_a_budget_is_kept(net: Trained, budget: float) -> None:
    config = TuneConfig(scope="last", steps=40, lr=0.05, checks=40, budget=budget)
    limited = tune(net.model, config, net.splits.train).result
    assert known(limited.br) <= budget
    free = tune(net.model, replace(config, budget=1.0), net.splits.train).result
    assert known(free.br) > 0.0
    assert known(limited.rr) <= known(free.rr)


def test_a_budget_of_everything_keeps_the_state_with_most_failures_repaired(net: Trained) -> None:
    config = TuneConfig(scope="last", steps=40, lr=0.05, checks=40, budget=1.0)
    accurate = tune(net.model, replace(config, budget=None), net.splits.train).result
    limited = tune(net.model, config, net.splits.train).result
    assert known(limited.rr) >= known(accurate.rr)
    assert limited.acc_after <= accurate.acc_after


def test_an_anchor_holds_what_is_right(net: Trained) -> None:
    """The heavier the anchor, the less the answers on the successes move."""
    train = net.splits.train
    moved = []
    for anchor in (0.0, 100.0):
        config = TuneConfig(scope="last", steps=80, lr=0.02, checks=1, anchor=anchor, budget=1.0)
        made = tune(net.model, config, train)
        right = train.floats(torch.nonzero(made.sets.pos).flatten())
        with torch.no_grad():
            before, after = (
                each(right).softmax(dim=1) for each in (net.model, made.patch.apply(net.model))
            )
        moved.append(float((before * (before / after).log()).sum(dim=1).mean()))
    assert 0 < moved[1] < 0.5 * moved[0]


def test_time_ends_the_descent(net: Trained) -> None:
    config = TuneConfig(steps=10**9, checks=10**9, seconds=0.05)
    made = tune(net.model, config, net.splits.train)
    assert 0 < made.result.iterations < 10**9
    assert made.result.acc_after >= made.result.acc_before


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"scope": "lasst"}, "unknown scope 'lasst'; did you mean 'last'"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"checks": 0}, "checks must be at least 1"),
        ({"runs": 0}, "runs must be at least 1"),
        ({"lr": 0.0}, "lr must be positive, not 0"),
        ({"lr": float("nan")}, "lr must be positive, not nan"),
        ({"seconds": 0.0}, "seconds must be positive, not 0"),
        ({"anchor": -1.0}, "anchor must not be negative, not -1"),
        ({"budget": 1.1}, "budget must be in .0,1.*not 1.1"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_settings_of_the_descent_are_checked(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        TuneConfig(**settings)


class Scaled(nn.Module):
    """Something comes behind the last fully connected layer, or it is never called."""

    def __init__(self, idle: bool) -> None:
        super().__init__()
        self.idle = idle
        self.body = nn.Linear(36, 4)
        self.last = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        y: Tensor = self.body(x.flatten(1))
        return y if self.idle else 2 * self.last(y)


@pytest.mark.parametrize(
    "idle",
    [
        False,
        True,
    ],
)
def test_the_last_layer_must_give_the_logits(idle: bool) -> None:
    model = wrap(seeded(lambda: Scaled(idle)))
    with pytest.raises(ConfigError, match="the last fully connected layer does not give the log"):
        tune(model, TuneConfig(steps=2), noise(20))
    assert not model.net.get_submodule("last")._forward_hooks
    assert tune(model, TuneConfig(scope="all", steps=2), noise(20)).scored_by == "gradients"


@pytest.mark.parametrize("scope", ["last", "all"])
def test_a_model_without_gradients_can_be_tuned(scope: str) -> None:
    model = mlp().requires_grad_(False)
    before = state(model)
    made = tune(model, TuneConfig(scope=scope, steps=20, lr=0.05, batch_size=16), noise(60))
    assert made.result.acc_after > made.result.acc_before
    assert same(before, state(model))
