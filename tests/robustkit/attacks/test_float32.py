"""MPS has no float64: what an attack computes on the model's device is float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from robustkit.attacks import MIFGSM, PGD, Attack, loss_gradient, make, predict, verify
from robustkit.attacks.norms import NORMS, Norm
from tests.robustkit.attacks.nets import batch, smooth_net


class NoFloat64(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises where an operation makes or takes a float64 tensor."""

    def __torch_dispatch__(
        self, function: Any, types: Any, given: Any = (), options: Any = None
    ) -> Any:
        made = function(*given, **(options or {}))
        for each in tree_leaves((given, options, made)):
            if isinstance(each, Tensor) and each.dtype == torch.float64:
                raise TypeError(f"MPS cannot do {function} in float64")
        return made


@pytest.fixture
def on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random starts of l2 are drawn in float64 on the CPU, whatever the device: leave them out."""

    def start(shape: tuple[int, ...], eps: float, generator: torch.Generator) -> Tensor:
        return NORMS["linf"].random(shape, eps / 20, generator)

    l2 = NORMS["l2"]
    monkeypatch.setitem(NORMS, "l2", Norm("l2", l2.size, l2.steepest, l2.project, start))


@pytest.mark.parametrize(
    "attack",
    [
        make("fgsm"),
        PGD(steps=2),
        PGD(steps=2, norm="l2", eps=1.0),
        MIFGSM(steps=2),
        MIFGSM(steps=2, norm="l2", eps=1.0, loss="margin"),
        make("nifgsm?steps=2"),
        make("torchattacks:PGD?steps=2"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("on_the_host")
def test_attacks_compute_in_float32(attack: Attack) -> None:
    net, (images, labels) = smooth_net(norm=True).eval(), batch()
    with NoFloat64():  # type: ignore[no-untyped-call]
        made = attack(net, images, labels, stop_when_fooled=True)
        verify(made, images, attack)
        predict(net, made)
        loss_gradient(net, made, labels)


def test_float64_would_be_noticed() -> None:
    mode = NoFloat64()  # type: ignore[no-untyped-call]
    with pytest.raises(TypeError, match="float64"), mode:
        torch.ones(2).double()


def test_random_starts_of_l2_reach_the_device_in_float32() -> None:
    drawn = NORMS["l2"].random((2, 1, 4, 4), 1.0, torch.Generator().manual_seed(0))
    assert drawn.dtype == torch.float32
