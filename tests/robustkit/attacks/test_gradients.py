from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks import LOSSES, loss_gradient
from robustkit.attacks.gradients import loss_cotangent
from robustkit.errors import AttackError
from robustkit.evaluation.gradient_similarity import alignment, input_gradients
from tests.robustkit.attacks.nets import batch, classifier, smooth_net, striped


def slow_loss(logits: Tensor, label: int, loss: str) -> Tensor:
    if loss == "ce":
        return torch.logsumexp(logits, 0) - logits[label]
    if loss == "logit":
        return -logits[label]
    others: Tensor = max(each for j, each in enumerate(logits) if j != label)
    ordered = sorted(logits, reverse=True)
    unit = ordered[0] - ordered[2] if loss == "dlr" else 1.0
    return (others - logits[label]) / unit


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_each_row_is_the_gradient_of_its_own_loss(loss: str) -> None:
    net, (images, labels) = smooth_net(norm=True).double().eval(), batch(5)
    made, logits = loss_gradient(net, images.double(), labels, loss)
    for row, (image, label) in enumerate(zip(images.double(), labels.tolist(), strict=True)):
        leaf = image.clone().requires_grad_(True)
        value = slow_loss(net(leaf[None])[0], label, loss)
        (expected,) = torch.autograd.grad(value, leaf)
        assert torch.allclose(made[row], expected, atol=1e-12)
        assert torch.allclose(LOSSES[loss](logits, labels)[row], value.detach())


@pytest.mark.parametrize("gap", [0.0, 5.0, 18.0, 40.0, 80.0])
@pytest.mark.parametrize("label", [0, 1])
def test_the_cotangent_of_confident_logits_keeps_its_direction(gap: float, label: int) -> None:
    logits = torch.tensor([[gap, 0.0, -1.0, 0.5]])
    labels = torch.tensor([label])
    exact = logits.double().softmax(dim=1)
    exact[0, label] = -sum(exact[0, j] for j in range(4) if j != label)
    made = loss_cotangent(logits, labels, "ce")[0].double()
    assert torch.allclose(made, exact[0], rtol=1e-5, atol=0)


def sharpened(factor: float) -> nn.Sequential:
    net = copy.deepcopy(smooth_net())
    head = net[-1]
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight *= factor
    return net


@pytest.mark.parametrize("factor", [1.0, 100.0, 300.0])
def test_a_confident_nets_gradient_points_where_float64_says(factor: float) -> None:
    net, (images, _) = sharpened(factor), batch(8)
    labels = net(images).argmax(dim=1)
    made, logits = loss_gradient(net, images, labels)
    leaf = images.double().requires_grad_(True)
    exact = net.double()(leaf)
    others = exact.softmax(1).scatter(1, labels[:, None], 0.0)
    cotangent = others.scatter(1, labels[:, None], -others.sum(1, keepdim=True)).detach()
    (truth,) = torch.autograd.grad(exact, leaf, cotangent)
    seen = (1 - logits.double().softmax(1).amax(1)).min()
    assert factor < 300 or float(seen) < 1e-7
    assert float(alignment(made, truth).cosine.min()) > 0.9999


def test_input_gradients_are_those_of_evaluation_mode() -> None:
    net, images = classifier("resnet20").train(), striped(5)
    expected, _ = loss_gradient(net.eval(), images.floats(), images.labels)
    made = input_gradients(net.train(), images)
    assert torch.allclose(made, expected, atol=1e-7)
    assert net.training


def test_alignment_is_cosine_and_norm_row_by_row() -> None:
    first = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0], [1e-30, 0.0]])[:, None, None]
    second = torch.tensor([[4.0, 3.0], [-2.0, 0.0], [1.0, 0.0], [1e-30, 1e-30]])[:, None, None]
    found = alignment(first, second)
    assert found.norm.tolist() == pytest.approx([5.0, 1.0, 0.0, 1e-30])
    assert found.cosine[[0, 1, 3]].tolist() == pytest.approx([0.96, -1.0, 0.5**0.5])
    assert bool(found.cosine[2].isnan())


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(AttackError, match=r"unknown loss 'margn'; did you mean 'margin'\?"):
        LOSSES.find("margn")
