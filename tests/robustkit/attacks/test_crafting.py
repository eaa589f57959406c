from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from robustkit.attacks import FGSM, PGD, AdversarialSet, Attack, Store, craft, crafting, make
from robustkit.errors import AttackError
from robustkit.evaluation import robustness
from robustkit.evaluation.robustness import survivors
from tests.robustkit.attacks.nets import classifier, striped


def same(first: AdversarialSet, second: AdversarialSet) -> bool:
    return (
        torch.equal(first.images, second.images)
        and torch.equal(first.correct, second.correct)
        and torch.equal(first.fooled, second.fooled)
        and first.origin == second.origin
    )


def test_a_set_tells_what_it_is() -> None:
    net, images, attack = classifier(), striped(9), PGD(eps=0.3)
    made = craft(net, images, attack, seed=3)
    net.eval()
    assert torch.equal(made.correct, net(images.floats()).argmax(1) == images.labels)
    assert torch.equal(made.fooled, net(made.images).argmax(1) != images.labels)
    assert made.origin["attack"] == attack.to_dict()
    assert float((made.images - images.floats()).abs().max()) == pytest.approx(0.3, abs=1e-6)


@pytest.mark.parametrize(
    "attack",
    [
        PGD(eps=0.3, norm="linf", steps=3),
        PGD(eps=0.3, norm="l2", steps=3),
        make("pgd+mi+admix+sia?shuffles=2", eps=0.3, steps=3),  # which mixes other images in
    ],
)
def test_the_batch_size_does_not_matter(monkeypatch: pytest.MonkeyPatch, attack: Attack) -> None:
    net, images = classifier(), striped(9)
    whole = craft(net, images, attack)
    monkeypatch.setattr(crafting, "BATCH", 2)
    assert torch.allclose(craft(net, images, attack).images, whole.images, atol=1e-5)


def test_a_set_is_crafted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, images, attack = classifier(), striped(6), FGSM()
    made = craft(net, images, attack, store=Store(tmp_path / "new"))
    assert same(made, craft(net, images, attack))
    monkeypatch.setattr(Attack, "__call__", None)
    assert same(made, craft(net, images, attack, store=Store(tmp_path / "new")))
    kept = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert [name.partition("-")[0] for name in kept] == ["answers", "answers", "set"]
    assert kept[-1] == f"set-{made.key}.safetensors"


def test_whatever_a_set_depends_on_is_in_its_key() -> None:
    net, images = classifier(), striped(6)
    keys = {
        craft(net, images, FGSM()).key,
        craft(net, images, FGSM(), seed=1).key,
        craft(net, images, FGSM(eps=0.1)).key,
        craft(net, images, FGSM(targeted=True)).key,
        craft(net, striped(6, seed=1), FGSM()).key,
        craft(classifier(seed=1), images, FGSM()).key,
    }
    assert len(keys) == 6


@pytest.mark.parametrize("seed", [0, 5])
def test_a_targeted_set_steers_to_the_labels_it_is_given(seed: int) -> None:
    net, images = classifier(), striped(12)
    wanted = (images.labels + 1) % 3
    attack = PGD(eps=0.5, targeted=True)
    made = craft(net, images, attack, seed=seed, targets=wanted)
    before, after = (
        F.cross_entropy(net.eval()(each), wanted, reduction="none")
        for each in (images.floats(), made.images)
    )
    assert bool((after < before).all())
    assert made.key != craft(net, images, attack, seed=seed).key
    with pytest.raises(AttackError, match="target labels, but the attack is not targeted"):
        craft(net, images, PGD(), targets=wanted)


def test_an_attack_that_cheats_is_caught() -> None:
    class Cheat(FGSM):
        def perturb(self, *arguments: Any) -> torch.Tensor:
            return 1 - super().perturb(*arguments)

    with pytest.raises(AttackError, match="cheat: an adversarial lies"):
        craft(classifier(), striped(6), Cheat())


def test_survivors_are_right_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    net, images, attack = classifier().eval(), striped(30), PGD(eps=0.02, random_start=False)
    standing = survivors(net, images, attack)
    clean = net(images.floats()).argmax(1) == images.labels
    attacked = attack(net, images.floats(), images.labels)
    assert bool((clean[standing]).all())
    # Whoever survives every step was never stopped, so is where the whole attack ends.
    assert torch.equal(net(attacked)[standing].argmax(1), images.labels[standing])
    assert torch.equal(survivors(net, images, FGSM(eps=0.0)), clean)
    monkeypatch.setattr(robustness, "BATCH", 4)
    assert torch.equal(survivors(net, images, attack), standing)


def test_a_net_that_is_never_right_has_no_survivors() -> None:
    net, images = classifier().eval(), striped(30)
    wrong = torch.nonzero(net(images.floats()).argmax(1) != images.labels).squeeze(1)
    assert len(wrong)
    assert not survivors(net, images.subset(wrong), PGD(norm="l2")).any()
