"""Our attacks beside torchattacks' and foolbox's on the same images, where nothing is drawn."""

from __future__ import annotations

import warnings

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from robustkit.attacks import FGSM, MIFGSM, PGD, make, verify
from robustkit.errors import AttackError
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


class Blocks(nn.Module):
    """A transformer whose modules have timm's names."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=3)
        for block in self.net.blocks:
            block.attn.fused_attn = False  # theirs look at the attention's dropout
        self.blocks = self.net.blocks

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images.expand(-1, 3, -1, -1).repeat(1, 1, 4, 4))
        return logits


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("FGSM", "fgsm"),
        ("MIFGSM?steps=5", "mifgsm?steps=5"),
        ("PNAPatchOut?steps=3&pna_patchout=false", "mifgsm+pna?steps=3"),
    ],
)
def test_torchattacks_namesake_agrees(
    examples: tuple[Tensor, Tensor], theirs: str, ours: str
) -> None:
    net = Blocks().double().eval() if "PNA" in theirs else trained(2).double()
    images, labels = examples[0][:6].double(), examples[1][:6]
    option = "&hook_cfg=vit_base_patch16_224" if "PNA" in theirs else ""
    made = [
        make(spec, eps=EPS)(net, images, labels) for spec in (ours, f"torchattack:{theirs}{option}")
    ]
    assert float((made[0] - made[1]).abs().max()) <= 1e-6


def test_bpa_agrees_where_no_window_reaches_over_the_border() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torchvision.models.resnet18(num_classes=3).double().eval()
        images = torch.rand(3, 3, 64, 64).double()
    labels = torch.tensor([0, 1, 2])
    # Theirs from the second block of the third stage on: 11 of 17 ReLUs lie before.
    ours = make(f"mifgsm+bpa?steps=1&after={11 / 17}", eps=EPS)(net, images, labels)
    theirs = make("torchattack:BPA?steps=1&hook_cfg=resnet18", eps=EPS)(net, images, labels)
    same = (ours - theirs).abs() <= 1e-9
    # They pad with zeros, which then have weight; we with what has none.
    assert bool(same[:, :, 16:, 16:].float().mean() > 0.99)
    assert not bool(same.all())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torchattack:MIFGMS", "torchattack has no attack 'MIFGMS'; did you mean 'MIFGSM'"),
        ("torchattack:MIFGSM?step=3", "unknown parameter 'step'; did you mean 'steps'"),
        ("torchattack:MIFGSM?steps=0", "steps must be at least 1, not 0"),
        ("torchattack:MIFGSM?norm=l2", "works in linf only"),
        ("torchattack:FIA?targeted=true", "has no targeted form"),
        ("torchattack:CDA", "torchattack has no attack 'CDA'"),
    ],
)
def test_what_torchattack_cannot_do_is_said(spec: str, message: str) -> None:
    with pytest.raises(AttackError, match=message):
        make(spec)


def test_a_net_without_the_modules_it_looks_for_is_refused(
    examples: tuple[Tensor, Tensor],
) -> None:
    with pytest.raises(AttackError, match="torchattack:TGR: "):
        make("torchattack:TGR?hook_cfg=vit_base_patch16_224")(trained(2), *examples)
