"""Components against a loop over single images, written from the papers' definitions."""

from __future__ import annotations

from dataclasses import fields
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks import COMPONENTS, DIFGSM, MIFGSM, NIFGSM, PGD, TIFGSM, Attack, make
from robustkit.attacks.components import DRAWS, ComponentSettings, gaussian
from tests.robustkit.attacks.nets import batch, smooth_net
from tests.robustkit.attacks.test_variants import slow_view

EPS, STEPS, SCALES, SEED = 0.2, 3, 3, 4
EVERY = [names for size in range(5) for names in combinations(("di", "ti", "si", "ni"), size)]


def luck(count: int, copies: int) -> Tensor:
    """The random numbers of all images, steps and copies, in that order."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.rand(count, STEPS, copies, DRAWS, generator=generator, dtype=torch.float64)


def slow_smooth(gradient: Tensor, side: int) -> Tensor:
    """Dong et al. 2019, equation 7: pixel by pixel."""
    line, reach, padded = gaussian(side), side // 2, torch.zeros_like(gradient)
    height, width = gradient.shape[1:]
    for row in range(height):
        for column in range(width):
            for down in range(-reach, reach + 1):
                for across in range(-reach, reach + 1):
                    if 0 <= row + down < height and 0 <= column + across < width:
                        weight = line[reach + down] * line[reach + across]
                        padded[:, row, column] += weight * gradient[:, row + down, column + across]
    return padded


def slow_attack(
    net: nn.Module, image: Tensor, label: Tensor, drawn: Tensor, names: tuple[str, ...]
) -> Tensor:
    """SI-NI-TI-DI-MI-FGSM of one image, each part where it is named (Lin et al. 2020, alg. 2)."""
    adversarial, momentum, alpha = image, torch.zeros_like(image), EPS / STEPS
    for step in range(STEPS):
        start = adversarial + alpha * momentum if "ni" in names else adversarial
        total = torch.zeros_like(image)
        copies = SCALES if "si" in names else 1
        for copy in range(copies):
            leaf = start.clone().requires_grad_(True)
            seen = leaf / 2**copy
            if "di" in names:
                seen = slow_view(seen, drawn[step, copy], 0.6, 0.8)
            (gradient,) = torch.autograd.grad(F.cross_entropy(net(seen[None]), label[None]), leaf)
            total = total + gradient / copies
        if "ti" in names:
            total = slow_smooth(total, 3)
        momentum = momentum + total / total.abs().sum()
        moved = adversarial + alpha * momentum.sign()
        adversarial = (image + (moved - image).clamp(-EPS, EPS)).clamp(0, 1)
    return adversarial


def combined(names: tuple[str, ...]) -> MIFGSM:
    return MIFGSM(
        eps=EPS,
        steps=STEPS,
        components=names,
        diversity=0.8 if "di" in names else None,
        resize=0.6 if "di" in names else None,
        kernel=3 if "ti" in names else None,
        scales=SCALES if "si" in names else None,
    )


@pytest.mark.parametrize("names", EVERY, ids="+".join)
def test_every_combination_is_the_loop_of_the_papers(names: tuple[str, ...]) -> None:
    net, (images, labels) = smooth_net().double().eval(), batch(3)
    images = images.double()
    made = combined(names)(net, images, labels, generator=torch.Generator().manual_seed(SEED))
    drawn = luck(len(images), SCALES if "si" in names else 1)
    expected = torch.stack(
        [slow_attack(net, *each, names) for each in zip(images, labels, drawn, strict=True)]
    )
    assert torch.allclose(made, expected, atol=1e-9)


def test_components_change_what_comes_out() -> None:
    net, (images, labels) = smooth_net().double().eval(), batch(6)
    made = [combined(names)(net, images.double(), labels) for names in EVERY]
    different = [not torch.equal(one, other) for one, other in combinations(made, 2)]
    # Nesterov's look ahead can leave every sign as it is; nothing else may do nothing.
    assert sum(different) > 0.9 * len(different)


@pytest.mark.parametrize(
    ("named", "components"),
    [
        (DIFGSM(diversity=0.7), MIFGSM(components=("di",), diversity=0.7)),
        (TIFGSM(kernel=3), MIFGSM(components=("ti",), kernel=3)),
        (TIFGSM(diversity=0.5), MIFGSM(components=("ti", "di"))),
        (NIFGSM(), MIFGSM(components=("ni",))),
        (NIFGSM(components=("di",)), DIFGSM(components=("ni",))),
    ],
)
def test_the_papers_names_are_mifgsm_with_components(named: Attack, components: Attack) -> None:
    net, (images, labels) = smooth_net(), batch(5)
    assert torch.equal(named(net, images, labels), components(net, images, labels))


def test_one_scale_changes_nothing() -> None:
    net, (images, labels) = smooth_net(), batch(5)
    plain = PGD(eps=0.1)(net, images, labels)
    one = PGD(eps=0.1, components=("si",), scales=1)(net, images, labels)
    assert torch.equal(plain, one)


def test_an_image_is_left_when_the_model_errs_on_it_and_not_on_a_view_of_it() -> None:
    net, (images, labels) = smooth_net().eval(), batch(12)
    labels = net(images).argmax(dim=1)
    attack = MIFGSM(eps=0.3, components=("di", "si"), diversity=1.0, resize=0.4)
    made = attack(net, images, labels, stop_when_fooled=True)
    whole = attack(net, images, labels)
    fooled = net(made).argmax(dim=1) != labels
    assert fooled.any()
    assert not torch.equal(made[fooled], whole[fooled])
    assert torch.equal(made[~fooled], whole[~fooled])


def test_the_identity_of_an_attack_without_components_does_not_know_them() -> None:
    assert PGD(eps=0.1).to_dict() == {
        "name": "pgd", "eps": 0.1, "norm": "linf", "targeted": False, "loss": "ce", "bf16": False,
        "steps": 10, "alpha": None, "random_start": True,
    }  # fmt: skip
    assert list(TIFGSM().to_dict())[-3:] == ["diversity", "resize", "kernel"]
    assert "components" not in TIFGSM().to_dict()


def test_the_identity_names_components_and_their_defaults() -> None:
    plain = make("mifgsm?components=di,si&scales=3").to_dict()
    assert plain["components"] == ["di", "si"]
    assert {name: plain[name] for name in ("diversity", "resize", "scales")} == {
        "diversity": 0.5,
        "resize": 0.9,
        "scales": 3,
    }
    assert "kernel" not in plain


def test_every_parameter_of_a_component_is_a_field_of_attacks() -> None:
    known = {each.name for each in fields(ComponentSettings)} - {"components"}
    needed = [each.name for kind in COMPONENTS.values() for each in fields(kind)]
    assert sorted(known) == sorted(needed)
