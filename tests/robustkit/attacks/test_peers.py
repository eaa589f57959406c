"""Our attacks beside torchattacks' and foolbox's on the same images, where nothing is drawn."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from robustkit.attacks import FGSM, MIFGSM, PGD, make, verify
from tests.robustkit.attacks.nets import batch, trained

foolbox = pytest.importorskip("foolbox", reason="part of the bench extra")
EPS = 0.1


@pytest.fixture(scope="module")
def examples() -> tuple[Tensor, Tensor]:
    return batch(24, seed=3)


def by_foolbox(attack: object, images: Tensor, labels: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = foolbox.PyTorchModel(trained(2), bounds=(0, 1), device="cpu")
    _, made, _ = attack(model, images, labels, epsilons=EPS)  # type: ignore[operator]
    clipped: Tensor = made
    return clipped


def test_fgsm_is_theirs(examples: tuple[Tensor, Tensor]) -> None:
    ours = FGSM(eps=EPS)(trained(2), *examples)
    theirs = make("torchattacks:FGSM", eps=EPS)(trained(2), *examples)
    assert float((ours - theirs).abs().max()) <= 1e-6
    assert float((ours - by_foolbox(foolbox.attacks.FGSM(), *examples)).abs().max()) <= 1e-6


@pytest.mark.parametrize("steps", range(1, 8))
def test_pgd_is_theirs_iterate_by_iterate(examples: tuple[Tensor, Tensor], steps: int) -> None:
    alpha = EPS / 3
    ours = PGD(eps=EPS, alpha=alpha, steps=steps, random_start=False)(trained(2), *examples)
    spec = f"torchattacks:PGD?steps={steps}&alpha={alpha!r}&random_start=false"
    assert float((ours - make(spec, eps=EPS)(trained(2), *examples)).abs().max()) <= 1e-6
    attack = foolbox.attacks.LinfProjectedGradientDescentAttack(
        abs_stepsize=alpha, steps=steps, random_start=False
    )
    assert float((ours - by_foolbox(attack, *examples)).abs().max()) <= 1e-6


@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_mifgsm_is_theirs(examples: tuple[Tensor, Tensor], decay: float) -> None:
    ours = MIFGSM(eps=EPS, alpha=EPS / 4, steps=6, decay=decay)(trained(2), *examples)
    spec = f"torchattacks:MIFGSM?steps=6&alpha={EPS / 4!r}&decay={decay}"
    theirs = make(spec, eps=EPS)(trained(2), *examples)
    assert float((ours - theirs).abs().max()) <= 1e-6


@pytest.mark.parametrize("scales", [1, 4])
def test_si_ni_fgsm_is_theirs(examples: tuple[Tensor, Tensor], scales: int) -> None:
    ours = make(f"mifgsm+si+ni?steps=5&scales={scales}", eps=EPS)
    theirs = make(f"torchattacks:SINIFGSM?steps=5&alpha={EPS / 5!r}&m={scales}", eps=EPS)
    difference = ours(trained(2), *examples) - theirs(trained(2), *examples)
    assert float(difference.abs().max()) <= 1e-6


def test_where_theirs_divide_by_zero_the_image_stays(examples: tuple[Tensor, Tensor]) -> None:
    flat = trained(2)
    with torch.no_grad():
        for weight in flat.parameters():
            weight.zero_()
    images, labels = examples
    for spec in ("mifgsm", "torchattacks:MIFGSM", "torchattacks:VMIFGSM", "torchattacks:PGDL2"):
        attack = make(spec, eps=EPS)
        verify(attack(flat, images, labels), images, attack)
    assert torch.equal(make("torchattacks:MIFGSM", eps=EPS)(flat, images, labels), images)
