"""Attacks on detectors: within the ball, uphill, repeatable, and nothing left behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adaptation import detectors
from adaptation.attacks import LOSSES, DetectionAttack
from adaptation.detectors import Detector
from adaptation.training import DetectionConfig, train_detector
from robustkit.compute import isolated_rng, torch_generator
from robustkit.data import to_unit
from robustkit.data.detection import DetectionSet, Truth, load_detection
from robustkit.errors import AttackError

NAMES = ("tiny_ssd?norm=batch", "tiny_fcos", "tiny_fasterrcnn")


@pytest.fixture(scope="module")
def images() -> DetectionSet:
    return load_detection("shapes:photo:48?side=64", "train")


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest, images: DetectionSet) -> Detector:
    """A detector that has learnt something: gradients of fresh ones point nowhere."""
    name = f"{request.param}{'&' if '?' in request.param else '?'}side=64&width=16"
    made = detectors.build(name, images.classes, seed=0)
    return train_detector(made, images, DetectionConfig(steps=60, warmup=5))


def batch(images: DetectionSet, first: int, count: int = 4) -> tuple[list[Tensor], list[Truth]]:
    rows = range(first, first + count)
    return [to_unit(images.image(row)) for row in rows], [images.truths[row] for row in rows]


def generator(number: int = 0) -> torch.Generator:
    return torch_generator("test", number)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("steps", [1, 3])
def test_adversarials_stay_in_the_ball_and_in_range(
    model: Detector, images: DetectionSet, loss: str, steps: int
) -> None:
    clean, truths = batch(images, 0)
    clean[0][:, :5] = 0.0
    clean[1][:, :5] = 1.0
    for start in (True, False):
        attack = DetectionAttack(loss=loss, eps=8 / 255, steps=steps, random_start=start)
        moved = attack(model, clean, truths, generator=generator())
        for a, x in zip(moved, clean, strict=True):
            assert float((a - x).abs().max()) <= 8 / 255 + 1e-7
            assert float(a.min()) >= 0
            assert float(a.max()) <= 1
            assert not a.requires_grad
            assert not torch.equal(a, x)


def half_loss(
    model: Detector, pixels: list[Tensor], truths: list[Truth], half: str, seed: int
) -> float:
    """The loss that is attacked, what a detector samples drawn as the attack draws it."""
    with isolated_rng(seed), torch.no_grad():
        loss = model.eval().losses(pixels, truths)
    named = {"cls": loss.classification, "loc": loss.localisation, "all": loss.total}
    return float(named[half])


@pytest.mark.parametrize("half", ["cls", "loc", "all"])
def test_the_attacked_loss_grows(model: Detector, images: DetectionSet, half: str) -> None:
    if half == "loc" and hasattr(model.net, "roi_heads"):
        pytest.skip("where proposals move, fewer of them are compared: its mean may well fall")
    grown = []
    for first in range(0, 48, 4):
        clean, truths = batch(images, first)
        attack = DetectionAttack(loss=half, eps=4 / 255, steps=3)
        moved = attack(model, clean, truths, generator=generator(first))
        drawn = int(torch.randint(2**62, (), generator=generator(first)))
        before, after = (half_loss(model, pixels, truths, half, drawn) for pixels in (clean, moved))
        grown.append(after > before or before == after == 0)
    assert sum(grown) / len(grown) >= 0.95


def test_mtd_is_image_by_image_the_worse_of_the_two(model: Detector, images: DetectionSet) -> None:
    clean, truths = batch(images, 8)
    made = {
        loss: DetectionAttack(loss=loss, eps=4 / 255, steps=2)(
            model, clean, truths, generator=generator()
        )
        for loss in ("cls", "loc", "mtd")
    }
    for number, chosen in enumerate(made["mtd"]):
        pair = [made[loss][number] for loss in ("cls", "loc")]
        assert any(torch.equal(chosen, each) for each in pair)


def test_the_model_is_left_as_it_was_and_the_attack_can_be_repeated(
    model: Detector, images: DetectionSet
) -> None:
    clean, truths = batch(images, 4)
    model.train()
    parameter = next(iter(model.parameters()))
    parameter.grad = torch.full_like(parameter, 3.0)
    state = {name: each.clone() for name, each in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    torch.manual_seed(11)
    before = torch.get_rng_state()
    attack = DetectionAttack(eps=4 / 255, steps=2)
    first = attack(model, clean, truths, generator=generator())
    assert torch.equal(before, torch.get_rng_state())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(state[name], each) for name, each in model.state_dict().items())
    assert torch.equal(parameter.grad, torch.full_like(parameter, 3.0))
    assert all(each.requires_grad for each in model.parameters())
    torch.manual_seed(12)
    again = attack(model, clean, truths, generator=generator())
    other = attack(model, clean, truths, generator=generator(1))
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    parameter.grad = None
    model.eval()


def test_images_of_several_sizes_and_without_objects(model: Detector, images: DetectionSet) -> None:
    clean, truths = batch(images, 0, 2)
    clean[0] = torch.nn.functional.interpolate(clean[0][None], size=(50, 80))[0]
    truths[1] = images.truths[0].chosen(torch.zeros(len(images.truths[0]), dtype=torch.bool))
    moved = DetectionAttack(eps=4 / 255)(model, clean, truths, generator=generator())
    assert [each.shape for each in moved] == [each.shape for each in clean]


def test_a_step_is_what_it_says() -> None:
    assert DetectionAttack(eps=0.1).step == pytest.approx(0.125)
    assert DetectionAttack(eps=0.1, steps=5).step == pytest.approx(0.05)
    assert DetectionAttack(eps=0.1, steps=5, alpha=0.01).step == 0.01


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"loss": "class"}, "unknown loss 'class'; did you mean 'cls'"),
        ({"eps": -1}, r"eps must be in \[0,1\]"),
        ({"alpha": 0}, r"alpha must be in \(0,1\]"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_settings_that_make_no_sense(given: dict[str, float | str], said: str) -> None:
    with pytest.raises(AttackError, match=said):
        DetectionAttack(**given)  # type: ignore[arg-type]
