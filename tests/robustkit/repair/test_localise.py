"""Which weights are chosen, against python's sets and sort.

The impacts that are ranked here are the package's own: `test_impacts` is about their numbers, and a
tie that rounding breaks otherwise would be no mistake.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from robustkit.data import ImageSet
from robustkit.errors import ConfigError, RepairError
from robustkit.models import Classifier
from robustkit.repair import (
    ARACHNE,
    Localisation,
    RepairConfig,
    RepairSets,
    Selection,
    impacts,
    localise,
    repairable,
)
from robustkit.repair.ranking import pareto_front, top
from tests.robustkit.repair.nets import CLASSES, mixed_net, noise, parameter, seeded, wrap

Weight = tuple[str, int]
Scores = Mapping[str, Tensor]
COUNT = 40
LINEAR = {"5", "7"}
CONV = {"0", "2"}
NAMED = {
    "last": {"7"},
    "before-last": {"5"},
    "linear": LINEAR,
    "conv": CONV,
    "both": LINEAR | CONV,
    "2": {"2"},
}
SIZES = {"0": 27, "2": 108, "5": 448, "7": 28}


# ---------------------------------------------------------------------------------- the slow way


def slow_top(scores: Scores, count: int, ranking: str) -> set[Weight]:
    """The first `count` by (score descending, layer name, index), zeros left out."""
    ranked = sorted(
        (-score, name, index)
        for name, each in scores.items()
        for index, score in enumerate(each.flatten().tolist())
    )
    if ranking == "pooled":
        heads = ranked[:count]
    else:
        heads = [row for name in scores for row in [r for r in ranked if r[1] == name][:count]]
    return {(name, index) for score, name, index in heads if score < 0}


@dataclass
class Slow:
    """The sets that Equation 5 is made of."""

    deg: set[Weight]
    diff: set[Weight]
    imp: set[Weight]
    chosen: set[Weight]


def slow_equation_5(case: Case, config: RepairConfig, count: int) -> Slow:
    layers = repairable(case.model, config.layers)
    deg = impacts(case.model, at(case.images, case.sets.deg), layers)
    imp = impacts(case.model, at(case.images, case.sets.imp), layers)
    moved = {
        name: (layer.weight - parameter(case.previous, name)).detach().abs()
        for name, layer in layers.items()
    }
    sides = []
    for each in (deg, imp):
        backward = slow_top(each.backward, count, config.ranking)
        forward = slow_top(each.forward, count, config.ranking)
        sides.append(
            {"backward": backward, "forward": forward, "both": backward & forward}[config.impacts]
        )
    diff = slow_top(moved, count, config.ranking)
    chosen = set(sides[0])
    if config.use_diff:
        chosen &= diff
    if config.use_imp:
        chosen -= sides[1]
    return Slow(sides[0], diff, sides[1], chosen)


def slow_front(points: list[tuple[float, float]]) -> list[bool]:
    """A point is off the front where another is at least as good in both and better in one."""
    return [
        not any(q[0] >= p[0] and q[1] >= p[1] and (q[0] > p[0] or q[1] > p[1]) for q in points)
        for p in points
    ]


# -------------------------------------------------------------------------------------- the case


@dataclass
class Case:
    """A net, the checkpoint before it, and images sorted by hand."""

    model: Classifier
    previous: Classifier
    images: ImageSet
    sets: RepairSets


def make_case(
    deg: range = range(10), imp: range = range(20, 32), neg: range = range(14), seed: int = 0
) -> Case:
    """Images `neg` are failures, all others right; `deg` and `imp` are indices too."""
    model = mixed_net(seed)
    previous = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in previous.parameters():
            each.add_(0.1 * torch.randn(each.shape, generator=generator))
    return Case(model, previous, noise(COUNT, seed=seed), sets_of(deg, imp, neg))


def sets_of(deg: range, imp: range, neg: range = range(14)) -> RepairSets:
    masks = [torch.tensor([i in each for i in range(COUNT)]) for each in (neg, deg, imp)]
    return RepairSets(
        torch.zeros(COUNT, dtype=torch.int64), masks[0], ~masks[0], masks[1], masks[2]
    )


def at(images: ImageSet, mask: Tensor) -> ImageSet:
    return images.subset(torch.tensor([i for i in range(COUNT) if mask[i]]))


def found(case: Case, config: RepairConfig) -> Localisation:
    return localise(case.model, case.images, case.sets, config, case.previous)


def weights(selection: Selection) -> set[Weight]:
    """What was chosen; the indices must ascend, and no layer be listed in vain."""
    for each in selection.indices.values():
        assert each.dtype == torch.int64
        assert len(each)
        assert bool((each[1:] > each[:-1]).all())
    return {(name, int(index)) for name, each in selection.indices.items() for index in each}


# --------------------------------------------------------------------------------------- ranking


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


# -------------------------------------------------------------------------------------- equation 5


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


# ------------------------------------------------------------------------------- nothing is chosen


def test_the_error_lists_the_sizes_of_all_sets() -> None:
    case = make_case(imp=range(10))  # what improved is what degraded: nothing can be left
    config = RepairConfig(top=30)
    slow = slow_equation_5(case, config, 30)
    assert slow.deg == slow.imp
    with pytest.raises(RepairError) as caught:
        found(case, config)
    wanted = {
        "n_neg": 14,
        "n_pos": 26,
        "n_deg": 10,
        "n_imp": 10,
        "deg": len(slow.deg),
        "diff": 30,
        "deg & diff": len(slow.deg & slow.diff),
        "imp": len(slow.imp),
        "chosen": 0,
        "top": 30,
    }
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    for name, number in wanted.items():
        assert f"{name} {number}" in said, name
    assert "of 476 weights" in said


def test_grow_doubles_until_something_is_chosen() -> None:
    case = make_case()
    # One weight alone has moved, and it is far down in the ranking of impacts.
    case.previous = copy.deepcopy(case.model)
    config = RepairConfig(top=3, on_empty="grow", impacts="backward", use_imp=False)
    layers = repairable(case.model)
    backward = impacts(case.model, at(case.images, case.sets.deg), layers).backward["5"].flatten()
    one = int(backward.argsort(descending=True)[60])
    with torch.no_grad():
        parameter(case.previous, "5").view(-1)[one] += 1
    counts = [3]
    while not slow_equation_5(case, config, counts[-1]).chosen:
        counts.append(2 * counts[-1])
    assert len(counts) > 3
    made = found(case, config)
    assert weights(made.selection) == {("5", one)}
    assert made.top == counts[-1]
    assert made.notes == tuple(
        f"nothing chosen of the top {count}: took the top {2 * count}" for count in counts[:-1]
    )


def test_grow_ends_with_an_error_where_all_weights_are_not_enough() -> None:
    case = make_case(imp=range(10))
    with pytest.raises(RepairError, match=r"chosen 0, top 476 of 476 weights"):
        found(case, RepairConfig(top=100, on_empty="grow"))


def test_drop_imp_keeps_what_improved_images_use() -> None:
    case = make_case(imp=range(10))
    made = found(case, RepairConfig(top=30, on_empty="drop-imp"))
    slow = slow_equation_5(case, RepairConfig(top=30, use_imp=False), 30)
    assert weights(made.selection) == slow.chosen
    assert made.notes == ("nothing chosen: kept what improved ones use",)
    assert made.top == 30
    assert "imp" not in made.sizes


def test_drop_diff_leaves_out_how_weights_moved() -> None:
    case = make_case()
    case.previous = copy.deepcopy(case.model)
    config = RepairConfig(top=30, impacts="backward")
    with pytest.raises(RepairError, match="diff 0, deg & diff 0"):
        found(case, config)
    made = found(case, RepairConfig(top=30, impacts="backward", on_empty="drop-diff"))
    slow = slow_equation_5(case, RepairConfig(top=30, impacts="backward", use_diff=False), 30)
    assert weights(made.selection) == slow.chosen
    assert made.notes == ("nothing chosen: left out how weights moved",)
    assert "diff" not in made.sizes


@pytest.mark.parametrize("policy", ["drop-imp", "drop-diff"])
def test_a_policy_that_does_not_help_ends_with_an_error(policy: str) -> None:
    case = make_case(imp=range(10))
    if policy == "drop-imp":
        case.previous = copy.deepcopy(case.model)
    with pytest.raises(RepairError, match="chosen 0"):
        found(case, RepairConfig(top=30, on_empty=policy))


@pytest.mark.parametrize("policy", ["error", "grow", "drop-imp", "drop-diff"])
def test_no_policy_is_applied_where_something_is_chosen(policy: str) -> None:
    case, config = make_case(), RepairConfig(top=100, on_empty=policy)
    made = found(case, config)
    assert made.notes == ()
    assert weights(made.selection) == slow_equation_5(case, config, 100).chosen


@pytest.mark.parametrize("policy", ["error", "grow", "drop-diff"])
def test_without_improved_images_there_is_an_error(policy: str) -> None:
    case = make_case(imp=range(0))
    with pytest.raises(RepairError, match=r"n_deg 10, n_imp 0; on_empty 'drop-imp' goes on"):
        found(case, RepairConfig(top=30, on_empty=policy))


def test_without_improved_images_drop_imp_goes_on() -> None:
    case = make_case(imp=range(0))
    config = RepairConfig(per_image=20, on_empty="drop-imp")
    made = found(case, config)
    assert made.top == 20 * 10
    assert made.notes == ("no improved images: localised without them",)
    layers = repairable(case.model)
    deg = impacts(case.model, at(case.images, case.sets.deg), layers)
    moved = {
        name: (layer.weight - parameter(case.previous, name)).detach().abs()
        for name, layer in layers.items()
    }
    tops = [slow_top(each, 200, "pooled") for each in (deg.backward, deg.forward, moved)]
    assert weights(made.selection) == tops[0] & tops[1] & tops[2]
    assert found(case, replace(config, use_imp=False)).notes == ()


@pytest.mark.parametrize("policy", ["error", "grow", "drop-imp", "drop-diff"])
def test_without_degraded_images_there_is_an_error(policy: str) -> None:
    case = make_case(deg=range(0))
    with pytest.raises(RepairError, match="no degraded images to localise by: n_neg 14"):
        found(case, RepairConfig(top=30, on_empty=policy))


# ----------------------------------------------------------------------------------------- arachne


def slow_arachne(case: Case, layers: tuple[str, ...], count: int, ranking: str) -> set[Weight]:
    made = impacts(case.model, at(case.images, case.sets.neg), repairable(case.model, layers))
    pool = sorted(slow_top(made.backward, count, ranking))
    points = [
        (float(made.backward[name].flatten()[i]), float(made.forward[name].flatten()[i]))
        for name, i in pool
    ]
    return {weight for weight, on in zip(pool, slow_front(points), strict=True) if on}


@pytest.mark.parametrize("ranking", ["pooled", "layer"])
@pytest.mark.parametrize("layers", NAMED)
@pytest.mark.parametrize("count", [5, 90])
def test_arachne_is_the_front_of_the_pool(count: int, layers: str, ranking: str) -> None:
    case = make_case()
    config = RepairConfig(
        localisation="arachne", layers=(layers,), top=count, ranking=ranking, fitness="arachne"
    )
    made = found(case, config)
    assert weights(made.selection) == slow_arachne(case, (layers,), count, ranking)
    assert made.sizes["chosen"] == len(made.selection)
    assert made.top == min(count, sum(SIZES[name] for name in NAMED[layers]))


def test_arachne_takes_equal_weights_together() -> None:
    """Two units alike in all: their weights have equal impacts, to the bit."""
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 2), nn.ReLU(), nn.Linear(2, 4)))
    case = make_case()
    case.model = wrap(net)
    first, last = (parameter(case.model, name) for name in ("1", "3"))
    with torch.no_grad():
        parameter(case.model, "1", "bias").fill_(0.5)
        first[1], last[:, 1] = first[0], last[:, 0]
    config = RepairConfig(localisation="arachne", layers=("1",), top=72)
    made = weights(found(case, config).selection)
    assert made == slow_arachne(case, ("1",), 72, "pooled")
    assert 0 < len(made) < 72
    assert made == {(name, (i + 36) % 72) for name, i in made}


def test_arachne_looks_at_twenty_weights_per_failure() -> None:
    case = make_case(neg=range(3))
    config = replace(ARACHNE, layers=("5",))
    made = found(case, config)
    assert (made.top, made.sizes["backward"]) == (60, 60)
    assert weights(made.selection) == slow_arachne(case, ("5",), 60, "pooled")
    assert found(case, replace(config, per_image=5)).top == 15
    assert found(case, ARACHNE).top == SIZES["7"]


def test_arachne_looks_at_failures_alone_and_needs_no_history() -> None:
    case = make_case()
    config = RepairConfig(localisation="arachne", top=60)
    expected = weights(found(case, config).selection)
    case.sets = sets_of(range(0), range(0))
    made = localise(case.model, case.images, case.sets, config, None)
    assert weights(made.selection) == expected


def test_arachne_needs_a_weight_with_an_impact() -> None:
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.ReLU(), nn.Linear(4, 4)))
    case = make_case()
    case.model = wrap(net)
    with torch.no_grad():
        parameter(case.model, "1", "bias").fill_(-1e6)  # no unit is ever active
    with pytest.raises(RepairError, match="no weight has any impact on the failures"):
        found(case, RepairConfig(localisation="arachne", layers=("1",)))


# ------------------------------------------------------------------------------------------ random


@pytest.mark.parametrize("layers", NAMED)
@pytest.mark.parametrize("count", [1, 20, 10_000])
def test_random_takes_that_many(layers: str, count: int) -> None:
    case = make_case()
    config = RepairConfig(localisation="random", layers=(layers,), top=count, seed=3)
    made = localise(case.model, case.images, case.sets, config)
    candidates = sum(SIZES[name] for name in NAMED[layers])
    chosen = weights(made.selection)
    assert len(chosen) == made.top == made.sizes["chosen"] == min(count, candidates)
    assert all(name in NAMED[layers] and 0 <= i < SIZES[name] for name, i in chosen)
    again = localise(case.model, case.images, case.sets, config)
    assert weights(again.selection) == chosen


def test_random_depends_on_its_seed_and_on_nothing_else() -> None:
    case, other = make_case(), make_case(deg=range(2), seed=1)

    def drawn(which: Case, seed: int) -> set[Weight]:
        config = RepairConfig(localisation="random", layers=("both",), top=50, seed=seed)
        state = torch.get_rng_state()
        torch.rand(1)
        chosen = weights(found(which, config).selection)
        torch.set_rng_state(state)
        return chosen

    assert drawn(case, 1) == drawn(other, 1)
    assert drawn(case, 1) != drawn(case, 2)


def test_random_takes_every_weight_as_often_as_any_other() -> None:
    case = make_case()
    drawn = [0] * SIZES["7"]
    for seed in range(300):
        config = RepairConfig(localisation="random", layers=("last",), top=7, seed=seed)
        for _, index in weights(found(case, config).selection):
            drawn[index] += 1
    # Binomial(300, 1/4) has a standard deviation of 7.5.
    assert sum(drawn) == 300 * 7
    assert all(75 - 34 < count < 75 + 34 for count in drawn)


# ---------------------------------------------------------------------------------------- settings


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
