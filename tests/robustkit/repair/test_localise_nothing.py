"""What happens where Equation 5 chooses no weight."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from robustkit.errors import RepairError
from robustkit.repair import RepairConfig, impacts, repairable
from tests.robustkit.repair.cases import (
    at,
    found,
    make_case,
    slow_equation_5,
    slow_top,
    weights,
)
from tests.robustkit.repair.nets import parameter


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
