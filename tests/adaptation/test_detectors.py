"""Detectors: what goes in, what comes out, one file each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from adaptation import detectors
from adaptation.attacks import DetectionAttack
from adaptation.detectors import Detector
from robustkit import models
from robustkit.data.detection import Truth, truth
from robustkit.errors import ModelError

CLASSES = ("cat", "dog", "owl")


TINY = ("tiny_ssd", "tiny_fcos", "tiny_fasterrcnn")


SIDE = "?side=64&width=16"


def made(name: str = "tiny_ssd", options: str = SIDE) -> Detector:
    return detectors.build(name + options, CLASSES, seed=0)


def batch() -> tuple[list[Tensor], list[Truth]]:
    generator = torch.Generator().manual_seed(0)
    pixels = [torch.rand(3, 64, 64, generator=generator) for _ in range(3)]
    truths = [
        truth([[5, 5, 30, 40], [20, 30, 60, 60]], [0, 2]),
        truth([], []),
        truth([[10, 10, 40, 40], [0, 0, 64, 64]], [1, 0], crowd=[False, True]),
    ]
    return pixels, truths


@pytest.mark.parametrize("name", TINY)
def test_detections_are_boxes_in_the_images_pixels(name: str) -> None:
    model = made(name).eval()
    images = [torch.rand(3, 64, 64), torch.rand(3, 50, 90)]
    for each, image in zip(model(images), images, strict=True):
        _, height, width = image.shape
        assert each.boxes.shape == (len(each), 4)
        assert (each.boxes >= 0).all()
        assert (each.boxes[:, [0, 2]] <= width + 1e-3).all()
        assert (each.boxes[:, [1, 3]] <= height + 1e-3).all()
        assert each.labels.tolist() == [label for label in each.labels.tolist() if 0 <= label < 3]
        assert (each.scores.diff() <= 0).all()


@pytest.mark.parametrize("name", TINY)
def test_losses_are_positive_have_gradients_and_leave_the_mode(name: str) -> None:
    images, truths = batch()
    model = made(name)
    for mode in (True, False):
        model.train(mode)
        modes = [module.training for module in model.modules()]
        torch.manual_seed(0)
        loss = model.losses(images, truths)
        assert loss.classification > 0
        assert loss.localisation >= 0
        assert [module.training for module in model.modules()] == modes
        grads = torch.autograd.grad(loss.total, list(model.parameters()), allow_unused=True)
        assert sum(each is not None and bool(each.any()) for each in grads) > 10


def test_a_region_of_many_is_no_example() -> None:
    images, truths = batch()
    model = made()
    without = [*truths[:2], truth([[10, 10, 40, 40]], [1])]
    assert torch.equal(model.losses(images, truths).total, model.losses(images, without).total)


def test_batch_norm_moves_in_training_mode_alone() -> None:
    images, truths = batch()
    model = made(options=SIDE + "&norm=batch")
    before = {name: each.clone() for name, each in model.named_buffers()}
    model.eval().losses(images, truths)
    assert all(torch.equal(before[name], each) for name, each in model.named_buffers())
    model.train().losses(images, truths)
    assert not all(torch.equal(before[name], each) for name, each in model.named_buffers())


def test_the_detector_normalises() -> None:
    images, _ = batch()
    model = made().eval()
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (model.card.mean, model.card.std))
    maps = model.features(images)
    raw = model.net.get_submodule("backbone")(torch.stack([(x - mean) / std for x in images]))
    assert list(maps) == ["0", "1", "2"]
    for name, each in maps.items():
        torch.testing.assert_close(each, raw[name])
    assert [each.shape[-1] for each in maps.values()] == [8, 4, 2]


def test_features_of_the_loss_are_the_ones_it_was_made_of() -> None:
    images, truths = batch()
    model = made()
    loss, maps = model.losses_and_features(images, truths)
    torch.testing.assert_close(loss.total, model.losses(images, truths).total)
    for name, each in model.features(images).items():
        torch.testing.assert_close(maps[name], each)
    assert not model.net.get_submodule("backbone")._forward_hooks


@pytest.mark.parametrize("name", TINY)
def test_one_file_holds_a_detector(name: str, tmp_path: Path) -> None:
    model, file = made(name).eval(), tmp_path / "d.safetensors"
    detectors.save(model, file, why="test")
    again = detectors.load(file)
    assert detectors.digest(again) == detectors.digest(model)
    assert again.classes == CLASSES
    assert again.card.provenance["why"] == "test"
    images, _ = batch()
    for a, b in zip(model(images), again(images), strict=True):
        assert torch.equal(a.boxes, b.boxes)
        assert torch.equal(a.scores, b.scores)


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = detectors.digest(made())
    torch.manual_seed(2)
    assert detectors.digest(made()) == first
    other = detectors.build("tiny_ssd" + SIDE, CLASSES, seed=1)
    assert detectors.digest(other) != first


def test_classifiers_and_detectors_are_told_apart(tmp_path: Path) -> None:
    classifier, detector = tmp_path / "c.safetensors", tmp_path / "d.safetensors"
    models.save(
        models.build("small", num_classes=3, in_channels=3, image_size=16, seed=0), classifier
    )
    detectors.save(made(), detector)
    with pytest.raises(ModelError, match="holds a classifier where a detector is needed"):
        detectors.load(classifier)
    with pytest.raises(ModelError, match="holds a detector, where a classifier is needed"):
        models.load(detector)
    detector.write_bytes(detector.read_bytes()[:-4] + b"abcd")
    with pytest.raises(ModelError, match="damaged"):
        detectors.load(detector)


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        ("tiny_sdd", {}, "unknown detector 'tiny_sdd'; did you mean 'tiny_ssd'"),
        ("tiny_ssd?side=96&side=128", {}, "option 'side' twice"),
        ("tiny_ssd?norms=batch", {}, "unknown option 'norms'; did you mean 'norm'"),
        ("tiny_ssd?norm=layer", {}, "unknown norm 'layer'"),
        ("tiny_ssd?width=20", {}, "a multiple of 16"),
        ("tiny_ssd?side=100", {}, "a multiple of 32"),
        ("tiny_ssd?width=a", {}, "a whole number"),
        ("torchvision:ssd300", {}, "did you mean 'ssd300_vgg16'"),
        ("torchvision:ssd300_vgg16", {"backbone": True}, "neither options nor a backbone"),
        ("tiny_ssd?width=32", {"backbone": True}, "its own width"),
        ("tiny_ssd?norm=frozen", {}, "a backbone's trained norms; a fresh detector's are group or"),
        ("tiny_ssd?fpn=20", {}, "fpn must be a multiple of 16"),
        ("tiny_ssd", {"backbone": True, "taps": ["stage9"]}, "no block 'stage9' in the backbone"),
    ],
)
def test_names_and_options_that_are_not_there(
    spec: str, options: dict[str, Any], said: str
) -> None:
    if options.pop("backbone", False):
        body = models.build("vgg3", num_classes=3, in_channels=3, image_size=32, seed=0)
        options["backbone"] = body.card
    with pytest.raises(ModelError, match=said):
        detectors.build(spec, CLASSES, **options)


def test_images_that_are_none() -> None:
    model = made().eval()
    for image in (torch.zeros(3, 64, 64, dtype=torch.uint8), torch.zeros(1, 64, 64)):
        with pytest.raises(ModelError, match=r"float \(3,H,W\) in \[0,1\]"):
            model([image])
    with pytest.raises(ModelError, match="call eval"):
        model.train()([torch.rand(3, 64, 64)])


QUICK = ("fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in sorted(detectors.PUBLISHED)
    ],
)
def test_published_detectors_learn_detect_and_can_be_attacked(name: str) -> None:
    model = detectors.build(f"torchvision:{name}", CLASSES, seed=0)
    images, truths = batch()
    loss = model.train().losses(images, truths)
    torch.autograd.backward(loss.total)
    assert torch.isfinite(loss.total)
    assert all(each.grad is not None for each in model.parameters() if each.requires_grad)
    before = [each.clone() for each in model.buffers()]
    attacked = DetectionAttack(eps=4 / 255, steps=1)(
        model, images, truths, generator=torch.Generator().manual_seed(0)
    )
    for image, other in zip(images, attacked, strict=True):
        assert 0 < (image - other).abs().max() <= 4 / 255 + 1e-6
    assert all(a.equal(b) for a, b in zip(before, model.buffers(), strict=True))
    assert len(model.eval()(images[:1])) == 1


def test_the_published_classes_are_counted_without_background() -> None:
    assert len(detectors.coco_classes()) == len(set(detectors.coco_classes())) == 90


@pytest.mark.parametrize("name", TINY)
def test_one_class_is_enough(name: str, tmp_path: Path) -> None:
    images, _ = batch()
    truths = [truth([[5, 5, 30, 40]], [0]) for _ in images]
    model = detectors.build(name + SIDE, ("person",), seed=0)
    assert torch.isfinite(model.losses(images, truths).total)
    detectors.save(model, tmp_path / "one.safetensors")
    found = detectors.load(tmp_path / "one.safetensors").eval()(images)
    assert {int(label) for each in found for label in each.labels} <= {0}


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"width": 20}},
        {"options": {"width": -16}},
        {"options": []},
        {"options": {"colour": 1}},
        {"name": 3},
        {"name": "zz"},
        {"backbone": "x"},
        {"backbone": {"family": "zz"}, "taps": ["a"]},
        {"channels": 2},
        {"channels": True},
    ],
)
def test_a_card_written_by_anybody_is_held_to_the_rules(change: dict[str, Any]) -> None:
    card = made().card
    for bad in (
        replace(card, architecture={**card.architecture, **change}),
        replace(card, input_shape=(3, 96, 96)),
        replace(card, classes=("a", "a")),
    ):
        with pytest.raises(ModelError):
            detectors.rebuild(bad)
