"""Localisation by history, against Equation 5 written with sets."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from robustkit.errors import ConfigError, RepairError
from robustkit.repair import RepairConfig, localise, repairable
from robustkit.repair.localise import pareto_front, top
from tests.robustkit.repair.cases import (
    NAMED,
    SIZES,
    found,
    make_case,
    slow_equation_5,
    slow_front,
    slow_top,
    weights,
)
from tests.robustkit.repair.nets import CLASSES, wrap


@given(
    st.dictionaries(
        st.sampled_from(["b", "a", "a.1", "10", "9", "B"]),
        st.lists(st.integers(0, 4), min_size=1, max_size=9),
        min_size=1,
    ),
    st.integers(1, 40),
    st.sampled_from(["pooled", "layer"]),
)
def test_the_top_is_the_head_of_the_sorted_list(
    values: dict[str, list[int]], count: int, ranking: str
) -> None:
    scores = {name: torch.tensor(each, dtype=torch.float32) for name, each in values.items()}
    masks = top(scores, count, per_layer=ranking == "layer")
    assert list(masks) == list(scores)
    made = {(name, i) for name, mask in masks.items() for i, yes in enumerate(mask) if yes}
    assert made == slow_top(scores, count, ranking)


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 6))
        | st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)),
        max_size=40,
    )
)
def test_the_front_is_what_nothing_dominates(points: list[tuple[float, float]]) -> None:
    first, second = (
        torch.tensor([point[axis] for point in points], dtype=torch.float32) for axis in (0, 1)
    )
    assert pareto_front(first, second).tolist() == slow_front(points)


def test_equal_points_stand_or_fall_together() -> None:
    points = [(1.0, 3.0), (2.0, 2.0), (2.0, 2.0), (3.0, 1.0), (1.0, 1.0), (1.0, 1.0), (2.0, 1.0)]
    front = pareto_front(*(torch.tensor(each) for each in zip(*points, strict=True)))
    assert front.tolist() == [True, True, True, True, False, False, False]


@pytest.mark.parametrize("layers", NAMED)
@pytest.mark.parametrize("ranking", ["pooled", "layer"])
@pytest.mark.parametrize("side", ["both", "forward", "backward"])
def test_the_choice_is_equation_5(side: str, ranking: str, layers: str) -> None:
    case, nonempty = make_case(), 0
    for use_diff, use_imp, count in itertools.product([True, False], [True, False], [6, 30]):
        config = RepairConfig(
            layers=(layers,),
            impacts=side,
            ranking=ranking,
            use_diff=use_diff,
            use_imp=use_imp,
            top=count,
        )
        slow = slow_equation_5(case, config, count)
        assert {name for name, _ in slow.deg | slow.diff | slow.imp} <= NAMED[layers]
        if not slow.chosen:
            with pytest.raises(RepairError, match="localisation chose no weight"):
                found(case, config)
            continue
        nonempty += 1
        made = found(case, config)
        assert weights(made.selection) == slow.chosen
        candidates = sum(SIZES[name] for name in NAMED[layers])
        assert (made.top, made.notes) == (min(count, candidates), ())
        sizes: dict[str, int] = {"deg": len(slow.deg), "chosen": len(slow.chosen)}
        if use_diff:
            sizes |= {"diff": len(slow.diff), "deg & diff": len(slow.deg & slow.diff)}
        if use_imp:
            sizes |= {"imp": len(slow.imp)}
        assert dict(made.sizes) == sizes
    assert nonempty >= 2


def test_every_term_of_equation_5_matters() -> None:
    case = make_case()
    variants: list[dict[str, Any]] = [
        {},
        {"use_diff": False},
        {"use_imp": False},
        {"impacts": "forward"},
        {"impacts": "backward"},
        {"ranking": "layer"},
        {"layers": ("both",)},
        {"top": 120},
    ]
    chosen = [
        frozenset(weights(found(case, RepairConfig(**{"top": 200, **each})).selection))
        for each in variants
    ]
    assert len(set(chosen)) == len(variants)


def test_several_words_name_the_layers_of_all_of_them() -> None:
    case = make_case()
    config = RepairConfig(layers=("last", "2"), ranking="layer", top=20, use_imp=False)
    made = weights(found(case, config).selection)
    assert {name for name, _ in made} == {"2", "7"}
    assert made == slow_equation_5(case, config, 20).chosen


@pytest.mark.parametrize("per_image", [1, 7, 20])
def test_without_a_number_weights_are_counted_per_changed_image(per_image: int) -> None:
    case = make_case(deg=range(3), imp=range(20, 25))
    config = RepairConfig(per_image=per_image, use_imp=False, use_diff=False)
    made = found(case, config)
    assert made.top == per_image * 8
    assert weights(made.selection) == slow_equation_5(case, config, per_image * 8).chosen
    assert found(case, replace(config, top=9)).top == 9
    wide = found(case, replace(config, layers=("last",)))
    assert wide.top == min(per_image * 8, SIZES["7"])


def test_a_layer_wise_ranking_takes_that_many_of_each_layer() -> None:
    config = RepairConfig(
        layers=("both",), ranking="layer", top=9, impacts="backward", use_diff=False, use_imp=False
    )
    assert found(make_case(), config).selection.counts() == dict.fromkeys(SIZES, 9)


def test_history_needs_the_previous_checkpoint() -> None:
    case = make_case()
    with pytest.raises(RepairError, match="needs the checkpoint before the model's"):
        localise(case.model, case.images, case.sets, RepairConfig(), None)


@pytest.mark.parametrize("name", ["no", "0.weight", "Linear"])
def test_an_unknown_layer_is_an_error(name: str) -> None:
    with pytest.raises(RepairError, match=f"no layer '{name}'.*before-last"):
        found(make_case(), RepairConfig(layers=(name,)))


def test_layers_that_are_not_there_are_an_error() -> None:
    model = wrap(nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES)))
    with pytest.raises(RepairError, match="no fully connected layer before the last"):
        repairable(model, ("before-last",))
    with pytest.raises(RepairError, match="no convolution; its layers: 1"):
        repairable(model, ("conv",))


def test_a_previous_checkpoint_of_another_architecture_is_an_error() -> None:
    case = make_case()
    net = copy.deepcopy(case.previous.net)
    assert isinstance(net, nn.Sequential)
    net[5], net[7] = nn.Linear(64, 9), nn.Linear(9, CLASSES)
    case.previous = wrap(net)
    with pytest.raises(RepairError):
        found(case, RepairConfig(top=50))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"localisation": "historic"}, "unknown localisation 'historic'; did you mean 'history'"),
        ({"impacts": "none"}, "unknown impacts 'none'"),
        ({"ranking": "layers"}, "unknown ranking 'layers'; did you mean 'layer'"),
        ({"on_empty": "drop"}, "unknown on_empty 'drop'"),
        ({"positives": "hard"}, "unknown positives 'hard'"),
        ({"per_image": 0}, "per_image must be at least 1, not 0"),
        ({"top": 0}, "top must be at least 1, not 0"),
        ({"n_positives": 0}, "n_positives must be at least 1"),
        ({"runs": -1}, "runs must be at least 1, not -1"),
        ({"layers": ()}, "layers: name at least one"),
        ({"localisation": "random"}, "random localisation must be told how many weights"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RepairConfig(**settings)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RepairConfig(top=100),
        lambda: RepairConfig(localisation="arachne"),
        lambda: RepairConfig(localisation="random", top=10),
    ],
)
def test_models_are_left_as_they_were(make: Callable[[], RepairConfig]) -> None:
    case = make_case()
    case.model.train()
    before = [
        {name: each.clone() for name, each in model.state_dict().items()}
        for model in (case.model, case.previous)
    ]
    found(case, make())
    for model, kept in zip((case.model, case.previous), before, strict=True):
        assert all(torch.equal(kept[name], each) for name, each in model.state_dict().items())
        assert all(each.grad is None and each.requires_grad for each in model.parameters())
    assert all(module.training for module in case.model.modules())
    assert not any(module.training for module in case.previous.modules())
