"""Components against loops over single images, written from the papers' definitions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import combinations
from typing import Any, cast

import numpy as np
import pytest
import scipy.fft
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks import (
    COMPONENTS,
    DIFGSM,
    MIFGSM,
    NIFGSM,
    NORMS,
    PGD,
    TIFGSM,
    Attack,
    make,
    verify,
)
from robustkit.attacks.components import (
    BlockShuffleAndRotation,
    Component,
    Nesterov,
    PatchOut,
    PreGradient,
    StructureInvariance,
    of_unit_mean,
    parameters_of,
)
from robustkit.attacks.components.inputs import DRAWS, ObjectDiverseInput, cuts, gaussian, lengths
from robustkit.compute import draws
from robustkit.errors import AttackError
from tests.robustkit.attacks.nets import ascent_of, batch, smooth_net
from tests.robustkit.attacks.test_variants import slow_view

EPS, STEPS, ALPHA, SEED = 0.2, 3, 0.2 / 3, 4
Gradient = Callable[[Tensor], Tensor]
# As few of everything as shows what is done with several.
FEW = {
    "di": "diversity=0.8&resize=0.6",
    "ti": "kernel=3",
    "si": "scales=3",
    "emi": "samples=4&reach=2",
    "vmi": "samples=2",
    "vni": "samples=2",
    "pgn": "samples=2",
    "gra": "samples=2",
    "rap": "inner=3&late=0.3",
    "admix": "mixed=2",
    "ssm": "spectra=2",
    "sia": "shuffles=2",
    "bsr": "shuffles=2&angle=0.0",  # a turned block hides pixels, whose gradient is rounding
}


class One:
    """One image under attack, by the definitions: `calls` counts gradients within a step."""

    def __init__(self, net: nn.Module, image: Tensor, label: Tensor, seed: int) -> None:
        self.net, self.image, self.label, self.seed = net, image, label, seed
        self.step = self.calls = self.copy = 0
        self.kept: dict[str, Any] = {}
        self.others: Tensor | None = None

    def luck(self, name: str, shape: Sequence[int] = (), *place: int) -> Tensor:
        seeds = torch.tensor([self.seed])
        found = draws.uniform(seeds, shape, name, self.step, self.calls, *place)
        return found[0].to(self.image)

    def noise(self, name: str, radius: float, number: int) -> Tensor:
        return (2 * self.luck(name, self.image.shape, number) - 1) * radius

    def gradient(self, at: Tensor, views: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
        total = torch.zeros_like(at)
        for self.copy, view in enumerate(views):
            leaf = at.clone().requires_grad_(True)
            loss = F.cross_entropy(self.net(view(leaf)[None]), self.label[None])
            total += torch.autograd.grad(loss, leaf)[0] / len(views)
        self.calls += 1
        return total


def mean_of(gradient: Tensor) -> Tensor:
    return gradient / gradient.abs().mean()


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


def spectrum(one: One, image: Tensor, copy: int) -> Tensor:
    """Long et al. 2022, equation 6, with scipy's transform."""
    luck = one.luck("ssm noise", image.shape, copy).clamp(1e-7, 1 - 1e-7)
    factors = 1 + 0.5 * (2 * one.luck("ssm", image.shape, copy) - 1)
    basis = torch.tensor(scipy.fft.dct(np.eye(image.shape[-1]), norm="ortho", axis=0))
    frequencies = basis @ (image + EPS * torch.special.ndtri(luck)) @ basis.T
    return cast(Tensor, basis.T @ (frequencies * factors) @ basis)


def structure(one: One, image: Tensor, copy: int) -> Tensor:
    """Wang et al. 2023, section 3: block by block."""
    blocks, side = 3, image.shape[-1]
    edges = [cuts(one.luck(f"sia {way}", (side - 1,), copy)[None], blocks)[0].tolist()
             for way in ("down", "across")]  # fmt: skip
    kind, shift, factor = (
        one.luck(f"sia {name}", (blocks, blocks), copy) for name in ("choice", "shift", "factor")
    )
    noise, result = one.noise("sia noise", 16 / 255, copy), image
    for i in range(blocks):
        for j in range(blocks):
            rows, columns = slice(*edges[0][i : i + 2]), slice(*edges[1][j : j + 2])
            block = image[:, rows, columns]
            changed = [
                block.roll(int(shift[i, j] * block.shape[1]), dims=1),
                block.roll(int(shift[i, j] * block.shape[2]), dims=2),
                block.flip(1),
                block.flip(2),
                block.rot90(2, (1, 2)),
                block * factor[i, j],
                (block + noise[:, rows, columns]).clamp(0, 1),
            ][int(kind[i, j] * 7)]
            result = result.clone()
            result[:, rows, columns] = changed
    return result


def bilinear(block: Tensor, row: float, column: float) -> Tensor:
    """The value (C,) of a block at a place, its border repeated."""
    height, width = block.shape[1:]
    row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
    top, left = int(row), int(column)
    down, right = min(top + 1, height - 1), min(left + 1, width - 1)
    y, x = row - top, column - left
    upper = (1 - x) * block[:, top, left] + x * block[:, top, right]
    lower = (1 - x) * block[:, down, left] + x * block[:, down, right]
    return (1 - y) * upper + y * lower


def turned(block: Tensor, angle: float) -> Tensor:
    """A block turned about its middle, black where nothing is."""
    height, width = block.shape[1:]
    rows = []
    if not block.numel():
        return block
    for row in range(height):
        line = []
        for column in range(width):
            y, x = row - (height - 1) / 2, column - (width - 1) / 2
            source = (
                math.cos(angle) * y - math.sin(angle) * x + (height - 1) / 2,
                math.sin(angle) * y + math.cos(angle) * x + (width - 1) / 2,
            )
            inside = -0.5 < source[0] < height - 0.5 and -0.5 < source[1] < width - 0.5
            line.append(bilinear(block, *source) * inside)
        rows.append(torch.stack(line, dim=1))
    return torch.stack(rows, dim=1)


def shuffled(one: One, image: Tensor, copy: int, blocks: int = 2, angle: float = 0.0) -> Tensor:
    """Wang et al. 2024, section 3.3: strips, then pieces of each, change places; pieces turn."""
    tall = bool(one.luck("bsr axis", (), copy) < 0.5)
    image = image if tall else image.transpose(1, 2)
    strips = one.luck("bsr strips", (2, blocks), copy)
    pieces = one.luck("bsr pieces", (2, blocks, blocks), copy)
    turns = (2 * one.luck("bsr angle", (blocks, blocks), copy) - 1) * math.radians(angle)
    # Turning looks the other way where rows and columns have changed names.
    parts = torch.split(image, lengths(strips[:1], image.shape[1])[0].tolist(), dim=1)
    placed = []
    for strip in strips[1].argsort().tolist():
        cells = torch.split(
            parts[strip], lengths(pieces[0, strip][None], image.shape[2])[0].tolist(), 2
        )
        order = pieces[1, strip].argsort().tolist()
        line = [turned(cells[each], float(turns[strip, each])) for each in order]
        placed.append(torch.cat(line, dim=2))
    result = torch.cat(placed, dim=1)
    return result if tall else result.transpose(1, 2)


def views_of(one: One, names: Sequence[str]) -> list[Callable[[Tensor], Tensor]]:
    """What the model is shown, copy by copy, in the order of the names."""

    def shown(image: Tensor, name: str, copy: int) -> Tensor:
        if name == "si":
            return image / float(2**copy)
        if name == "di":  # another in every copy that the others make
            return slow_view(image, one.luck("di", (DRAWS,), one.copy), 0.6, 0.8)
        if name == "admix":
            assert one.others is not None
            chosen = int(one.luck("admix", (), copy) * len(one.others))
            return image + 0.2 * one.others[chosen]
        return {"ssm": spectrum, "sia": structure, "bsr": shuffled}[name](one, image, copy)

    def seen(view: Callable[[Tensor], Tensor], name: str, copy: int, image: Tensor) -> Tensor:
        return shown(view(image), name, copy)

    views: list[Callable[[Tensor], Tensor]] = [lambda image: image]
    for name in names:
        copies = {"si": 3, "admix": 2, "ssm": 2, "sia": 2, "bsr": 2, "di": 1}.get(name)
        if copies is not None:
            views = [partial(seen, view, name, copy) for view in views for copy in range(copies)]
    return views


def of_step(one: One, name: str, g: Gradient, x: Tensor) -> Tensor:
    """The gradient of a step as a component makes it of gradients `g`, at x."""
    kept = one.kept
    if name == "pi":
        kept["last"] = mean_of(found := g(x))
        return found
    if name == "emi":
        last = kept.get("last")
        places = [0.0] if last is None else [-2, -2 / 3, 2 / 3, 2]
        found = sum(
            (g(x + c * ALPHA * last if last is not None else x) for c in places), start=0 * x
        )
        kept["last"] = mean_of(found / len(places))
        return found / len(places)
    if name in ("vmi", "vni"):
        plain, before = g(x), kept.get("variance", 0 * x)
        middle = one.kept["here"] if name == "vni" else x
        around = [g(middle + one.noise("vmi", 1.5 * EPS, number)) for number in range(2)]
        kept["variance"] = sum(around, start=0 * x) / 2 - plain
        return cast(Tensor, plain + before)
    if name == "pgn":
        total = 0 * x
        for number in range(2):
            near = x + one.noise("pgn", 3 * EPS, number)
            first = g(near)
            total += 0.5 * first + 0.5 * g(near - ALPHA * mean_of(first))
        return total / 2
    if name == "gra":
        plain = g(x)
        near = sum((g(x + one.noise("gra", 3.5 * EPS, n)) for n in range(2)), start=0 * x) / 2
        s = (plain * near).sum() / (plain.norm() * near.norm())
        return cast(Tensor, s * plain + (1 - s) * near)
    if name == "rap" and one.step >= 0.3 * STEPS:
        start = (2 * one.luck("rap", x.shape) - 1) * EPS
        reverse = (x + start).clamp(0, 1) - x
        for _ in range(3):
            reverse = (reverse - EPS / 8 * g(x + reverse).sign()).clamp(-EPS, EPS)
            reverse = (x + reverse).clamp(0, 1) - x
        return g(x + reverse)
    return g(x)


def slow_attack(one: One, names: Sequence[str]) -> Tensor:
    """MI-FGSM of one image with components, each part where it is named."""
    image, adversarial = one.image, one.image
    velocity, factor, sign = torch.zeros_like(image), torch.full_like(image, 1 / 0.94), None
    for one.step in range(STEPS):
        one.calls = 0
        one.kept["here"] = start = adversarial
        if {"ni", "vni"} & {*names}:
            start = start + ALPHA * velocity
        if "pi" in names and "last" in one.kept:
            start = start + ALPHA * one.kept["last"]

        def wrapped(at: Tensor, rest: Sequence[str]) -> Tensor:
            if not rest:
                return one.gradient(at, views_of(one, names))
            return of_step(one, rest[0], lambda place: wrapped(place, rest[1:]), at)

        gradient = wrapped(start, [name for name in names if name in OF_GRADIENTS])
        if "ti" in names:
            gradient = slow_smooth(gradient, 3)
        velocity = velocity + mean_of(gradient)
        step = ALPHA * velocity.sign()
        if "gra" in names:
            changed = sign is None or velocity.sign() != sign
            factor = torch.where(torch.as_tensor(changed), factor * 0.94, factor)
            sign, step = velocity.sign(), factor * step
        adversarial = (image + (adversarial + step - image).clamp(-EPS, EPS)).clamp(0, 1)
    return adversarial


OF_GRADIENTS = ("pi", "emi", "vmi", "vni", "pgn", "gra", "rap")
PLAIN = ("di", "ti", "si", "ni")
COMBINED = [
    *(names for size in range(5) for names in combinations(PLAIN, size)),
    *((name,) for name in (*OF_GRADIENTS, "admix", "ssm", "sia", "bsr")),
    ("admix", "si"),
    ("di", "vmi", "ti"),
    ("ni", "pgn", "si"),
    ("emi", "vmi"),
    ("gra", "di", "rap"),
    ("sia", "bsr", "vni"),
    ("ssm", "emi", "ti", "di"),
]


def combined(names: Sequence[str]) -> Attack:
    return MIFGSM(eps=EPS, steps=STEPS, components=tuple(spec(name) for name in names))


def spec(name: str) -> str:
    return f"{name}?{FEW[name]}" if name in FEW else name


@pytest.mark.parametrize("names", COMBINED, ids="+".join)
def test_every_combination_is_the_loop_of_the_papers(names: tuple[str, ...]) -> None:
    net, (images, labels) = smooth_net().double().eval(), batch(3)
    images, others = images.double(), batch(5, seed=1)[0].double()
    generator = torch.Generator().manual_seed(SEED)
    made = combined(names)(net, images, labels, generator=generator, others=others)
    seeds = torch.randint(2**62, (3,), generator=torch.Generator().manual_seed(SEED)).tolist()
    expected = []
    for image, label, seed in zip(images, labels, seeds, strict=True):
        one = One(net, image, label, seed)
        one.others = others
        expected.append(slow_attack(one, names))
    # Numbers in [0,1) are float32: what is made of them agrees as closely.
    assert torch.allclose(made, torch.stack(expected), atol=1e-6)


@pytest.mark.parametrize(("blocks", "angle"), [(2, 24.0), (3, 0.0), (3, 60.0), (1, 24.0)])
def test_blocks_are_shuffled_and_turned(blocks: int, angle: float) -> None:
    images = torch.rand(6, 2, 9, 12, generator=torch.Generator().manual_seed(0)).double()
    seeds = torch.arange(6) + 10
    made = BlockShuffleAndRotation(blocks=blocks, angle=angle).view(
        images, ascent_of(images, seeds, seeds=seeds), 1
    )
    expected = [
        shuffled(One(nn.Identity(), image, seed, int(seed)), image, 1, blocks, angle)
        for image, seed in zip(images, seeds, strict=True)
    ]
    assert torch.allclose(made, torch.stack(expected), atol=1e-9)


def test_components_change_what_comes_out() -> None:
    net, (images, labels) = smooth_net().double().eval(), batch(6)
    made = [combined(names)(net, images.double(), labels) for names in COMBINED]
    different = [not torch.equal(one, other) for one, other in combinations(made, 2)]
    assert sum(different) > 0.95 * len(different)


@pytest.mark.parametrize("name", sorted({*COMPONENTS} - {"svre", "cwa", "adaea", "fft", "mi"}))
def test_a_component_does_not_look_at_batch_mates(name: str) -> None:
    if name in ("pna", "tgr", "linbp", "bpa", "ghost", "sgm"):
        pytest.skip("needs another net: test_surgery.py")
    net, (images, labels) = smooth_net().eval(), batch(4)
    attack, others = combined((name,)), batch(5, seed=1)[0]
    seeded = [torch.Generator().manual_seed(SEED) for _ in range(2)]
    whole = attack(net, images, labels, generator=seeded[0], others=others)
    parts = [
        attack(net, images[rows], labels[rows], generator=seeded[1], others=others)
        for rows in (slice(0, 1), slice(1, 4))
    ]
    assert torch.allclose(whole, torch.cat(parts), atol=1e-6)


@pytest.mark.parametrize(
    ("named", "components"),
    [
        (DIFGSM(diversity=0.7), MIFGSM(components=("di?diversity=0.7",))),
        (TIFGSM(kernel=3), MIFGSM(components=("ti?kernel=3",))),
        (TIFGSM(diversity=0.5), MIFGSM(components=("ti", "di"))),
        (NIFGSM(), MIFGSM(components=("ni",))),
        (NIFGSM(components=("di",)), DIFGSM(components=("ni",))),
        (MIFGSM(decay=0.7), PGD(alpha=0.8 / 255, random_start=False, components=("mi?decay=0.7",))),
    ],
)
def test_the_papers_names_are_mifgsm_with_components(named: Attack, components: Attack) -> None:
    net, (images, labels) = smooth_net(), batch(5)
    assert torch.equal(named(net, images, labels), components(net, images, labels))


@dataclass(frozen=True, kw_only=True)
class Twice(Component):
    """Two copies that show the same."""

    @property
    def copies(self) -> int:
        return 2


class Skipping(nn.Module):
    """A residual net on 1x8x8."""

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.head = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head((x + self.branch(x)).flatten(1))
        return logits


@pytest.mark.parametrize(
    "name",
    [
        "di?diversity=1.0&resize=0.4",
        "odi?diversity=1.0",
        "patchout?patch=2",
        "ghost",
        "cfm?chance=1.0",
    ],
)
def test_every_copy_draws_anew(name: str) -> None:
    net, (images, labels) = Skipping().eval(), batch(3)
    seen: list[Tensor] = []
    net.register_forward_hook(lambda _, given, out: seen.append(out.detach().clone()))
    MIFGSM(eps=0.2, steps=2, components=(Twice(), name))(net, images, labels)
    first, second = seen[-2:]
    assert float((first - second).abs().max()) > 1e-4


def test_one_scale_changes_nothing() -> None:
    net, (images, labels) = smooth_net(), batch(5)
    plain = PGD(eps=0.1, random_start=False)(net, images, labels)
    one = make("pgd+si?eps=0.1&scales=1&random_start=false")(net, images, labels)
    assert torch.equal(plain, one)


def test_an_image_is_left_when_the_model_errs_on_it_and_not_on_a_view_of_it() -> None:
    net, (images, labels) = smooth_net().eval(), batch(12)
    labels = net(images).argmax(dim=1)
    attack = make("mifgsm+di+si?diversity=1.0&resize=0.4", eps=0.3)
    made = attack(net, images, labels, stop_when_fooled=True)
    whole = attack(net, images, labels)
    fooled = net(made).argmax(dim=1) != labels
    assert fooled.any()
    assert not torch.equal(made[fooled], whole[fooled])
    assert torch.equal(made[~fooled], whole[~fooled])


@pytest.mark.parametrize("name", ["vmi", "gra", "emi", "pi", "ni", "rap"])
def test_what_a_component_keeps_stays_with_its_image(name: str) -> None:
    net, (images, labels) = smooth_net().eval(), batch(12)
    labels = net(images).argmax(dim=1)
    attack = make(f"mifgsm+{spec(name)}", eps=0.06, steps=6)
    made = attack(net, images, labels, stop_when_fooled=True)
    whole = attack(net, images, labels)
    standing = net(made).argmax(dim=1) == labels
    assert 0 < int(standing.sum()) < len(labels)
    assert torch.allclose(made[standing], whole[standing], atol=1e-6)


def test_a_target_is_descended_to() -> None:
    net, (images, labels) = smooth_net().eval(), batch(12)
    targets = (labels + 1) % 3
    plain = make("mifgsm", eps=0.3, targeted=True)(net, images, targets)
    with torch.no_grad():
        before, reached = (float(F.cross_entropy(net(x), targets)) for x in (images, plain))
    for name in ("ni", "pi", "pgn", "rap", "vmi", "vni", "gra", "emi"):
        made = make(f"mifgsm+{spec(name)}", eps=0.3, targeted=True)(net, images, targets)
        with torch.no_grad():
            after = float(F.cross_entropy(net(made), targets))
        assert after < before - 0.6 * (before - reached)


def test_looking_ahead_goes_where_a_targeted_step_goes() -> None:
    images, labels = batch(4)
    ascent = ascent_of(images, labels)
    last = torch.rand(4, 1, 8, 8) - 0.5
    ascent.keep("pi", last)
    assert torch.equal(PreGradient().ahead(images, ascent), images + ascent.alpha * last)
    ascent.targeted = True
    assert torch.equal(PreGradient().ahead(images, ascent), images - ascent.alpha * last)


@pytest.mark.parametrize(("norm", "eps"), [("l2", 1.5), ("l1", 8.0)])
def test_noise_and_looks_ahead_are_as_long_in_other_norms(norm: str, eps: float) -> None:
    images, labels = torch.rand(40, 3, 8, 8), torch.zeros(40).long()
    ascent = ascent_of(images, labels)
    ascent.geometry, ascent.eps, ascent.alpha = NORMS[norm], eps, eps / 10
    noise = NORMS[norm].size(ascent.noise("x", 1.5 * eps))
    assert float(noise.mean()) == pytest.approx(1.5 * eps, rel=0.05)
    ascent.keep("velocity", of_unit_mean(torch.randn(40, 3, 8, 8)))
    ahead = NORMS[norm].size(Nesterov().ahead(images, ascent) - images)
    assert float(ahead.mean()) == pytest.approx(eps / 10, rel=0.3)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_noisy_blocks_are_as_noisy_in_every_norm(norm: str) -> None:
    images = torch.zeros(30, 3, 16, 16)  # of which all other changes leave nothing else
    ascent = ascent_of(images, torch.zeros(30).long())
    ascent.geometry = NORMS[norm]
    largest = float(StructureInvariance().view(images, ascent, 0).max())
    assert 15 / 255 < largest <= 16 / 255


@pytest.mark.parametrize(
    "name", ["di", "ni", "pi", "emi", "vmi", "vni", "pgn", "gra", "rap", "ssm"]
)
@pytest.mark.parametrize(("norm", "eps"), [("l2", 1.2), ("l1", 12.0)])
def test_components_ascend_in_other_balls(name: str, norm: str, eps: float) -> None:
    net, (images, labels) = smooth_net().eval(), batch(12)
    attack = make(f"mifgsm+{spec(name)}", eps=eps, norm=norm)
    made = attack(net, images, labels)
    verify(made, images, attack)
    with torch.no_grad():
        before, after = (float(F.cross_entropy(net(each), labels)) for each in (images, made))
        plain = float(F.cross_entropy(net(make("mifgsm", eps=eps, norm=norm)(net, images, labels)),
                                      labels))  # fmt: skip
    assert after - before > 0.5 * (plain - before)
    with pytest.raises(AttackError, match="components are for linf, l2 and l1"):
        make(f"mifgsm+{name}", norm="l0")


def test_views_are_computed_in_full_precision() -> None:
    images, labels = torch.rand(2, 3, 64, 64), torch.zeros(2).long()
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.detach())
            return x.mean((2, 3))

    make("mifgsm+ssm?noise=0.0&rho=0.0&spectra=1", steps=1, bf16=True)(Spy(), images, labels)
    assert torch.allclose(seen[-1], images, atol=1e-5)


def test_patches_are_shown_of_the_perturbation_before_all_else() -> None:
    images = torch.rand(3, 1, 32, 32)
    ascent = ascent_of(images, torch.zeros(3).long())
    moved = images + 0.1
    shown = PatchOut(patch=8, share=0.5).view(moved, ascent, 0)
    patches = F.unfold(shown - images, 8, stride=8)
    changed = (patches.abs() > 0.05).float().mean(dim=1)
    assert changed.sum(dim=1).tolist() == [8.0] * 3
    assert set(changed.flatten().tolist()) == {0.0, 1.0}
    assert len({tuple(row.tolist()) for row in changed}) == 3
    both = [
        cast(MIFGSM, make(f"mifgsm+{names}?patch=8", eps=0.1)).combination
        for names in ("di+patchout", "patchout+di")
    ]
    views = [each.view(moved, ascent, each.copies[0]) for each in both]
    assert torch.equal(*views)


def test_an_object_seen_from_the_front_is_the_image_smaller() -> None:
    flat = ObjectDiverseInput(diversity=1.0, angle=0.0, bulge=0.0)
    luck = torch.full((1, 10), 0.5)
    rows, columns, inside, light = flat._cast(luck, 20, 20)
    # A middle distance of 2.4 and a view of half the distance: the sheet fills the inner five
    # sixths.
    assert 0.6 < float(inside.float().mean()) < 0.75
    assert torch.allclose(rows[0].diff(dim=0), rows[0].diff(dim=0)[:1, :1], atol=1e-4)
    assert torch.allclose(rows[0, 9:11, 5].mean(), torch.tensor(9.5), atol=1e-4)
    assert torch.allclose(columns[0, 5, 9:11].mean(), torch.tensor(9.5), atol=1e-4)
    far = luck.clone()
    far[0, 4] = 1.0
    assert float(flat._cast(far, 20, 20)[0][0, 0, 0]) < float(rows[0, 0, 0])
    assert ((light > 0.5) & (light < 1.5)).all()
    aside = ObjectDiverseInput(diversity=1.0, angle=35.0, bulge=0.25)._cast(
        torch.rand(50, 10, generator=torch.Generator().manual_seed(0)), 20, 20
    )
    assert 0.2 < float(aside[2].float().mean()) < 0.95
    assert all(bool(each.isfinite().all()) for each in (aside[0], aside[1], aside[3]))


def test_the_identity_of_an_attack_without_components_does_not_know_them() -> None:
    assert PGD(eps=0.1).to_dict() == {
        "name": "pgd", "eps": 0.1, "norm": "linf", "targeted": False, "loss": "ce", "bf16": False,
        "steps": 10, "alpha": None, "random_start": True,
    }  # fmt: skip
    assert list(TIFGSM().to_dict())[-3:] == ["diversity", "resize", "kernel"]
    assert "components" not in TIFGSM().to_dict()


def test_the_identity_names_components_and_their_defaults() -> None:
    plain = make("mifgsm+di+si?scales=3").to_dict()
    assert plain["components"] == [
        {"name": "di", "diversity": 0.5, "resize": 0.9},
        {"name": "si", "scales": 3},
    ]


@pytest.mark.parametrize("name", sorted(COMPONENTS))
def test_every_component_says_where_it_is_from(name: str) -> None:
    kind = COMPONENTS[name]
    assert kind.name == name
    assert re.search(r"\b20(1[89]|2[0-5])\b", kind.paper)
    assert (kind.__doc__ or "").split("\n")[0].endswith(".")
    assert set(parameters_of(kind)) == {each.name for each in fields(kind)}
