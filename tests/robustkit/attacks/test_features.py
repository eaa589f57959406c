"""Attacks on intermediate features, and on several surrogates, against loops by the definitions."""

from __future__ import annotations

from typing import cast

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from robustkit.attacks import Ensemble, make
from robustkit.attacks.components.features import features_of, layer_at
from robustkit.compute import derive_seed, draws
from robustkit.errors import AttackError
from tests.robustkit.attacks.nets import ascent_of, batch, classifier, smooth_net

EPS, STEPS, SEED = 0.2, 3, 4
ALPHA = EPS / STEPS


def seeds(count: int) -> Tensor:
    return torch.randint(2**62, (count,), generator=torch.Generator().manual_seed(SEED))


def made(spec: str, net: nn.Module, images: Tensor, labels: Tensor, **given: object) -> Tensor:
    attack = make(spec, eps=EPS, steps=STEPS, targeted="+fft" in spec)
    generator = torch.Generator().manual_seed(SEED)
    return attack(net, images, labels, generator=generator, **given)  # type: ignore[arg-type]


def ascended(
    image: Tensor,
    value: object,
    steps: int = STEPS,
    start: Tensor | None = None,
    alpha: float = ALPHA,
) -> Tensor:
    """MI-FGSM of one image (C,H,W) on value(image)."""
    adversarial, velocity = image if start is None else start, torch.zeros_like(image)
    for _ in range(steps):
        leaf = adversarial.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(value(leaf), leaf)  # type: ignore[operator]
        velocity = velocity + gradient / gradient.abs().mean()
        moved = adversarial + alpha * velocity.sign()
        adversarial = (image + (moved - image).clamp(-EPS, EPS)).clamp(0, 1)
    return adversarial


def slope(net: nn.Sequential, image: Tensor, label: int, *, shares: bool) -> Tensor:
    """The gradient of a class at the features of layer 1 of `smooth_net`."""
    features = net[:2](image[None]).detach().requires_grad_(True)
    logits = net[2:](features)[0]
    score = (logits.softmax(0) if shares else logits)[label]
    (found,) = torch.autograd.grad(score, features)
    return cast(Tensor, found)


def unit(values: Tensor) -> Tensor:
    return cast(Tensor, values / values.norm())


@pytest.fixture
def examples() -> tuple[nn.Sequential, Tensor, Tensor]:
    net, (images, labels) = smooth_net().double().eval(), batch(3)
    return net, images.double(), labels


def dropped(image: Tensor, seed: int, name: str, number: int, step: int) -> Tensor:
    luck = draws.uniform(torch.tensor([seed]), image.shape, name, step, 0, number)[0]
    return image * (luck >= 0.3)


def test_importance_is_brought_down(examples: tuple[nn.Sequential, Tensor, Tensor]) -> None:
    net, images, labels = examples
    found = made("mifgsm+fia?layer=1&samples=4", net, images, labels)
    for row, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        seed = int(seeds(3)[row])
        weights = unit(
            sum(  # type: ignore[arg-type]
                slope(net, dropped(image, seed, "fia", n, 0), label, shares=False) for n in range(4)
            )
        )
        expected = ascended(image, lambda x, w=weights: -(w * net[:2](x[None])).sum())
        torch.testing.assert_close(found[row], expected)


def test_attributions_are_brought_down(examples: tuple[nn.Sequential, Tensor, Tensor]) -> None:
    net, images, labels = examples
    found = made("mifgsm+naa?layer=1&samples=4", net, images, labels)
    for row, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        weights = sum(slope(net, image * n / 4, label, shares=True) / 4 for n in range(1, 5))
        black = net[:2](torch.zeros_like(image)[None])
        expected = ascended(
            image,
            lambda x, w=weights, b=black: -(w * (net[:2](x[None]) - b)).sum(),
        )
        torch.testing.assert_close(found[row], expected)


def test_the_second_attack_goes_on_in_the_direction_of_the_first(
    examples: tuple[nn.Sequential, Tensor, Tensor],
) -> None:
    net, images, labels = examples
    found = made("mifgsm+ila?layer=1&extra=2", net, images, labels)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        first = ascended(image, lambda x, y=label: F.cross_entropy(net(x[None]), y[None]))
        clean = net[:2](image[None]).detach()
        way = unit(net[:2](first[None]).detach() - clean)
        expected = ascended(
            image,
            lambda x, w=way, c=clean: (w * (net[:2](x[None]) - c)).sum(),
            steps=2,
            alpha=ALPHA * STEPS / 2,  # the edge of the ball is as near as it was
        )
        torch.testing.assert_close(found[row], expected)


def test_fine_tuning_follows_a_targeted_attack(
    examples: tuple[nn.Sequential, Tensor, Tensor],
) -> None:
    net, images, labels = examples
    targets = (labels + 1) % 3
    found = made("mifgsm+fft?layer=1&extra=2&samples=3", net, images, targets)
    for row, (image, target) in enumerate(zip(images, targets, strict=True)):
        seed = int(seeds(3)[row])
        first = ascended(image, lambda x, y=target: -F.cross_entropy(net(x[None]), y[None]))
        own = int(net(image[None]).argmax())

        def gathered(x: Tensor, label: int, start: int, seed: int = seed) -> Tensor:
            copies = [dropped(x, seed, "fft", n, STEPS) for n in range(start, start + 3)]
            return unit(sum(slope(net, copy, label, shares=False) for copy in copies))  # type: ignore[arg-type]

        weights = gathered(first, int(target), 0) - 0.2 * gathered(image, own, 3)
        expected = ascended(
            image,
            lambda x, w=weights: (w * net[:2](x[None])).sum(),
            steps=2,
            start=first,
            alpha=ALPHA / 2,
        )
        torch.testing.assert_close(found[row], expected)


def test_features_of_other_images_are_mixed_in(
    examples: tuple[nn.Sequential, Tensor, Tensor],
) -> None:
    net, images, labels = examples
    others = batch(5, seed=1)[0].double()
    found = made("mifgsm+cfm?chance=1.0", net, images, labels, others=others)
    plain = made("mifgsm", net, images, labels)
    assert not torch.equal(found, plain)
    # The maps of the convolution are as large as the image; the linear layer's outputs are mixed.
    kept = net(others).detach()
    image, label, seed = images[0], labels[0], seeds(3)[:1]
    step = 0

    def value(x: Tensor) -> Tensor:
        nonlocal step
        luck = draws.uniform(seed, (2 + 3,), "cfm", step, 0, 1)[0].double()
        step += 1
        other = kept[int(luck[1] * 5)]
        share = 0.75 * luck[2:]
        return F.cross_entropy(((1 - share) * net(x[None])[0] + share * other)[None], label[None])

    torch.testing.assert_close(found[0], ascended(image, value))
    assert torch.equal(made("mifgsm+cfm?chance=0.0", net, images, labels, others=others), plain)


def test_channels_are_mixed_wherever_they_stand() -> None:
    class Pointwise(nn.Module):
        """The same layer as a convolution, on maps that end with channels, and on tokens."""

        def __init__(self, form: str) -> None:
            super().__init__()
            with torch.random.fork_rng():
                torch.manual_seed(0)
                self.layer, self.head = nn.Linear(16, 6), nn.Linear(6, 3)
            self.form = form

        def forward(self, x: Tensor) -> Tensor:
            maps, layer = F.pixel_unshuffle(x, 4), self.layer
            if self.form == "convolution":
                pixels = F.conv2d(maps, layer.weight[:, :, None, None], layer.bias).flatten(2).mT
            else:
                pixels = layer(maps.movedim(1, 3) if self.form == "maps" else maps.flatten(2).mT)
            logits: Tensor = self.head(pixels.flatten(1, -2).mean(dim=1))
            return logits

    images, labels = batch(4)
    found = [
        made("mifgsm+cfm?chance=1.0", Pointwise(form).double().eval(), images.double(), labels)
        for form in ("convolution", "maps", "tokens")
    ]
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])


@pytest.mark.parametrize(
    "name", ["fia?layer=0&samples=2", "naa?layer=0&samples=2", "cfm?chance=1.0"]
)
def test_an_activation_in_place_changes_nothing(name: str) -> None:
    def net(inplace: bool) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layers = [nn.Conv2d(1, 3, 3, stride=4), nn.ReLU(inplace=inplace), nn.Flatten()]
            return nn.Sequential(*layers, nn.Linear(12, 3)).double().eval()

    images, labels = batch(4)
    made_by = [
        made(f"mifgsm+{name}", net(inplace), images.double(), labels) for inplace in (True, False)
    ]
    torch.testing.assert_close(*made_by)


def test_what_the_first_attack_fools_is_no_longer_attacked(
    examples: tuple[nn.Sequential, Tensor, Tensor],
) -> None:
    net, images, _ = examples
    images = batch(30)[0].double()
    labels = net(images).argmax(dim=1)
    plain = make("fgsm", eps=0.05)(net, images, labels, stop_when_fooled=True)
    both = make("fgsm+ila?layer=1&extra=1", eps=0.05)(net, images, labels, stop_when_fooled=True)
    fooled = [net(each).argmax(dim=1) != labels for each in (plain, both)]
    assert bool(fooled[0].any())
    assert bool((fooled[1] | ~fooled[0]).all())


def test_ghosts_do_not_haunt_what_is_recorded(
    examples: tuple[nn.Sequential, Tensor, Tensor],
) -> None:
    net, images, labels = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU()), *examples[1:]
    net = nn.Sequential(*net, nn.Linear(8, 3)).double().eval()
    others = batch(7, seed=1)[0].double()
    for names in ("ghost+cfm", "cfm+ghost"):
        found = made(f"mifgsm+{names}", net, images, labels, others=others)
        assert found.shape == images.shape
    for wrong in (others[:0], others[:, :, :4]):
        with pytest.raises(AttackError, match="the other images must be of shape"):
            made("mifgsm+cfm", net, images, labels, others=wrong)


def test_layers_are_found_by_how_much_lies_before_them() -> None:
    image = torch.rand(1, 3, 32, 32)
    resnet = torchvision.models.resnet18().eval()
    assert layer_at(resnet, 0.5, image) == "layer2"
    assert layer_at(resnet, 0.75, image) == "layer3"
    assert layer_at(torchvision.models.vgg11().eval(), 0.5, image).startswith("features.")
    assert layer_at(torchvision.models.swin_t().eval(), 0.5, image).startswith("features.5")


def test_what_cannot_be_attacked_is_said(examples: tuple[nn.Sequential, Tensor, Tensor]) -> None:
    net, images, labels = examples
    for spec, model, message in (
        ("mifgsm+fia?layer=11", net, "fia: the net has no layer '11'; did you mean '1'"),
        ("mifgsm+fia", Ensemble([net, net]), "fia: an ensemble has no layer in common"),
        ("mifgsm+cfm", Ensemble([net, net]), "cfm: features are of one net"),
        (
            "mifgsm+svre",
            net,
            "svre: it is for an ensemble, and this is one net; `robustkit leaderboard",
        ),
        ("mifgsm+adaea", net, "adaea: it is for an ensemble"),
        ("mifgsm+ila", nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double(), "name one with"),
        ("mifgsm+ila", Unused().double(), "name one with"),
        ("mifgsm+fia?layer=aside", Unused().double(), "it does not run for these images"),
    ):
        with pytest.raises(AttackError, match=message):
            make(spec)(model, images, labels)


class Unused(nn.Module):
    """A net without layers of weights, and with a module that does not run."""

    def __init__(self) -> None:
        super().__init__()
        self.aside, self.act = nn.Identity(), nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.act(x)[:, 0, :3, 0])


def test_nothing_is_computed_behind_the_layer() -> None:
    class Loud(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x

    loud = Loud()
    net = nn.Sequential(nn.Conv2d(1, 2, 3), loud, nn.Flatten())
    features, logits = features_of(net, net[0], torch.rand(2, 1, 8, 8))
    assert features.shape == (2, 2, 6, 6)
    assert logits is None
    assert loud.calls == 0
    assert not any(module._forward_hooks for module in net.modules())


# ------------------------------------------------------------------------------------- ensembles


def value_of(net: nn.Module, x: Tensor, label: Tensor) -> Tensor:
    return F.cross_entropy(net(x[None]), label[None])


def gradient_of(net: nn.Module, x: Tensor, label: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_(True)
    return torch.autograd.grad(value_of(net, leaf, label), leaf)[0]


def boxed(image: Tensor, moved: Tensor) -> Tensor:
    return (image + (moved - image).clamp(-EPS, EPS)).clamp(0, 1)


@pytest.fixture
def ensemble() -> tuple[Ensemble, Tensor, Tensor]:
    images, labels = batch(3)
    nets = [smooth_net(seed=seed).double().eval() for seed in range(3)]
    return Ensemble(nets), images.double(), labels


def outer(image: Tensor, direction: object) -> Tensor:
    """MI-FGSM of one image on direction(x, step)."""
    adversarial, velocity = image, torch.zeros_like(image)
    for step in range(STEPS):
        found = direction(adversarial, step)  # type: ignore[operator]
        velocity = velocity + found / found.abs().mean()
        adversarial = boxed(image, adversarial + ALPHA * velocity.sign())
    return adversarial


def test_variance_is_reduced_by_turns(ensemble: tuple[Ensemble, Tensor, Tensor]) -> None:
    both, images, labels = ensemble
    found = made("mifgsm+svre?inner=2", both, images, labels)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):

        def direction(x: Tensor, step: int, image: Tensor = image, y: Tensor = label) -> Tensor:
            velocity, moved = torch.zeros_like(x), x
            for turn in range(6):
                member = both.members[derive_seed("svre", step, turn) % 3]
                less = gradient_of(member, x, y) - gradient_of(both, x, y)
                own = gradient_of(member, moved, y) - less
                velocity = velocity + own / own.abs().sum()
                moved = boxed(image, moved + ALPHA * velocity.sign())
            return velocity

        torch.testing.assert_close(found[row], outer(image, direction))


def test_a_common_weakness_is_where_members_lead(
    ensemble: tuple[Ensemble, Tensor, Tensor],
) -> None:
    both, images, labels = ensemble
    found = made("mifgsm+cwa?reach=0.1", both, images, labels)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        inner = torch.zeros_like(image)

        def direction(x: Tensor, step: int, image: Tensor = image, y: Tensor = label) -> Tensor:
            nonlocal inner
            moved = boxed(image, x - EPS / 15 * gradient_of(both, x, y).sign())
            for member in both.members:
                own = gradient_of(member, moved, y)
                inner = inner + own / own.norm()
                moved = boxed(image, moved + 0.1 * inner)
            return moved - x

        torch.testing.assert_close(found[row], outer(image, direction))


def test_members_are_weighted_by_whom_they_fool(
    ensemble: tuple[Ensemble, Tensor, Tensor],
) -> None:
    both, images, labels = ensemble
    found = made("mifgsm+adaea?least=0.2", both, images, labels)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):

        def direction(x: Tensor, step: int, image: Tensor = image, y: Tensor = label) -> Tensor:
            own = [gradient_of(member, x, y) for member in both.members]
            tried = [boxed(image, x + ALPHA * each.sign()) for each in own]
            loss = [[float(value_of(member, each, y)) for member in both.members] for each in tried]
            gained = [
                10 * sum(loss[j][i] / loss[i][i] for i in range(3) if i != j) for j in range(3)
            ]
            weights = torch.tensor(gained).double().softmax(0)
            leaf = x.clone().requires_grad_(True)
            logits = sum(
                w * member(leaf[None]) for w, member in zip(weights, both.members, strict=True)
            )
            (whole,) = torch.autograd.grad(F.cross_entropy(logits, y[None]), leaf)
            # Of one channel, a cosine is the product of signs.
            pairs = [(own[a] * own[b]).sign() for a, b in ((0, 1), (0, 2), (1, 2))]
            return whole * (sum(pairs) / 3 >= 0.2)

        torch.testing.assert_close(found[row], outer(image, direction))


def test_a_target_is_stepped_towards_inside(ensemble: tuple[Ensemble, Tensor, Tensor]) -> None:
    both, images, labels = ensemble
    targets = (labels + 1) % 3
    for name in ("svre", "cwa", "adaea"):
        attack = make(f"mifgsm+{name}", eps=0.3, targeted=True)
        before, after = (
            float(F.cross_entropy(both(each), targets))
            for each in (images, attack(both, images, targets))
        )
        assert after < before


def test_layers_are_named_as_in_the_net_behind_its_preprocessing() -> None:
    (images, labels), model = batch(3), classifier("resnet20")
    attack = make("mifgsm+ila?extra=1", eps=EPS, steps=1)
    named = make(
        f"mifgsm+ila?extra=1&layer={layer_at(model.eval(), 0.5, images[:1])}", eps=EPS, steps=1
    )
    assert torch.equal(attack(model, images, labels), named(model, images, labels))


def test_what_is_kept_stays_with_its_image() -> None:
    net, images = nn.Sequential(nn.Flatten()), torch.rand(2, 1, 2, 2)
    ascent = ascent_of(images, torch.tensor([0, 1]), net)
    assert ascent.recall("x") is None
    ascent.rows = torch.tensor([1])
    ascent.keep("x", torch.ones(1, 3))
    ascent.rows = torch.arange(2)
    kept = ascent.recall("x")
    assert kept is not None
    assert kept.tolist() == [[0.0] * 3, [1.0] * 3]
