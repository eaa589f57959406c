"""Any classifier, colour or grey, as the backbone of a detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from adaptation import detectors
from robustkit import models
from robustkit.errors import ModelError
from robustkit.models import Block, Blueprint, Head
from tests.adaptation.test_detectors import CLASSES, TINY, batch

EVOLVED = Blueprint(
    blocks=(
        Block(kind="conv", channels=16, stride=2),
        Block(kind="dense", channels=16, stride=2, norm="group", activation="gelu", inputs=(1,)),
        Block(kind="residual", channels=32, stride=2, inputs=(2,)),
        Block(kind="pool", stride=2, inputs=(3,)),
        Block(kind="separable", channels=32, inputs=(4,)),
    ),
    head=Head(pool="flatten", hidden=16),
)


@pytest.mark.parametrize(
    "architecture", ["resnet20", "vgg5?width=8", "mobilenet", "torchvision:resnet18", EVOLVED]
)
@pytest.mark.parametrize("name", ["tiny_ssd", "tiny_fcos"])
def test_any_classifier_is_a_backbone(
    name: str, architecture: str | Blueprint, tmp_path: Path
) -> None:
    body = models.build(architecture, num_classes=10, in_channels=3, image_size=32, seed=1)
    model = detectors.build(f"{name}?side=64", CLASSES, backbone=body.card, seed=0)
    found: Any = model.net.get_submodule("backbone")
    detectors.take_weights(getattr(found, "body", found), body)
    images, truths = batch()
    loss = model.train().losses(images, truths).total
    assert torch.isfinite(loss)
    maps = model.eval().features(images)
    assert len(maps) == 3
    detectors.save(model, tmp_path / "d.safetensors")
    again = detectors.load(tmp_path / "d.safetensors")
    for first, second in zip(model(images), again(images), strict=True):
        assert torch.equal(first.scores, second.scores)


def test_the_backbone_computes_what_the_classifier_did() -> None:
    body = models.build("vgg5?width=8", num_classes=10, in_channels=3, image_size=64, seed=1)
    model = detectors.build(
        "tiny_ssd?side=64", CLASSES, backbone=body.card, taps=["stage2", "stage3"], seed=0
    )
    found: Any = model.net.get_submodule("backbone")
    detectors.take_weights(found, body)
    seen: list[Tensor] = []
    handle = body.net.get_submodule("stage2").register_forward_hook(
        lambda *given: seen.append(given[2])
    )
    images, _ = batch()
    body.eval()(torch.stack(images))
    handle.remove()
    torch.testing.assert_close(model.eval().features(images)["0"], seen[0])


@pytest.mark.parametrize("name", TINY)
def test_a_grey_classifier_sees_the_mean_of_the_channels(name: str, tmp_path: Path) -> None:
    body = models.build(
        EVOLVED, num_classes=10, in_channels=1, image_size=64, mean=(0.3,), std=(0.2,), seed=1
    ).eval()
    model = detectors.build(f"{name}?side=64", CLASSES, backbone=body.card, seed=0).eval()
    found: Any = model.net.get_submodule("backbone")
    found = getattr(found, "body", found)
    detectors.take_weights(found, body)
    taps = model.card.architecture["taps"]
    seen: dict[str, Tensor] = {}
    for tap in taps:
        body.net.get_submodule(tap).register_forward_hook(
            lambda *given, tap=tap: seen.update({tap: given[2]})
        )
    images = torch.stack(batch()[0])
    body(images.mean(dim=1, keepdim=True))
    levels = found(torch.stack([(x - 0.3) / 0.2 for x in images]))
    for number, tap in enumerate(taps):
        torch.testing.assert_close(levels[str(number)], seen[tap], atol=1e-5, rtol=1e-4)
    detectors.save(model, tmp_path / "d.safetensors")
    again = detectors.load(tmp_path / "d.safetensors")
    assert detectors.digest(again) == detectors.digest(model)
    for first, second in zip(model(images), again(images), strict=True):
        assert torch.equal(first.scores, second.scores)


def test_two_channels_are_neither_grey_nor_colour() -> None:
    body = models.build("vgg3", num_classes=3, in_channels=2, image_size=32, seed=0)
    with pytest.raises(ModelError, match="of which a backbone sees all or the mean"):
        detectors.build("tiny_ssd?side=64", CLASSES, backbone=body.card)
