"""Masking, curves, sanity and similarity: against the slow way and cases by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from robustkit import explain
from robustkit.errors import ExplainError
from robustkit.explain.faithfulness import blurred, layers_with_weights
from tests.robustkit.explain.nets import cnn, images, made, mlp

# --------------------------------------------------------------------------------------- similarity


def slow_ranks(values: list[float]) -> list[float]:
    """Average ranks, one value at a time."""
    return [
        sum(other < each for other in values) + (sum(other == each for other in values) + 1) / 2
        for each in values
    ]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=12))
def test_spearman_knows_ties(pairs: list[tuple[int, int]]) -> None:
    a, b = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    found = explain.spearman(torch.tensor([a]), torch.tensor([b]))
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert found == explain.Similarity((), 1)
        assert found.mean is None
        return
    x, y = slow_ranks(a), slow_ranks(b)
    mx, my = sum(x) / len(x), sum(y) / len(y)
    top = sum((p - mx) * (q - my) for p, q in zip(x, y, strict=True))
    below = math.sqrt(sum((p - mx) ** 2 for p in x) * sum((q - my) ** 2 for q in y))
    assert found.values[0] == pytest.approx(top / below, abs=1e-12)


def test_signs_count_unless_they_are_not_asked_for() -> None:
    maps = torch.randn(2, 9, 9, generator=torch.Generator().manual_seed(0))
    assert explain.spearman(maps, -maps).values == pytest.approx((-1.0, -1.0))
    assert explain.spearman(maps, -maps, absolute=True).values == pytest.approx((1.0, 1.0))
    assert explain.ssim(maps, 3 * maps).values == pytest.approx((1.0, 1.0))
    assert max(explain.ssim(maps, -maps).values) < 0
    assert explain.ssim(maps, -maps, absolute=True).values == pytest.approx((1.0, 1.0))


def test_ssim_by_its_formula() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(1, 7, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    x, y = ((each[0] / each.abs().max() + 1) / 2 for each in (a, b))
    n = 49
    vx, vy = (each.var(unbiased=True) for each in (x, y))
    cov = ((x - x.mean()) * (y - y.mean())).sum() / (n - 1)
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * x.mean() * y.mean() + c1) * (2 * cov + c2)
    expected /= (x.mean() ** 2 + y.mean() ** 2 + c1) * (vx + vy + c2)
    assert explain.ssim(a, b).values[0] == pytest.approx(float(expected), abs=1e-9)


def test_maps_that_say_nothing_are_counted() -> None:
    maps = torch.stack([torch.zeros(8, 8), torch.eye(8)])
    assert explain.ssim(maps, maps).constant == 1
    found = explain.spearman(maps, maps)
    assert found.values == pytest.approx((1.0,))
    assert found.constant == 1
    for window in (4, 9, 1, -1):
        with pytest.raises(ExplainError, match=f"window of {window} pixels"):
            explain.ssim(maps, maps, window=window)
    with pytest.raises(ExplainError, match="cannot be compared"):
        explain.spearman(maps, maps[:1])


# ------------------------------------------------------------------------------------------- curves


@pytest.mark.parametrize("steps", [1, 4, 64])
def test_curves_change_pixels_in_the_order_of_the_map(steps: int) -> None:
    net, x = made(cnn), images(2)
    targets = torch.tensor([0, 2])
    maps = torch.randint(0, 5, (2, 8, 8), generator=torch.Generator().manual_seed(0)).double()
    deleted = explain.deletion(net, x, targets, maps, steps=steps, baseline=0.3)
    inserted = explain.insertion(net, x, targets, maps, steps=steps, blur=3)
    starts = {"deleted": (x, torch.full_like(x, 0.3)), "inserted": (blurred(x, 3), x)}
    for row in range(2):
        order = sorted(range(64), key=lambda pixel: (-float(maps[row].flatten()[pixel]), pixel))
        for name, curve in (("deleted", deleted), ("inserted", inserted)):
            start, end = (each[row].flatten().clone() for each in starts[name])
            for step in range(steps + 1):
                shown = start.clone()
                done = order[: math.ceil(step * 64 / steps)]
                shown[done] = end[done]
                said = net(shown.view(1, 1, 8, 8)).softmax(dim=1)[0, targets[row]]
                found = float(curve.probability[row, step])
                assert found == pytest.approx(float(said.detach()), abs=1e-6)
    p = deleted.probability[0].tolist()
    area = sum((a + b) / 2 for a, b in pairwise(p)) / steps
    assert float(deleted.area[0]) == pytest.approx(area)


def test_the_pixels_a_linear_net_uses_are_found() -> None:
    """Contributions beat both controls where they are exact."""
    net, x = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3))), images(20)
    with explain.trace(net, x) as t:
        maps, targets = explain.cav(t)["input"].map, t.targets
    ours, random, edge = (
        float(explain.deletion(net, x, targets, each).area.mean())
        for each in (maps, explain.random_maps(x), explain.edges(x))
    )
    assert ours < random - 0.05
    assert ours < edge - 0.05


def test_edges_are_where_brightness_changes() -> None:
    x = torch.zeros(1, 1, 8, 8)
    x[:, :, :, 4:] = 1
    found = explain.edges(x)[0]
    assert found.argmax(dim=1).tolist() == [3] * 8
    assert float(found[:, [0, 1, 2, 5, 6, 7]].abs().max()) == 0
    assert torch.equal(explain.edges(x.transpose(2, 3))[0], found.T)


def test_curves_check_what_they_are_given() -> None:
    net, x, targets = made(mlp), images(2), torch.tensor([0, 1])
    with pytest.raises(ExplainError, match="one value for each pixel"):
        explain.deletion(net, x, targets, torch.zeros(2, 4, 4))
    for steps in (0, 65):
        with pytest.raises(ExplainError, match=f"from 1 to 64 pixels, not {steps}"):
            explain.deletion(net, x, targets, torch.zeros(2, 8, 8), steps=steps)


# ------------------------------------------------------------------------------------------- sanity


@pytest.mark.parametrize("cascading", [True, False])
def test_layers_are_drawn_anew_from_the_output_back(cascading: bool) -> None:
    net = made(cnn)
    before = {name: each.detach().clone() for name, each in net.named_parameters()}
    names = layers_with_weights(net)
    assert names == ["9", "4.branch.3", "4.branch.1", "4.branch.0", "1", "0"]
    for count, (name, changed) in enumerate(explain.randomised(net, cascading=cascading), 1):
        assert name == names[count - 1]
        touched = set(names[:count]) if cascading else {name}
        for parameter, value in changed.named_parameters():
            owner = parameter.rpartition(".")[0]
            assert torch.equal(value, before[parameter]) == (owner not in touched), parameter
    assert all(torch.equal(each, before[name]) for name, each in net.named_parameters())


def test_maps_of_randomised_nets_are_repeatable() -> None:
    net, x = made(cnn), images(2)

    def gradient(model: nn.Module) -> Tensor:
        with explain.trace(model, x, 0) as t:
            return explain.saliency(t)

    first = dict(explain.maps_under_randomisation(net, gradient, seed=3))
    second = dict(explain.maps_under_randomisation(net, gradient, seed=3))
    other = dict(explain.maps_under_randomisation(net, gradient, seed=4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["9"], other["9"])


# ------------------------------------------------------------------------------------------ masking


@pytest.mark.parametrize("sign", ["positive", "negative"])
def test_a_linear_net_loses_what_was_predicted(sign: str) -> None:
    net, x = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3))), images(3)
    with explain.trace(net, x) as t:
        found = explain.cav(t)["input"]
    region = explain.signed_region(found, sign)
    masked = explain.disable(net, x, t.targets, found, region)
    before, after = masked.scores()
    torch.testing.assert_close(before, t.score)
    torch.testing.assert_close(after, masked.predicted)
    assert bool(((after < before) if sign == "positive" else (after > before)).all())
    covered = net(x * ~region[:, None])
    torch.testing.assert_close(masked.after, covered)
    torch.testing.assert_close(masked.share, region.double().mean(dim=(1, 2)))
    tops = masked.top(2)
    assert tops[0].tolist() == masked.before.topk(2).indices.tolist()


def test_a_layer_is_disabled_where_it_is() -> None:
    net, x = made(cnn), images(2)
    assert isinstance(net, nn.Sequential)
    with explain.trace(net, x, layers=["5"]) as t:
        found = explain.cav(t)["5"]
    region = explain.signed_region(found, "positive", quantile=0.5)
    masked = explain.disable(net, x, t.targets, found, region, "5")
    hidden = net[:6](x) * ~region[:, None]
    torch.testing.assert_close(masked.after, net[6:](hidden))
    # Behind "5" the net is linear.
    torch.testing.assert_close(masked.scores()[1], masked.predicted)
    assert not net[5]._forward_hooks
    wide = explain.signed_region(found, "positive")
    assert bool((wide | ~region).all())
    assert int(region.sum()) < int(wide.sum())


def test_masks_are_checked() -> None:
    net, x = made(cnn), images(2)
    with explain.trace(net, x, layers=["5"]) as t:
        found = explain.cav(t)["5"]
    region = explain.signed_region(found, "positive")
    with pytest.raises(ExplainError, match=r"'6\.x' is no module"):
        explain.disable(net, x, t.targets, found, region, "6.x")
    with pytest.raises(ExplainError, match=r"the region is \(2, 2, 2\)"):
        explain.disable(net, x, t.targets, found, region[:, :2, :2], "5")
    with pytest.raises(ExplainError, match="unknown sign 'positiv'; did you mean"):
        explain.signed_region(found, "positiv")
    with pytest.raises(ExplainError, match="quantile"):
        explain.signed_region(found, "positive", 1.0)
