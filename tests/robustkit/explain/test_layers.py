"""Which layers and which scores a trace is asked for."""

from __future__ import annotations

import pytest
import torch

from robustkit import explain
from robustkit.errors import ExplainError
from tests.robustkit.explain.nets import cnn, images, made, mlp
from tests.robustkit.explain.test_trace import Reused


def test_layers_by_name_by_type_and_found() -> None:
    net, x = made(cnn), images()
    with explain.trace(net, x, layers=["Conv2d", "9"]) as t:
        assert list(t.layers) == ["input", "0", "4.branch.0", "4.branch.3", "9"]
    with explain.trace(net, x) as t:
        # The last pool, with nothing learnt behind it, is no stage.
        assert list(t.layers) == ["input", "2", "5"]
        assert [tuple(each.shape[2:]) for each in t.layers.values()][1:] == [(8, 8), (4, 4)]
    with explain.trace(net, x, layers=["input"]) as t:
        assert list(t.layers) == ["input"]


def test_a_module_that_is_called_again_is_counted() -> None:
    with explain.trace(made(Reused), images(), layers=["r1"]) as t:
        assert list(t.layers) == ["input", "r1", "r1#2", "r1#3"]
        assert t.layers["r1"].shape == (2, 4, 6, 6)
        assert t.layers["r1#3"].shape == (2, 4, 4, 4)


def test_an_unknown_layer_gets_a_hint() -> None:
    with (
        pytest.raises(ExplainError, match="no layer 'ReLu'; the closest names are ReLU, "),
        explain.trace(made(cnn), images(), layers=["ReLu"]),
    ):
        pass
    with (
        pytest.raises(ExplainError, match=r"layer .4\.branch\.9.; the closest names are 4\.branch"),
        explain.trace(made(cnn), images(), layers=["4.branch.9"]),
    ):
        pass


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (3, "target 3 is out of range: there are 3 classes"),
        (-1, "target -1 is out of range"),
        ([0, 7], "target 7 is out of range"),
        ([0, 1, 2], r"targets \(3,\) for 2 images"),
        ("best", "target 'best'"),
    ],
)
def test_targets_are_checked(target: explain.Target, told: str) -> None:
    with pytest.raises(ExplainError, match=told), explain.trace(made(mlp), images(2), target):
        pass


def test_every_image_has_its_own_target() -> None:
    net, x = made(cnn), images(3)
    with explain.trace(net, x, [2, 0, 1]) as t:
        together = explain.saliency(t)
        assert torch.equal(t.score, t.logits[torch.arange(3), torch.tensor([2, 0, 1])])
    for row, target in enumerate([2, 0, 1]):
        with explain.trace(net, x[row : row + 1], target) as t:
            torch.testing.assert_close(explain.saliency(t)[0], together[row])
    with explain.trace(net, x) as t:
        assert torch.equal(t.targets, net(x).argmax(dim=1))
