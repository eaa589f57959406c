from __future__ import annotations

import pytest
import torch

from robustkit.attacks import PGD, Ensemble, craft, loss_gradient
from robustkit.errors import AttackError
from tests.robustkit.attacks.nets import batch, classifier, smooth_net, striped


def test_mean_logits_are_attacked_through_their_mean() -> None:
    first, second = smooth_net(seed=1).eval(), smooth_net(seed=2).eval()
    images, labels = batch(5)
    both = Ensemble([first, second]).eval()
    assert torch.allclose(both(images), (first(images) + second(images)) / 2)
    leaf = images.clone().requires_grad_(True)
    mean = (first(leaf) + second(leaf)) / 2
    loss = torch.nn.functional.cross_entropy(mean, labels, reduction="sum")
    (expected,) = torch.autograd.grad(loss, leaf)
    assert torch.allclose(loss_gradient(both, images, labels)[0], expected, atol=1e-7)


@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_mean_loss_has_the_mean_of_the_members_gradients(loss: str) -> None:
    members = [smooth_net(seed=seed).eval() for seed in range(3)]
    images, labels = batch(5)
    made, logits = loss_gradient(Ensemble(members, "loss"), images, labels, loss)
    parts = [loss_gradient(member, images, labels, loss)[0] for member in members]
    assert torch.allclose(made, torch.stack(parts).mean(dim=0), atol=1e-7)
    assert torch.allclose(logits, Ensemble(members)(images), atol=1e-6)
    assert not torch.allclose(made, loss_gradient(Ensemble(members), images, labels, loss)[0])


def test_an_ensemble_is_crafted_on_and_known_by_its_members() -> None:
    first, second, images = classifier(seed=1), classifier(seed=2), striped(6)
    keys = {
        craft(Ensemble(members, fuse), images, PGD(steps=2)).key
        for members in ([first, second], [second, first])
        for fuse in ("logits", "loss")
    }
    assert len(keys) == 4


def test_what_is_no_ensemble_is_refused() -> None:
    with pytest.raises(AttackError, match="at least two members, not 1"):
        Ensemble([smooth_net()])
    with pytest.raises(AttackError, match="fuse must be logits or loss, not 'mean'"):
        Ensemble([smooth_net(), smooth_net()], "mean")
