"""The loss of one batch: what is coupled to what, and which passes see which images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks import FGSM, Attack
from robustkit.training import TrainConfig, misalignment
from robustkit.training.examples import Batch
from robustkit.training.fit import penalty_weight
from robustkit.training.references import unit_rows
from robustkit.training.step import StepLoss, step_loss
from tests.robustkit.attacks.nets import batch, smooth_net
from tests.robustkit.training.oracle import slow_penalty


def normed_net() -> nn.Sequential:
    """Conv, batch norm whose running statistics are not the batch's, SiLU, linear."""
    net = smooth_net(norm=True)
    net[2] = nn.Identity()  # no dropout
    generator = torch.Generator().manual_seed(5)
    norm = net[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(torch.randn(3, generator=generator) * 0.2)
    norm.running_var.copy_(torch.rand(3, generator=generator) + 0.5)
    return net


def examples(images: Tensor, labels: Tensor, net: nn.Module | None) -> Batch:
    if net is None:
        return Batch(images, labels, None, None)
    leaf = images.clone().requires_grad_(True)
    loss = nn.functional.cross_entropy(net(leaf), labels, reduction="sum")
    rows, norms = unit_rows(torch.autograd.grad(loss, leaf)[0])
    return Batch(images, labels, rows[None], (norms > 0)[None])


def take(net: nn.Module, on: Batch, attack: Attack | None = None, **settings: Any) -> StepLoss:
    config = TrainConfig(lam=settings.pop("lam", 1.0), **settings)
    generator = torch.Generator().manual_seed(0)
    fresh = Batch(on.images.clone(), on.labels, on.directions, on.usable)
    return step_loss(net, fresh, config, attack, generator)


@pytest.mark.parametrize("stats", ["batch", "running"])
def test_total_is_cross_entropy_and_lam_times_the_penalty(stats: str) -> None:
    images, labels = batch(6)
    reference = smooth_net(seed=9)
    on = examples(images, labels, reference)
    net = smooth_net().train()
    made = take(net, on, lam=3.0, penalty_stats=stats)
    plain = nn.functional.cross_entropy(net(images), labels)
    penalty = slow_penalty(net.double(), [reference.double()], images.double(), labels, "square")
    assert float(made.cross_entropy.detach()) == pytest.approx(float(plain.detach()), rel=1e-6)
    assert float(made.total.detach()) == pytest.approx(
        float(plain.detach()) + 3 * penalty, abs=1e-5
    )


def test_without_references_or_lam_there_is_no_penalty() -> None:
    images, labels = batch(6)
    net = smooth_net()
    for on, lam in ((examples(images, labels, None), 1.0), (examples(images, labels, net), 0.0)):
        made = take(net, on, lam=lam)
        assert made.misalignment is None
        assert torch.equal(made.total, made.cross_entropy)


@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_a_lazy_steps_penalty_has_k_times_the_gradient(loss: str) -> None:
    """Of all weights, in float64 by the definition: the penalty's own gradient, k times."""
    images, labels = batch(6)
    on, lam, every = examples(images, labels, smooth_net(seed=9)), 3.0, 4
    net = smooth_net().train()
    fresh = Batch(images.clone(), labels, on.directions, on.usable)
    config = TrainConfig(lam=lam, penalty_every=every, grad_loss=loss)
    weight = penalty_weight(config, 0, 10)
    made = step_loss(net, fresh, config, None, torch.Generator(), lam=weight)
    got = torch.autograd.grad(made.total, list(net.parameters()))

    slow = smooth_net().double().train()
    leaf = images.double().requires_grad_(True)
    logits = slow(leaf)
    entropy = nn.functional.cross_entropy(logits, labels, reduction="sum")
    others = logits.masked_fill(nn.functional.one_hot(labels, logits.shape[1]) > 0, -torch.inf)
    margin = (others.amax(dim=1) - logits.gather(1, labels[:, None])[:, 0]).sum()
    (own,) = torch.autograd.grad({"ce": entropy, "margin": margin}[loss], leaf, create_graph=True)
    assert on.directions is not None
    towards = on.directions[0].double()
    cosines = [
        (a * b).sum() / (a.square().sum() * b.square().sum()).sqrt()
        for a, b in zip(own, towards, strict=True)
    ]
    penalty = torch.stack(cosines).square().mean()
    parts = [
        torch.autograd.grad(part, list(slow.parameters()), retain_graph=True, allow_unused=True)
        for part in (entropy / len(images), lam * penalty)
    ]
    for mine, plain, pull in zip(got, *parts, strict=True):
        expected = plain + every * (torch.zeros_like(plain) if pull is None else pull)
        assert torch.allclose(mine.double(), expected, atol=1e-5, rtol=1e-4)
    assert any(pull is not None and float(pull.abs().max()) > 1e-3 for pull in parts[1])


def penalty_slope_on_others(stats: str) -> tuple[float, Tensor]:
    """How much row 0 of g_M moves when only the other images do; and the penalty."""
    images, labels = batch(6)
    changed = images.clone()
    changed[1:] = 1 - changed[1:]
    rows = []
    for pixels in (images, changed):
        net = normed_net().train()
        # A direction for row 0 alone: the penalty is then a function of row 0's gradient.
        usable = torch.tensor([[True] + [False] * 5])
        target = unit_rows(torch.linspace(-1, 1, 384).view(6, 1, 8, 8))[0][None]
        made = take(net, Batch(pixels, labels, target, usable), penalty_stats=stats)
        assert made.misalignment is not None
        rows.append(made.misalignment.penalty.detach())
    return float((rows[0] - rows[1]).abs()), rows[0]


def test_batch_statistics_couple_the_images_and_running_ones_do_not() -> None:
    coupled, value = penalty_slope_on_others("batch")
    apart, _ = penalty_slope_on_others("running")
    assert coupled > 1e-3 * float(value)
    assert apart < 1e-7


def test_running_statistics_give_the_definition_image_by_image() -> None:
    images, labels = batch(6)
    reference = smooth_net(seed=9)
    made = take(normed_net().train(), examples(images, labels, reference), penalty_stats="running")
    still = normed_net().double().eval()
    expected = slow_penalty(still, [reference.double()], images.double(), labels, "square")
    assert made.misalignment is not None
    assert float(made.misalignment.penalty.detach()) == pytest.approx(expected, abs=1e-5)


def test_batch_statistics_give_the_gradient_of_the_whole_batchs_loss() -> None:
    images, labels = batch(6)
    on = examples(images, labels, smooth_net(seed=9))
    made = take(normed_net().train(), on, penalty_stats="batch")
    leaf = images.double().requires_grad_(True)
    loss = nn.functional.cross_entropy(normed_net().double().train()(leaf), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert on.directions is not None
    assert on.usable is not None
    expected = misalignment(gradient, on.directions, on.usable).penalty
    assert made.misalignment is not None
    assert float(made.misalignment.penalty.detach()) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("stats", ["batch", "running"])
def test_the_running_statistics_see_each_batch_once(stats: str) -> None:
    images, labels = batch(6)
    on = examples(images, labels, smooth_net(seed=9))
    net = normed_net().train()
    take(net, on, penalty_stats=stats)
    once = normed_net().train()
    once(images)
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), once.buffers(), strict=True))
    assert all(module.training for module in net.modules())


def test_a_norm_layer_frozen_by_the_user_stays_frozen() -> None:
    images, labels = batch(6)
    net = normed_net().train()
    net[1].eval()
    take(net, examples(images, labels, smooth_net(seed=9)), penalty_stats="running")
    assert not net[1].training
    assert net.training


def test_cross_entropy_is_of_adversarials_and_the_penalty_of_clean_images() -> None:
    images, labels = batch(6)
    reference, attack = smooth_net(seed=9), FGSM(eps=0.1)
    net = smooth_net().train()
    made = take(net, examples(images, labels, reference), attack)
    on_adversarials = nn.functional.cross_entropy(net(attack(net, images, labels)), labels)
    assert float(made.cross_entropy.detach()) == pytest.approx(float(on_adversarials.detach()))
    assert made.misalignment is not None
    expected = slow_penalty(net.double(), [reference.double()], images.double(), labels, "square")
    assert float(made.misalignment.penalty.detach()) == pytest.approx(expected, abs=1e-5)


def test_bf16_comes_near_and_can_be_differentiated() -> None:
    images, labels = batch(6)
    on = examples(images, labels, smooth_net(seed=9))
    full, half = (take(smooth_net().train(), on, bf16=bf16) for bf16 in (False, True))
    net = smooth_net().train()
    made = take(net, on, bf16=True)
    assert made.logits.dtype == torch.float32
    assert not torch.equal(full.total, half.total)
    assert float(half.total.detach()) == pytest.approx(float(full.total.detach()), rel=0.05)
    made.total.backward()  # type: ignore[no-untyped-call]
    assert all(each.grad is not None and each.grad.isfinite().all() for each in net.parameters())
