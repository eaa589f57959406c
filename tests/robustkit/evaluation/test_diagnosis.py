"""Every finding on a model that has the fault, and none on one that has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks import make
from robustkit.evaluation.diagnosis import diagnose, is_probability, read, read_curve
from robustkit.evaluation.robustness import Robustness
from tests.robustkit.attacks.nets import striped, trained

Change = Callable[[Tensor], Tensor]
IMAGES = striped(60, seed=3)
EPS = 0.1


@pytest.fixture(scope="module")
def sound() -> nn.Module:
    return trained(seed=2)


class Wrapped(nn.Module):
    """A net whose images or outputs something is done to."""

    def __init__(
        self, net: nn.Module, before: Change | None = None, after: Change | None = None
    ) -> None:
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x if self.before is None else self.before(x))
        return logits if self.after is None else self.after(logits)


def names(net: nn.Module) -> set[str]:
    return {finding.name for finding in diagnose(net, IMAGES, eps=EPS)}


def test_a_sound_model_gives_no_finding(sound: nn.Module) -> None:
    assert names(sound) == set()


def rounded(x: Tensor) -> Tensor:
    return (x * 4).round() / 4


def noisy(x: Tensor) -> Tensor:
    return x + 0.5 * torch.randn_like(x)


def saturated(logits: Tensor) -> Tensor:
    """Outputs whose cross-entropy is exactly zero in float32, so has no gradient."""
    return 1e4 * logits


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (rounded, None, {"zero gradients", "black-box beats white-box"}),
        (None, lambda z: z.softmax(1), {"softmax outputs"}),
        (noisy, None, {"randomised model"}),
        (None, saturated, {"zero gradients"}),
        (None, lambda z: z.detach() + 0 * z, {"zero gradients"}),
    ],
)
def test_each_fault_is_named(
    sound: nn.Module,
    before: Change | None,
    after: Change | None,
    expected: set[str],
) -> None:
    assert expected <= names(Wrapped(sound, before, after).eval())


def test_masked_gradients_stand_in_a_ball_where_nothing_can(sound: nn.Module) -> None:
    found = names(Wrapped(sound, before=rounded).eval())
    assert "robust accuracy does not fall with eps" in found


def test_train_mode_is_named_and_left(sound: nn.Module) -> None:
    sound.train()
    try:
        assert names(sound) == {"model in train mode"}
        assert sound.training
    finally:
        sound.eval()


class Misleading(torch.autograd.Function):
    """The identity whose gradient turns round wherever pixels have left their grey level."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        moved = ((x * 255) - (x * 255).round()).abs() > 1e-3
        ctx.sign = torch.where(moved.flatten(1).any(1), -1.0, 1.0)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        turned: Tensor = gradient * ctx.sign[:, None, None, None]
        return turned


def test_one_step_that_beats_ten_is_named(sound: nn.Module) -> None:
    net = Wrapped(sound, before=lambda x: Misleading.apply(x))
    assert "FGSM beats PGD" in names(net.eval())


def outcome(
    *robust: int,
    attacks: tuple[str, ...],
    violating: tuple[int, ...],
    unmoved: int = 0,
    correct: int = 100,
) -> Robustness:
    rows = tuple(torch.arange(100) < left for left in robust)
    return Robustness(
        attacks=tuple(make(name) for name in attacks),
        classes=10,
        correct=torch.arange(100) < correct,
        robust=rows,
        violating=violating,
        unmoved=(unmoved,) * len(rows),
    )


def test_a_search_that_beats_gradients_is_read_off_the_evaluation() -> None:
    attacks = ("pgd", "torchattacks:Square")
    (finding,) = read(outcome(60, 40, attacks=attacks, violating=(0, 0)))
    assert finding.name == "black-box beats white-box"
    assert "20 of the 60" in finding.seen
    assert read(outcome(60, 59, attacks=attacks, violating=(0, 0))) == ()
    # A search that comes first proves nothing, nor one that beats a single step.
    assert read(outcome(60, 40, attacks=("fgsm", attacks[1]), violating=(0, 0))) == ()
    assert read(outcome(60, 40, attacks=attacks[::-1], violating=(0, 0))) == ()


def test_attacks_that_do_nothing_are_read_off_the_evaluation() -> None:
    (finding,) = read(outcome(90, attacks=("pgd",), violating=(0,), unmoved=80))
    assert finding.name == "attack did nothing"
    assert "80 of 90 images" in finding.seen
    assert read(outcome(90, attacks=("pgd",), violating=(0,), unmoved=20)) == ()
    assert read(outcome(90, attacks=("pgd?eps=0",), violating=(0,), unmoved=90)) == ()


def test_accuracy_at_chance_is_read_off_the_evaluation() -> None:
    (finding,) = read(outcome(5, attacks=("pgd",), violating=(0,), correct=12))
    assert finding.name == "clean accuracy at chance"
    assert read(outcome(5, attacks=("pgd",), violating=(0,), correct=30)) == ()


def test_broken_rules_are_read_off_the_evaluation() -> None:
    (finding,) = read(outcome(50, attacks=("fgsm",), violating=(7,)))
    assert finding.name == "ball or range violated"
    assert "7 adversarials of fgsm" in finding.seen


def test_a_curve_that_stays_flat_is_named() -> None:
    (finding,) = read_curve([2 / 255, 8 / 255], [0.5, 0.495])
    assert finding.name == "robust accuracy does not fall with eps"
    assert read_curve([2 / 255, 8 / 255], [0.5, 0.2]) == ()
    assert read_curve([2 / 255, 8 / 255], [0.0, 0.0]) == ()
    assert read_curve([8 / 255], [0.5]) == ()
    assert read_curve([0.0005, 0.001], [0.5, 0.5]) == ()


def test_probabilities_are_told_from_logits() -> None:
    logits = torch.randn(20, 4)
    assert is_probability(logits.softmax(1))
    assert not is_probability(logits)
    assert not is_probability(logits.log_softmax(1))
    assert not is_probability(logits.sigmoid())


def test_the_model_is_left_as_it_was(sound: nn.Module) -> None:
    before = {name: value.clone() for name, value in sound.state_dict().items()}
    state = torch.get_rng_state()
    diagnose(sound, IMAGES, eps=EPS)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, sound.state_dict()[name]) for name, value in before.items())
    assert not sound.training


def test_l2_is_diagnosed_too(sound: nn.Module) -> None:
    assert diagnose(sound, IMAGES, eps=0.5, norm="l2") == ()
