"""Methods by name, and how the two publications differ."""

from __future__ import annotations

from dataclasses import replace

import pytest

from robustkit.errors import RepairError
from robustkit.repair import ARACHNE, HISTORY, METHODS, RepairConfig, TuneConfig, repairable, tune
from tests.robustkit.repair.nets import (
    mlp,
)
from tests.robustkit.repair.trained import (
    Trained,
    check_figures,
    said,
)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_methods_are_known_by_name(net: Trained, name: str) -> None:
    method = METHODS.find(name)
    train = net.splits.train
    if isinstance(method.config, TuneConfig):
        made = tune(net.model, replace(method.config, steps=10), train)
        assert made.localisation is None
    else:
        config = replace(method.config, top=60, on_empty="grow", n_positives=80)
        made = net.repair(config, replace(method.swarm, particles=6, iterations=3))
        assert made.localisation is not None
    applied = made.patch.apply(net.model)
    check_figures(made.result, train, said(net.model, train), said(applied, train))


def test_the_two_papers_differ_in_their_settings() -> None:
    assert METHODS.find("history").config == HISTORY == RepairConfig()
    assert METHODS.find("arachne").config == ARACHNE
    assert (HISTORY.per_image, ARACHNE.per_image) == (1, 20)
    assert (HISTORY.positives, ARACHNE.positives) == ("hardest", "random")
    assert repairable(mlp(), ARACHNE.layers).keys() == {"3"}
    assert repairable(mlp(), HISTORY.layers).keys() == {"1", "3"}
    with pytest.raises(RepairError, match="unknown repair method 'arachna'; did you mean"):
        METHODS.find("arachna")
