"""Cosines multiplied batch by batch in float32 directions against float64 on everything at once."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from robustkit.errors import ModelError
from robustkit.evaluation.gradient_similarity import gradient_pairs, input_gradients, unit_rows
from tests.robustkit.attacks.nets import smooth_net, striped

IMAGES = striped(17)


def faint(factor: float) -> nn.Sequential:
    """A net whose gradients are far below what float32 can square."""
    net = copy.deepcopy(smooth_net(seed=5))
    head = net[-1]
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight *= factor
    return net


def oracle(nets: dict[str, nn.Module]) -> tuple[Tensor, Tensor]:
    rows = torch.stack([input_gradients(net, IMAGES).flatten(1).double() for net in nets.values()])
    norm = rows.norm(dim=2)
    unit = rows / norm[:, :, None]  # 0/0 is no direction
    return torch.einsum("and,bnd->abn", unit, unit), norm


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("chunk", [1, 5000, 2**30])
def test_cosines_are_those_of_float64(
    on_disk: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustkit.evaluation.gradient_similarity.CHUNK", chunk)
    if on_disk:
        monkeypatch.setattr("robustkit.evaluation.gradient_similarity.SMALL_SETS", 0)
    nets: dict[str, nn.Module] = {
        "a": smooth_net(),
        "b": smooth_net(seed=1),
        "faint": faint(1e-30),
    }
    found = gradient_pairs(nets, IMAGES, batch_size=4)
    cosine, norm = oracle(nets)
    assert bool((norm[2] < 1e-25).any())  # whose squares float32 does not have
    assert torch.allclose(found.cosine, cosine, rtol=0, atol=1e-6, equal_nan=True)
    assert torch.allclose(found.norm, norm, rtol=1e-5, atol=0)
    assert found.cosine.dtype == found.norm.dtype == torch.float64


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e-40, 1e30])
def test_directions_are_unit_rows_whatever_the_scale(scale: float) -> None:
    gradients = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * scale
    gradients[2] = 0
    unit, norm = unit_rows(gradients)
    exact = gradients.flatten(1).double()
    assert torch.allclose(norm, exact.norm(dim=1), rtol=1e-12, atol=0)
    lengths = unit.double().norm(dim=1)
    assert torch.allclose(lengths, torch.tensor([1.0, 1, 0, 1, 1]).double(), atol=1e-6)
    assert unit.dtype == torch.float32


def test_gradients_that_are_no_numbers_are_named() -> None:
    broken = smooth_net()
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    with pytest.raises(ModelError, match="broken: NaN in the gradients of 17 of 17 images"):
        gradient_pairs({"fine": smooth_net(), "broken": broken}, IMAGES)
