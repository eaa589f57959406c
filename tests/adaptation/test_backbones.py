"""Any classifier, colour or grey, as the backbone of a detector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from adaptation import detectors
from adaptation.attacks import DetectionAttack
from robustkit import models
from robustkit.errors import ModelError
from robustkit.models import Block, Blueprint, Classifier, Head
from robustkit.models.state import state_preserved
from tests.adaptation import factories
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


LITE0, BRANCHING = (f"tests.adaptation.factories:{name}" for name in ("lite0", "branching"))


def made_by(factory: str, classes: int, **statistics: Any) -> Classifier:
    return models.build(
        factory, num_classes=classes, in_channels=3, image_size=224, seed=0, **statistics
    ).eval()


@pytest.fixture(scope="module")
def lite0() -> Classifier:
    return made_by(LITE0, 1000, mean=(0.498,) * 3, std=(0.502,) * 3)


@pytest.mark.parametrize("name", TINY)
def test_a_net_of_anybodys_is_a_backbone_with_its_weights(
    name: str, lite0: Classifier, tmp_path: Path
) -> None:
    model = detectors.build(f"{name}?side=128", CLASSES, backbone=lite0, seed=0).eval()
    assert model.card.architecture["taps"] == ["_blocks.4", "_blocks.10", "_blocks.15"]
    assert model.notes == ()
    assert model.card.mean == (0.498,) * 3
    images = list(torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)))
    seen: list[Tensor] = []
    handles = [
        lite0.net.get_submodule(tap).register_forward_hook(lambda *given: seen.append(given[2]))
        for tap in ("_blocks.4", "_blocks.10", "_blocks.15")
    ]
    lite0.net((torch.stack(images) - 0.498) / 0.502)
    for handle in handles:
        handle.remove()
    backbone: Any = model.net.get_submodule("backbone")
    batched, _ = model.net.get_submodule("transform")(images)
    levels = getattr(backbone, "body", backbone)(batched.tensors)
    assert [each.shape[-1] for each in levels.values()] == [16, 8, 4]
    for level, own in zip(levels.values(), seen, strict=True):
        torch.testing.assert_close(level, own)
    file = tmp_path / "d.safetensors"
    detectors.save(model, file)
    count = len(factories.CALLED)
    with pytest.raises(ModelError, match=rf"made by the function {LITE0}, .*--trust {LITE0}$"):
        detectors.load(file)
    assert len(factories.CALLED) == count
    again = detectors.load(file, trust=[LITE0])
    assert detectors.digest(again) == detectors.digest(model)
    for first, second in zip(model(images), again(images), strict=True):
        assert torch.equal(first.scores, second.scores)
        assert torch.equal(first.boxes, second.boxes)


@pytest.mark.parametrize("name", [*TINY, "tiny_ssd?fpn=32"])
def test_frozen_norms_stay_what_they_are(name: str, lite0: Classifier, tmp_path: Path) -> None:
    spec = f"{name}{'&' if '?' in name else '?'}side=128&norm=frozen"
    model = detectors.build(spec, CLASSES, backbone=lite0, seed=0).train()
    images, truths = batch()
    parameters = [each for each in model.parameters() if each.requires_grad]
    before = {key: each.clone() for key, each in model.state_dict().items()}
    with state_preserved(model):  # as an attack does
        model.losses(images, truths)
    loss = model.losses(images, truths).total
    loss.backward()  # type: ignore[no-untyped-call]
    torch.optim.SGD(parameters, lr=0.1).step()
    after = model.state_dict()
    norms = [key for key in before if "_bn" in key]
    assert norms
    assert all(torch.equal(before[key], after[key]) for key in norms)
    moved = [key for key in before if not torch.equal(before[key], after[key])]
    assert any("_blocks.0." in key for key in moved)
    file = tmp_path / "d.safetensors"
    detectors.save(model, file)
    again = detectors.load(file, trust=[LITE0]).train()
    assert detectors.digest(again) == detectors.digest(model)
    assert [each.requires_grad for each in again.parameters()] == [
        each.requires_grad for each in model.parameters()
    ]


def test_a_frozen_backbone_read_by_hooks_is_the_same_in_losses_and_features() -> None:
    body = made_by(BRANCHING, 5)
    net: Any = body.net
    net.first = nn.Sequential(net.first, factories.Shaky())
    model = detectors.build("tiny_ssd?side=64&norm=frozen", CLASSES, backbone=body, seed=0).train()
    images, truths = batch()
    _, maps = model.losses_and_features(images, truths)
    for level, again in zip(maps.values(), model.features(images).values(), strict=True):
        torch.testing.assert_close(level, again)


def test_batch_norms_become_group_norms(lite0: Classifier, tmp_path: Path) -> None:
    model = detectors.build("tiny_ssd?side=128&norm=group", CLASSES, backbone=lite0, seed=0)
    body: Any = model.net.get_submodule("backbone")
    assert not any(isinstance(each, nn.BatchNorm2d) for each in body.modules())
    own, known = body.net.get_submodule("_blocks.3._bn1"), lite0.net.get_submodule("_blocks.3._bn1")
    assert isinstance(own, nn.GroupNorm)
    torch.testing.assert_close(own.weight, known.weight)
    torch.testing.assert_close(own.bias, known.bias)
    file = tmp_path / "d.safetensors"
    detectors.save(model, file)
    again = detectors.load(file, trust=[LITE0])
    assert detectors.digest(again) == detectors.digest(model)
    # Unlike batch norm's, its figures of one image do not depend on the others.
    images, _ = batch()
    body = made_by(BRANCHING, 5)
    for norm, apart in (("group", False), ("batch", True)):
        model = detectors.build(f"tiny_ssd?side=64&norm={norm}", CLASSES, backbone=body, seed=0)
        alone, among = (model.train().features(each)["1"][:1] for each in (images[:1], images))
        assert torch.allclose(alone, among, rtol=1e-4, atol=1e-5) is not apart


def test_a_backbone_without_batch_norms_has_none_to_replace() -> None:
    blocks = tuple(replace(block, norm="group") for block in EVOLVED.blocks)
    without = replace(EVOLVED, blocks=blocks)
    body = models.build(without, num_classes=3, in_channels=3, image_size=64, seed=0)
    with pytest.raises(ModelError, match="norm=group replaces batch norms, and this backbone has"):
        detectors.build("tiny_ssd?side=64&norm=group", CLASSES, backbone=body, seed=0)


def test_an_attack_leaves_a_cut_backbone_in_training_mode(lite0: Classifier) -> None:
    # torch.fx cuts a graph for each mode; that of training drops paths.
    model = detectors.build("tiny_ssd?side=64", CLASSES, backbone=lite0, seed=0).train()
    images, truths = batch()
    body: Any = model.net.get_submodule("backbone")
    trained_on = body.net.graph
    model.eval()
    assert body.net.graph is not trained_on
    model.train()
    DetectionAttack()(model, images, truths, generator=torch.Generator().manual_seed(0))
    assert body.net.graph is trained_on


def test_a_block_whose_stride_is_the_image_is_refused() -> None:
    body = models.build("torchvision:resnet18", num_classes=3, in_channels=3, image_size=64, seed=0)
    with pytest.raises(
        ModelError, match=r"'avgpool' gives maps of \(1, 1\) pixels on images of 64"
    ):
        detectors.build("tiny_ssd?side=64", CLASSES, backbone=body, taps=["layer1", "avgpool"])


def test_stages_end_at_the_taps(lite0: Classifier) -> None:
    model = detectors.build("tiny_fcos?side=128&norm=frozen", CLASSES, backbone=lite0, seed=0)
    names = {id(each): name for name, each in model.named_parameters()}
    stages = [[names[id(each)] for each in stage] for stage in model.stages()]
    assert len(stages) == 3
    assert stages[0][0].startswith("net.backbone.body.net._conv_stem")
    assert "._blocks.4." in stages[0][-1]
    assert "._blocks.5." in stages[1][0]
    assert "._blocks.10." in stages[1][-1]
    assert "._blocks.15." in stages[2][-1]
    assert not any("pyramid" in name for stage in stages for name in stage)


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "ssdlite320_mobilenet_v3_large"])
def test_published_backbones_have_stages_too(name: str) -> None:
    model = detectors.build(f"torchvision:{name}", CLASSES, seed=0)
    names = {id(each): key for key, each in model.named_parameters()}
    stages = [[names[id(each)] for each in stage] for stage in model.stages()]
    assert len(stages) >= 2
    listed = [key for stage in stages for key in stage]
    assert len(set(listed)) == len(listed)
    assert all(key.startswith("net.backbone.") for key in listed)
    assert not any(".fpn." in key for key in listed)


def test_the_classifier_is_left_as_it_was(lite0: Classifier) -> None:
    before = models.digest(lite0)
    model = detectors.build("tiny_ssd?side=64", CLASSES, backbone=lite0, taps=["_blocks.4"])
    model.train().losses(*batch())
    assert models.digest(lite0) == before
    assert not lite0.training
    assert not any(each._forward_hooks for each in lite0.modules())


def test_a_net_that_cannot_be_traced_is_read_by_hooks(tmp_path: Path) -> None:
    body = made_by(BRANCHING, 5)
    model = detectors.build("tiny_ssd?side=64", CLASSES, backbone=body, seed=0).eval()
    (note,) = model.notes
    assert note.startswith("backbone: read by hooks at stem, first, second, since torch.fx cannot")
    images, truths = batch()
    net: Any = body.net
    first = net.first(net.stem(torch.stack(images)))
    torch.testing.assert_close(model.features(images)["1"], first)
    torch.testing.assert_close(model.features(images)["2"], net.second(first))
    backbone: Any = model.net.get_submodule("backbone")
    heads: list[Tensor] = []
    backbone.net.head.register_forward_hook(lambda *given: heads.append(given[2]))
    loss = model.train().losses(images, truths).total
    torch.autograd.backward(loss)
    assert backbone.net.first[0].weight.grad.abs().sum() > 0
    assert not heads  # the rest of the net is not computed
    assert not any(each._forward_hooks for each in backbone.net.second.modules())
    model.eval()
    detectors.save(model, tmp_path / "d.safetensors")
    again = detectors.load(tmp_path / "d.safetensors", trust=[BRANCHING])
    assert again.notes == model.notes
    for a, b in zip(model(images), again(images), strict=True):
        assert torch.equal(a.scores, b.scores)


@pytest.mark.parametrize(
    ("taps", "said"),
    [
        (["secnod"], "no block 'secnod' in the backbone; did you mean 'second'"),
        (["unused"], "block 'unused' gives no tensor, or is not run"),
        (["head"], r"block 'head' gives \(1, 5\), not \(N,C,h,w\)"),
    ],
)
def test_taps_that_are_no_maps(taps: list[str], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        detectors.build("tiny_ssd?side=64", CLASSES, backbone=made_by(BRANCHING, 5), taps=taps)


def test_a_net_for_one_size_of_images_is_no_backbone_for_another() -> None:
    layers = [nn.Conv2d(3, 4, 3, 4, 1), nn.Flatten(), nn.Linear(4 * 56 * 56, 5)]
    card = replace(models.wrap(nn.Identity()).card, input_shape=(3, 224, 224))
    body = Classifier(nn.Sequential(*layers), card)
    with pytest.raises(ModelError, match=r"be a backbone for images of 64 pixels: mat1 and"):
        detectors.build("tiny_ssd?side=64", CLASSES, backbone=body)


def test_many_blocks_are_not_all_listed(lite0: Classifier) -> None:
    with pytest.raises(ModelError, match=r"did you mean '_blocks\.\d+'\? \(known: ") as caught:
        detectors.build("tiny_ssd", CLASSES, backbone=lite0, taps=["_blocks.16"])
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "made",
    [
        "x",
        {"classes": 5},
        {"classes": 5, "size": [64]},
        {"classes": 5, "size": [64, 10**9]},
        {"classes": True, "size": [64, 64]},
        {"classes": 5, "size": [64, 64], "read": "eval"},
        {"classes": 10**9, "size": [64, 64]},
    ],
)
def test_how_a_backbone_was_made_is_held_to_the_rules(made: object) -> None:
    card = detectors.build("tiny_ssd?side=64", CLASSES, backbone=made_by(BRANCHING, 5)).card
    wrong = replace(card, architecture={**card.architecture, "made": made})
    with pytest.raises(ModelError, match="with a backbone made of"):
        detectors.rebuild(wrong, trust=[BRANCHING])


def test_weights_come_with_a_classifier_and_not_with_its_card() -> None:
    body = models.build("vgg5?width=8", num_classes=10, in_channels=3, image_size=32, seed=1)
    with_weights, without = (
        detectors.build("tiny_ssd?side=64", CLASSES, backbone=each, seed=0).net.state_dict()
        for each in (body, body.card)
    )
    assert with_weights.keys() == without.keys()
    own = body.net.state_dict()
    for name, each in with_weights.items():
        inner = name.removeprefix("backbone.net.")
        if inner in own:
            assert torch.equal(each, own[inner])
        else:
            assert torch.equal(each, without[name])


@pytest.mark.parametrize(
    "source", ["torchvision:mobilenet_v3_small?weights", "timm:tinynet_e?pretrained"]
)
def test_trained_nets_of_libraries_are_backbones(source: str, tmp_path: Path) -> None:
    library, _, name = source.partition("?")[0].partition(":")
    torch.manual_seed(1)
    if library == "timm":
        net = pytest.importorskip("timm").create_model(name)
    else:
        net = torchvision.models.get_model(name, weights=None)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    body = models.load(f"{source}={tmp_path / 'net.pth'}")
    model = detectors.build("tiny_ssd?side=64", CLASSES, backbone=body, seed=0).eval()
    assert model.card.mean == body.card.mean == (0.485, 0.456, 0.406)
    own = model.net.get_submodule("backbone.net").state_dict()
    state = net.state_dict()
    assert len(own) > 50
    assert all(torch.equal(each, state[name]) for name, each in own.items())
    detectors.save(model, tmp_path / "d.safetensors")
    again = detectors.load(tmp_path / "d.safetensors")
    images, _ = batch()
    for first, second in zip(model(images), again(images), strict=True):
        assert torch.equal(first.scores, second.scores)


def test_a_backbone_that_wants_blue_first_is_refused() -> None:
    body = made_by(BRANCHING, 5)
    preprocessing = replace(body.card.preprocessing, channel_order="bgr")
    turned = Classifier(body.net, replace(body.card, preprocessing=preprocessing))
    with pytest.raises(ModelError, match="takes its channels as bgr"):
        detectors.build("tiny_ssd?side=64", CLASSES, backbone=turned)
