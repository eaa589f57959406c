"""Diverse inputs, smoothed gradients and look-ahead against loops over single images."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks import DIFGSM, MIFGSM, NIFGSM, TIFGSM, loss_gradient, make
from robustkit.attacks.components.inputs import DRAWS, gaussian, resized_and_padded
from robustkit.errors import AttackError
from tests.robustkit.attacks.nets import batch, smooth_net


def slow_view(image: Tensor, drawn: Tensor, rate: float, probability: float) -> Tensor:
    """Xie et al. 2019: resize bilinearly to a random side, pad with zeros at a random place."""
    chance, small, down, across = drawn.tolist()
    side = image.shape[-1]
    if chance >= probability:
        return image
    least = int(rate * side)
    new = max(1, math.floor(least + small * (side - least)))
    top, left = math.floor(down * (side - new + 1)), math.floor(across * (side - new + 1))
    resized = F.interpolate(image[None], size=(new, new), mode="bilinear", align_corners=False)[0]
    return F.pad(resized, (left, side - new - left, top, side - new - top))


@pytest.mark.parametrize(("rate", "probability"), [(0.5, 1.0), (0.9, 0.5), (0.1, 1.0), (1.0, 1.0)])
def test_views_are_resized_and_padded_images(rate: float, probability: float) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(40, 2, 11, 11, generator=generator, dtype=torch.float64)
    drawn = torch.rand(40, DRAWS, generator=generator, dtype=torch.float64)
    made = resized_and_padded(images, drawn, rate, probability)
    expected = torch.stack(
        [slow_view(image, row, rate, probability) for image, row in zip(images, drawn, strict=True)]
    )
    assert torch.allclose(made, expected, atol=1e-9)
    if rate < 1:
        assert not torch.allclose(made, images)


def test_the_gradient_goes_through_the_view() -> None:
    net, (images, labels) = smooth_net().double().eval(), batch(3)
    images = images.double()
    drawn = torch.rand(3, DRAWS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def view(pixels: Tensor) -> Tensor:
        return resized_and_padded(pixels, drawn, 0.6, 1.0)

    made, logits = loss_gradient(net, images, labels, view=view)
    leaf = images.clone().requires_grad_(True)
    seen = torch.stack(
        [slow_view(image, row, 0.6, 1.0) for image, row in zip(leaf, drawn, strict=True)]
    )
    (expected,) = torch.autograd.grad(F.cross_entropy(net(seen), labels, reduction="sum"), leaf)
    assert torch.allclose(made, expected, atol=1e-9)
    assert torch.allclose(logits, net(seen), atol=1e-9)


def slow_nesterov(net: nn.Module, image: Tensor, label: Tensor, eps: float, steps: int) -> Tensor:
    """Lin et al. 2020, algorithm 1, with μ = 1 and α = ε/T."""
    adversarial, momentum, alpha = image, torch.zeros_like(image), eps / steps
    for _ in range(steps):
        leaf = (adversarial + alpha * momentum).requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(net(leaf[None]), label[None]), leaf)
        momentum = momentum + gradient / gradient.abs().mean()
        moved = adversarial + alpha * momentum.sign()
        adversarial = (image + (moved - image).clamp(-eps, eps)).clamp(0, 1)
    return adversarial


def test_nifgsm_looks_ahead() -> None:
    net, (images, labels) = smooth_net().double().eval(), batch(4)
    images = images.double()
    made = NIFGSM(eps=0.2, steps=4)(net, images, labels)
    expected = torch.stack(
        [slow_nesterov(net, x, y, 0.2, 4) for x, y in zip(images, labels, strict=True)]
    )
    assert torch.allclose(made, expected, atol=1e-9)
    assert not torch.allclose(made, MIFGSM(eps=0.2, steps=4)(net, images, labels))


def test_tifgsm_smooths_the_gradient_with_a_gaussian() -> None:
    net, (images, labels) = smooth_net().double().eval(), batch(3)
    images = images.double()
    made = TIFGSM(eps=0.2, steps=1, kernel=3)(net, images, labels)
    gradient, _ = loss_gradient(net, images, labels)
    smoothed = torch.zeros_like(gradient)
    padded = F.pad(gradient, (1, 1, 1, 1))
    line = [math.exp(-(x**2) / 2) for x in (-3.0, 0.0, 3.0)]
    for down in range(3):
        for across in range(3):
            part = padded[:, :, down : down + 8, across : across + 8]
            smoothed += line[down] * line[across] * part
    assert torch.allclose(made, (images + 0.2 * smoothed.sign()).clamp(0, 1))
    assert torch.equal(
        TIFGSM(eps=0.2, kernel=1)(net, images, labels), MIFGSM(eps=0.2)(net, images, labels)
    )


def test_the_kernel_sums_to_one_and_reaches_three_deviations() -> None:
    line = gaussian(15)
    assert float(line.sum()) == pytest.approx(1)
    assert float(line[7] / line[0]) == pytest.approx(math.exp(4.5))
    assert gaussian(1).tolist() == [1.0]


def test_without_diversity_difgsm_is_mifgsm() -> None:
    net, (images, labels) = smooth_net(), batch(4)
    plain = MIFGSM(eps=0.1)(net, images, labels)
    assert torch.equal(DIFGSM(eps=0.1, diversity=0.0)(net, images, labels), plain)
    assert not torch.equal(DIFGSM(eps=0.1, diversity=1.0)(net, images, labels), plain)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("difgsm?diversity=1.5", "difgsm: diversity must be in"),
        ("difgsm?resize=0.0", "difgsm: resize must be in"),
        ("tifgsm?kernel=4", "tifgsm: kernel must be odd and in .1, 99., not 4"),
        ("tifgsm?kernel=-1", "kernel must be odd"),
    ],
)
def test_values_out_of_range_are_refused(spec: str, message: str) -> None:
    with pytest.raises(AttackError, match=message):
        make(spec)


def test_in_bfloat16_the_gradient_is_nearly_the_same() -> None:
    net, (images, labels) = smooth_net(), batch(6)
    exact, logits = loss_gradient(net.eval(), images, labels)
    rough, seen = loss_gradient(net, images, labels, bf16=True)
    assert rough.dtype == torch.float32
    assert torch.cosine_similarity(exact.flatten(1), rough.flatten(1)).min() > 0.99
    assert not torch.equal(exact, rough)
    assert torch.allclose(seen, logits, atol=0.05)
