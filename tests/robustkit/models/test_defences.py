"""Defences in front of a model, against what they are by definition."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from robustkit import attacks, models
from robustkit.compute.draws import uniform
from robustkit.errors import ModelError
from robustkit.models.classifier import Classifier, reordered, resizing
from robustkit.models.defences import content_seeds


@pytest.fixture(scope="module")
def net() -> Classifier:
    return models.build("vgg3?width=4", num_classes=3, in_channels=3, image_size=16, seed=0).eval()


def pictures(count: int = 4, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, 16, 16, generator=torch.Generator().manual_seed(1))


def test_pictures_are_compressed(net: Classifier) -> None:
    images = (pictures() * 255).round() / 255
    made = models.defended(net, ["jpeg?quality=30"])(images)
    read = []
    for image in images:
        file = io.BytesIO()
        levels = (image.permute(1, 2, 0) * 255).round().byte().numpy()
        Image.fromarray(levels).save(file, "JPEG", quality=30)
        decoded = np.array(Image.open(file)).astype(np.float32) / 255
        read.append(torch.from_numpy(decoded).permute(2, 0, 1))
    # Two libraries of the same standard: rounding may differ by a level or two.
    assert torch.allclose(made, net(torch.stack(read)), atol=0.02)
    assert not torch.allclose(made, net(images), atol=0.02)


def test_colours_are_rounded(net: Classifier) -> None:
    images = pictures()
    expected = net(torch.tensor(np.round(images.numpy() * 7) / 7))
    assert torch.allclose(models.defended(net, ["bits?depth=3"])(images), expected, atol=1e-6)


def test_the_vote_is_counted(net: Classifier) -> None:
    images = pictures()
    made = models.defended(net, ["smoothing?votes=20&sigma=0.5"])(images)
    seeds = content_seeds(images)
    for row, image in enumerate(images):
        votes: Counter[int] = Counter()
        for number in range(20):
            luck = uniform(seeds[row : row + 1], image.shape, "smoothing", number)
            noise = 0.5 * torch.special.ndtri(luck.clamp(1e-7, 1 - 1e-7))
            votes[int(net(image[None] + noise).argmax())] += 1
        shares = made[row].exp() * 20.5
        for label, count in votes.items():
            assert count <= float(shares[label]) <= count + 0.51
        assert votes[int(made[row].argmax())] == max(votes.values())


@pytest.mark.parametrize("spec", ["jpeg", "bits", "smoothing?votes=4"])
def test_answers_do_not_depend_on_the_batch_and_attacks_get_a_gradient(
    net: Classifier, spec: str
) -> None:
    images, model = pictures(), models.defended(net, [spec])
    whole = model(images)
    assert torch.allclose(whole[1:3], model(images[1:3]), atol=1e-6)
    labels = net(images).argmax(dim=1)
    made = attacks.PGD(eps=0.1, steps=3, random_start=False)(model, images, labels)
    assert float((made - images).abs().max()) == pytest.approx(0.1, abs=1e-6)
    if spec != "smoothing?votes=4":  # the identity's, at what was changed
        leaf = images.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(model(leaf).sum(), leaf)
        assert gradient.abs().sum() > 0


def test_defences_follow_each_other_from_the_last_to_the_first(net: Classifier) -> None:
    images = pictures()
    made = models.defended(net, ["bits?depth=1", "jpeg?quality=5"])(images)
    inner = models.defended(net, ["bits?depth=1"])
    assert torch.equal(made, models.defended(inner, ["jpeg?quality=5"])(images))
    other = models.defended(net, ["jpeg?quality=5", "bits?depth=1"])(images)
    assert not torch.allclose(made, other, atol=1e-3)


def test_another_view_of_a_defended_model_is_defended(net: Classifier) -> None:
    model = models.defended(net, ["bits?depth=2"])
    assert reordered(model, net.classes[::-1]).in_front == ("bits?depth=2",)
    assert resizing(model, (32, 32)).in_front == ("bits?depth=2",)
    digests = {models.digest(each) for each in (net, model, models.defended(net, ["bits"]))}
    assert len(digests) == 3


def test_a_spec_names_defences_behind_the_model(net: Classifier, tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    models.save(net, file)
    images = pictures()
    model = models.load(f"{file}|bits?depth=2|jpeg")
    expected = models.defended(net, ["bits?depth=2", "jpeg"])
    assert torch.equal(model(images), expected(images))
    with pytest.raises(ModelError, match="a file holds a model without its defences"):
        models.save(model, file)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("jpg", "unknown defence 'jpg'; did you mean 'jpeg'"),
        ("jpeg?quality=0", r"quality must be in \[1,100\], not 0"),
        ("jpeg?quality=high", "quality must be a number, not 'high'"),
        ("jpeg?quality=7.5", "quality must be a whole number, not 7.5"),
        ("bits?bits=3", r"no option 'bits' \(known: depth\)"),
        ("smoothing?sigma=0", "sigma must be above 0"),
    ],
)
def test_what_is_no_defence_is_said(net: Classifier, spec: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        models.defended(net, [spec])


def test_attacks_of_other_libraries_meet_the_defence(net: Classifier) -> None:
    model = models.defended(net, ["bits?depth=2"])
    images, labels = pictures(), net(pictures()).argmax(dim=1)
    defence: type[Any] = type(cast(Any, model).chain[0])
    plain, calls = defence.__call__, list[int]()

    def counted(self: Any, classify: Any, shown: Tensor) -> Tensor:
        calls.append(len(shown))
        result: Tensor = plain(self, classify, shown)
        return result

    for name in ("torchattack:MIFGSM?steps=3", "torchattacks:MIFGSM?steps=3"):
        calls.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(defence, "__call__", counted)
            attacks.make(name, eps=0.1)(model, images, labels)
        assert sum(calls) >= 3 * len(images)


def test_a_net_of_the_zoo_with_weights_is_defended(net: Classifier, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a model is missing before the"):
        models.load("|jpeg")
    specs = [f"smoothing?sigma=0.1234567{digit}" for digit in (1, 2)]
    digests = {models.digest(models.defended(net, [spec])) for spec in specs}
    assert len(digests) == 2


def test_a_model_is_trained_without_defences() -> None:
    with pytest.raises(ModelError, match="a model is trained without its defences"):
        models.resolve("vgg3|jpeg", num_classes=2, in_channels=3, image_size=16)


def test_two_channels_are_no_jpeg() -> None:
    net = models.build("vgg3?width=4", num_classes=2, in_channels=2, image_size=16, seed=0).eval()
    with pytest.raises(ModelError, match="jpeg: pictures of 1 or 3 channels, not 2"):
        models.defended(net, ["jpeg"])(pictures(2, 2))
