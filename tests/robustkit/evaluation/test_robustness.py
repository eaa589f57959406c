from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks import FGSM, PGD, craft, predict
from robustkit.evaluation import robustness
from robustkit.evaluation.robustness import worst_case
from tests.robustkit.attacks.nets import striped, trained

IMAGES = striped(30)


def test_attacks_run_on_what_the_earlier_ones_left(monkeypatch: pytest.MonkeyPatch) -> None:
    net, seen = trained(seed=2), []
    weak, strong = FGSM(eps=0.03), PGD(eps=0.1, random_start=False)
    original = PGD.perturb

    def spy(self: PGD, model: nn.Module, images: Tensor, *rest: object) -> Tensor:
        seen.append(len(images))
        return original(self, model, images, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(PGD, "perturb", spy)
    found = worst_case(net, IMAGES, [weak, strong])
    assert torch.equal(found.correct, predict(net, IMAGES.images).argmax(1) == IMAGES.labels)
    after_weak = found.correct & ~craft(net, IMAGES, weak).fooled
    assert torch.equal(found.robust[0], after_weak)
    assert sum(seen) == int(after_weak.sum())
    after_both = after_weak & ~craft(net, IMAGES, strong).fooled
    # Who falls on the way is stopped there, so no fewer fall than at the end.
    assert not bool((found.survivors & ~after_both).any())
    assert found.violating == (0, 0)


def test_restarts_only_ever_take_away() -> None:
    net, attack = trained(seed=2), PGD(eps=0.25, steps=1, alpha=0.01)
    counts = [
        int(worst_case(net, IMAGES, [attack], restarts=restarts, seed=2).survivors.sum())
        for restarts in (1, 2, 8)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


def test_a_restart_draws_anew_and_the_first_is_the_same() -> None:
    net, attack = trained(seed=2), PGD(eps=0.25, steps=1, alpha=0.01)
    once = worst_case(net, IMAGES, [attack], seed=2).survivors
    more = worst_case(net, IMAGES, [attack], restarts=8, seed=2).survivors
    assert not bool((more & ~once).any())


def test_what_fell_before_stays_fallen() -> None:
    net = trained(seed=2)
    start = torch.zeros(30, dtype=torch.bool)
    start[::2] = True
    found = worst_case(net, IMAGES, [FGSM(eps=0.0)], start=start)
    assert torch.equal(found.survivors, found.correct & start)


def test_adversarials_that_break_the_rules_are_counted_and_no_success() -> None:
    class Cheat(FGSM):
        def perturb(self, model: nn.Module, images: Tensor, *rest: object) -> Tensor:
            return 1 - images

    net = trained(seed=2)
    found = worst_case(net, IMAGES, [Cheat(eps=0.01)])
    assert found.violating == (int(found.correct.sum()),)
    assert torch.equal(found.survivors, found.correct)


def test_the_batch_size_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    net, attacks = trained(seed=2), [FGSM(eps=0.03), PGD(eps=0.1)]
    whole = worst_case(net, IMAGES, attacks, restarts=2)
    monkeypatch.setattr(robustness, "BATCH", 4)
    parts = worst_case(net, IMAGES, attacks, restarts=2)
    assert all(torch.equal(a, b) for a, b in zip(whole.robust, parts.robust, strict=True))
