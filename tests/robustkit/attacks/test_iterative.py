"""FGSM, PGD and MI-FGSM against loops over single images, written from the papers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robustkit.attacks import ATTACKS, FGSM, MIFGSM, NORMS, PGD, Attack, Iterative, make, verify
from robustkit.errors import AttackError
from tests.robustkit.attacks.nets import batch, smooth_net

# Those of one loop, in the two norms that the oracle knows; every attack in every norm that it
# has is in the conformance suite.
LOOPS = sorted(name for name, kind in ATTACKS.items() if issubclass(kind, Iterative))
EPS = {"linf": 0.1, "l2": 0.5}
EVERY = [(name, norm) for name in LOOPS for norm in EPS]


def slow_gradient(net: nn.Module, image: Tensor, label: Tensor) -> Tensor:
    leaf = image.clone().requires_grad_(True)
    F.cross_entropy(net(leaf[None]), label[None]).backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    return leaf.grad


def slow_attack(
    net: nn.Module,
    image: Tensor,
    label: Tensor,
    *,
    norm: str,
    eps: float,
    alpha: float,
    steps: int,
    start: Tensor | None = None,
    decay: float | None = None,
    sign: float = 1.0,
) -> Tensor:
    """Madry et al. 2018, equation 1, and Dong et al. 2018, algorithm 1, one image in float64."""
    adversarial = image if start is None else (image + start).clamp(0, 1)
    momentum = torch.zeros_like(image)
    for _ in range(steps):
        direction = sign * slow_gradient(net, adversarial, label)
        if decay is not None:
            momentum = decay * momentum + direction / direction.abs().sum()
            direction = momentum
        unit = direction.sign() if norm == "linf" else direction / direction.norm()
        delta = adversarial + alpha * unit - image
        if norm == "linf":
            delta = delta.clamp(-eps, eps)
        elif float(delta.norm()) > eps:
            delta = delta * eps / delta.norm()
        adversarial = (image + delta).clamp(0, 1)
    return adversarial


def slow_all(images: Tensor, labels: Tensor, starts: Tensor | None = None, **how: Any) -> Tensor:
    net = smooth_net().double().eval()
    rows = [
        slow_attack(net, image, label, start=None if starts is None else starts[row], **how)
        for row, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    return torch.stack(rows)


@pytest.fixture
def examples() -> tuple[Tensor, Tensor]:
    images, labels = batch(5)
    return images.double(), labels


@pytest.mark.parametrize("norm", sorted(EPS))
@pytest.mark.parametrize("targeted", [False, True])
def test_fgsm_is_one_step_of_size_eps(
    examples: tuple[Tensor, Tensor], norm: str, targeted: bool
) -> None:
    eps = EPS[norm]
    attack = FGSM(eps=eps, norm=norm, targeted=targeted)
    made = attack(smooth_net().double(), *examples)
    sign = -1.0 if targeted else 1.0
    assert torch.allclose(
        made, slow_all(*examples, norm=norm, eps=eps, alpha=eps, steps=1, sign=sign), atol=1e-9
    )


@pytest.mark.parametrize("norm", sorted(EPS))
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("random_start", [False, True])
def test_pgd_is_projected_ascent(
    examples: tuple[Tensor, Tensor], norm: str, targeted: bool, random_start: bool
) -> None:
    eps = EPS[norm]
    attack = PGD(eps=eps, norm=norm, steps=5, targeted=targeted, random_start=random_start)
    made = attack(smooth_net().double(), *examples, generator=torch.Generator().manual_seed(7))
    shape = tuple(examples[0].shape)
    starts = NORMS[norm].random(shape, eps, torch.Generator().manual_seed(7)).double()
    expected = slow_all(
        *examples,
        starts if random_start else None,
        norm=norm,
        eps=eps,
        alpha=2.5 * eps / 5,
        steps=5,
        sign=-1.0 if targeted else 1.0,
    )
    assert torch.allclose(made, expected, atol=1e-6)
    assert not torch.allclose(made, examples[0], atol=1e-2)


@pytest.mark.parametrize("norm", sorted(EPS))
@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_mifgsm_accumulates_gradients_of_unit_l1_norm(
    examples: tuple[Tensor, Tensor], norm: str, decay: float
) -> None:
    eps = EPS[norm]
    made = MIFGSM(eps=eps, norm=norm, steps=4, decay=decay)(smooth_net().double(), *examples)
    expected = slow_all(*examples, norm=norm, eps=eps, alpha=eps / 4, steps=4, decay=decay)
    assert torch.allclose(made, expected, atol=1e-9)


@settings(max_examples=25)
@given(
    st.sampled_from(EVERY), st.floats(0, 1), st.integers(1, 4), st.integers(0, 2**31), st.booleans()
)
def test_adversarials_stay_in_ball_and_range(
    which: tuple[str, str], eps: float, steps: int, seed: int, stop: bool
) -> None:
    name, norm = which
    attack = make(name, eps=eps, norm=norm, **({} if name == "fgsm" else {"steps": steps}))
    images, labels = batch(4, seed)
    generator = torch.Generator().manual_seed(seed)
    made = attack(smooth_net(), images, labels, generator=generator, stop_when_fooled=stop)
    verify(made, images, attack)
    delta = (made - images).flatten(1)
    size = delta.abs().amax(dim=1) if norm == "linf" else delta.square().sum(dim=1).sqrt()
    assert float(size.max()) <= eps + 1e-5
    assert 0 <= float(made.min()) <= float(made.max()) <= 1


@pytest.mark.parametrize(("name", "norm"), EVERY)
def test_batch_size_and_batch_mates_do_not_matter(name: str, norm: str) -> None:
    net, (images, labels) = smooth_net(norm=True).double(), batch(6)
    images, attack = images.double(), make(name, eps=EPS[norm], norm=norm)
    whole = attack(net, images, labels, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    parts = [
        attack(net, images[part], labels[part], generator=generator)
        for part in (slice(0, 1), slice(1, 5), slice(5, 6))
    ]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-9)
    others = torch.cat([images[:2], images[2:].flip(-1)])
    mixed = attack(net, others, labels, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(mixed[:2], whole[:2], atol=1e-9)


@pytest.mark.parametrize("name", LOOPS)
def test_stopping_freezes_an_image_where_it_first_fools(name: str) -> None:
    net = smooth_net().double().eval()
    images, labels = batch(12)
    images = images.double()
    wrong = net(images).argmax(dim=1) != labels
    attack = make(name, eps=0.2)
    stopped = attack(net, images, labels, stop_when_fooled=True)
    whole = attack(net, images, labels)
    if name != "pgd":  # which starts at random
        assert torch.equal(stopped[wrong], images[wrong])
    assert bool(wrong.any())
    assert not torch.equal(stopped, whole)
    errs = net(stopped).argmax(dim=1) != labels
    assert torch.equal(stopped[~errs], whole[~errs])  # what never fell went all the way
    assert bool((net(whole).argmax(dim=1) != labels)[errs].any())


def test_stopping_when_targeted_means_reaching_the_target() -> None:
    net = smooth_net().double().eval()
    images, _ = batch(12)
    images = images.double()
    target = torch.full((12,), 1)
    there = net(images).argmax(dim=1) == target
    attack = PGD(eps=0.3, targeted=True, random_start=False)
    stopped = attack(net, images, target, stop_when_fooled=True)
    assert torch.equal(stopped[there], images[there])
    assert bool((stopped[~there] != images[~there]).flatten(1).any(dim=1).all())


def test_attacks_raise_the_loss_and_targeted_ones_lower_it() -> None:
    net = smooth_net().eval().requires_grad_(False)
    images, labels = batch(12)
    for name in LOOPS:
        up = F.cross_entropy(net(make(name)(net, images, labels)), labels)
        flipped = make(name, targeted=True)(net, images, labels)
        down = F.cross_entropy(net(flipped), labels)
        assert float(down) < float(F.cross_entropy(net(images), labels)) < float(up)


def test_attacks_take_an_empty_batch() -> None:
    for name, norm in EVERY:
        attack = make(name, norm=norm)
        none = torch.empty(0, 1, 8, 8)
        made = attack(smooth_net(), none, torch.empty(0, dtype=torch.int64))
        assert made.shape == none.shape


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("pdg", {}, r"unknown attack 'pdg'; did you mean 'pgd'\?"),
        ("pgd", {"step": 3}, r"attack pgd: unknown parameter 'step'; did you mean 'steps'\?"),
        ("pgd", {"eps": 1.5}, r"eps must be in \[0, 1\] for linf"),
        ("pgd", {"eps": -0.1, "norm": "l2"}, r"eps must be in \[0, inf\] for l2"),
        ("pgd", {"eps": float("nan")}, "eps must be"),
        ("pgd", {"norm": "l3"}, "unknown norm 'l3'"),
        ("pgd", {"loss": "mse"}, "unknown loss 'mse'"),
        ("pgd", {"steps": 0}, "pgd: steps must be in .1, 100000., not 0"),
        ("mifgsm", {"alpha": -1.0}, "mifgsm: alpha must be at least 0, not -"),
        ("mifgsm", {"decay": -1.0}, "mifgsm: decay must be in .0, 10., not -1"),
        ("pgd+mi", {"mi.decay": 1e9}, "pgd: decay must be in .0, 10., not 1e.09"),
    ],
)
def test_wrong_settings_are_refused(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(AttackError, match=message):
        make(name, **parameters)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2).long(), "take float images"),
        (torch.zeros(1, 8, 8), torch.zeros(1).long(), "take float images"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(3).long(), r"int64 labels of shape \(2,\)"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2), "not torch.float32"),
        (torch.full((2, 1, 8, 8), 255.0), torch.zeros(2).long(), r"not in \[255, 255\]"),
        (torch.full((2, 1, 8, 8), torch.nan), torch.zeros(2).long(), r"images in \[0,1\]"),
    ],
)
def test_wrong_batches_are_refused(images: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(AttackError, match=message):
        FGSM()(smooth_net(), images, labels)


@pytest.mark.parametrize(
    ("attack", "move", "message"),
    [
        (FGSM(eps=0.1), 0.11, "outside eps 0.1"),
        (FGSM(eps=0.1, norm="l2"), 0.05, r"\(l2\) from its image, outside eps 0.1"),
        (FGSM(eps=0.9), 0.6, r"leaves \[0,1\]"),
        (FGSM(eps=0.1), float("nan"), "outside eps"),
    ],
)
def test_verification_catches_what_leaves(attack: Attack, move: float, message: str) -> None:
    images = torch.full((2, 1, 8, 8), 0.5)
    verify(images, images, attack)
    with pytest.raises(AttackError, match=message):
        verify(images + move, images, attack)
