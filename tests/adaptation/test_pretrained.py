"""Published detectors on trained weights: what they keep, what is exchanged, what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models as torchvision_models
from torchvision.models._api import WeightsEnum

from adaptation import detectors
from adaptation.detectors import pretrained
from adaptation.detectors.norms import BATCH, FROZEN
from adaptation.detectors.published import (
    FROZEN_NORMS,
    PUBLISHED,
    WEIGHTS,
    Start,
    coco_classes,
    published,
    statistics_of,
)
from robustkit.data.detection import VOC
from robustkit.errors import ModelError
from robustkit.models.weights import cached_download
from tests.adaptation.test_detectors import batch

SSD, LITE = "ssd300_vgg16", "ssdlite320_mobilenet_v3_large"
RCNN = "fasterrcnn_mobilenet_v3_large_320_fpn"
State = dict[str, Tensor]
CLASSES = ("cat", "unicorn", "aeroplane")  # the last is COCO's airplane


def every(*quick: str) -> list[Any]:
    return [
        pytest.param(name, marks=() if name in quick else pytest.mark.slow)
        for name in sorted(PUBLISHED)
    ]


def random_state(net: nn.Module) -> State:
    """Weights as if trained: none of them as `net` was made, norms with statistics."""
    generator = torch.Generator().manual_seed(7)
    drawn = {}
    for name, each in net.state_dict().items():
        if not each.is_floating_point():
            drawn[name] = torch.zeros(each.shape, dtype=each.dtype)
        elif name.endswith("running_var"):
            drawn[name] = torch.rand(each.shape, generator=generator) + 0.5
        else:
            drawn[name] = 0.03 * torch.randn(each.shape, generator=generator)
    return drawn


def start_of(name: str) -> Start:
    return Start(WEIGHTS, FROZEN if name in FROZEN_NORMS else BATCH)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch's hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def cached(hub: Path) -> Callable[[str], State]:
    """Puts random weights of COCO's shape where torchvision would keep its own."""

    def put(name: str) -> State:
        with torch.device("meta"):
            net = published(name, len(coco_classes()), start_of(name))
        state = random_state(net)
        entry: Any = torchvision_models.get_model_weights(name)
        torch.save(state, hub / entry["COCO_V1"].url.rpartition("/")[2])
        return state

    return put


def class_scores(net: Any, state: State | None = None) -> Tensor:
    """(…, classes) of random features, as the net's own last layers order them."""
    generator = torch.Generator().manual_seed(5)
    net.eval()
    with torch.no_grad():
        if hasattr(net, "roi_heads"):
            features = torch.rand(4, 1024, generator=generator)
            scores, boxes = net.roi_heads.box_predictor(features)
            by_class = boxes.view(4, -1, 4)
            return torch.cat([scores[..., None], by_class], dim=2).movedim(1, 2)
        maps = net.backbone(torch.rand(1, 3, 320, 320, generator=generator))
        scored: Tensor = net.head(list(maps.values()))["cls_logits"]
        return scored


@pytest.mark.parametrize("name", every(SSD, LITE, RCNN))
def test_all_but_the_last_layers_keep_their_bits(
    name: str, cached: Callable[[str], State], tmp_path: Path
) -> None:
    state = cached(name)
    model = detectors.build(f"torchvision:{name}?weights=COCO_V1", CLASSES, seed=0)
    own = model.net.state_dict()
    with torch.device("meta"):
        whole = published(name, 90, start_of(name))
    whole.load_state_dict(state, assign=True)
    exchanged = {key for key in own if pretrained.is_head(key)}
    with torch.device("meta"):
        small, large = published(name, 1).state_dict(), published(name, 2).state_dict()
        fresh = published(name, 3, start_of(name)).state_dict()
    assert {key for key in small if small[key].shape != large[key].shape} == {
        key for key in small if pretrained.is_head(key)
    }
    assert all(torch.equal(own[key], state[key]) for key in own.keys() - exchanged)
    # The layers themselves tell which output is which class's.
    known, ours = class_scores(whole), class_scores(model.net)
    columns = [0, *(1 + coco_classes().index(each) for each in ("cat", "airplane"))]
    torch.testing.assert_close(ours[..., [0, 1, 3]], known[..., columns], atol=1e-6, rtol=1e-5)
    assert ours.shape[-1] == 4
    unicorn = ours[..., 2]
    assert not any(torch.allclose(unicorn, each) for each in known.unbind(-1))
    assert {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in fresh.items()}
    assert any(
        "91 COCO classes -> 3 classes of the data; 2 of 3 classes keep their COCO rows; fresh: "
        "unicorn" in note
        for note in model.notes
    )
    images, truths = batch()
    assert torch.isfinite(model.train().losses(images, truths).total)
    file = tmp_path / "d.safetensors"
    detectors.save(model.eval(), file)
    again = detectors.load(file)
    assert again.notes == model.notes
    assert again.card.provenance["weights"] == "COCO_V1"
    assert [each.requires_grad for each in again.parameters()] == [
        each.requires_grad for each in model.parameters()
    ]
    for a, b in zip(model(images[:1]), again(images[:1]), strict=True):
        assert torch.equal(a.boxes, b.boxes)
        assert torch.equal(a.scores, b.scores)


@pytest.mark.parametrize("name", every(LITE, RCNN))
def test_the_module_is_the_one_that_torchvision_builds_around_its_weights(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours: Any = published(name, 90, start_of(name))
    state = random_state(ours)
    ours.load_state_dict(state)
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: state)
    theirs: Any = PUBLISHED[name](weights="COCO_V1")
    assert [(key, type(each)) for key, each in ours.named_modules()] == [
        (key, type(each)) for key, each in theirs.named_modules()
    ]
    assert [(key, each.requires_grad) for key, each in ours.named_parameters()] == [
        (key, each.requires_grad) for key, each in theirs.named_parameters()
    ]
    assert statistics_of(ours) == statistics_of(theirs)
    image = torch.rand(3, 200, 300, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (found,), (wanted,) = ours.eval()([image]), theirs.eval()([image])
    assert torch.equal(found["boxes"], wanted["boxes"])
    assert torch.equal(found["scores"], wanted["scores"])


@pytest.mark.parametrize("name", every(LITE, RCNN))
def test_a_classifiers_weights_lie_where_torchvision_puts_them(
    name: str, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    architecture = pretrained._classifier_of(name)
    entry: Any = torchvision_models.get_model_weights(architecture)["IMAGENET1K_V1"]
    with torch.device("meta"):
        net = torchvision_models.get_model(architecture, weights=None)
    state = random_state(net)
    torch.save(state, hub / entry.url.rpartition("/")[2])
    spec = f"torchvision:{name}?weights_backbone=IMAGENET1K_V1"
    model = detectors.build(spec, CLASSES, seed=0)
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: state)
    theirs = PUBLISHED[name](weights=None, weights_backbone=entry, num_classes=4)
    ours, wanted = model.net.state_dict(), theirs.state_dict()
    assert {key: each.shape for key, each in ours.items()} == {
        key: each.shape for key, each in wanted.items()
    }
    # What is not the classifier's is drawn at random by both.
    values = {each.double().sum().item() for each in state.values()}
    taken = [key for key, each in wanted.items() if each.double().sum().item() in values]
    taken = [key for key in taken if wanted[key].unique().numel() > 1]
    assert len(taken) > 20
    assert all(torch.equal(ours[key], wanted[key]) for key in taken)
    assert [each.requires_grad for each in model.net.parameters()] == [
        each.requires_grad for each in theirs.parameters()
    ]
    assert model.card.mean == statistics_of(model.net)[0] == (0.485, 0.456, 0.406)
    assert model.notes[0].startswith(f"backbone: {architecture} with IMAGENET1K_V1")


def test_a_detector_on_a_classifiers_weights_loads_again(hub: Path, tmp_path: Path) -> None:
    net = torchvision_models.get_model("mobilenet_v3_large", weights=None, num_classes=7)
    torch.save(random_state(net), tmp_path / "own.pth")
    spec = f"torchvision:{LITE}?weights_backbone={tmp_path / 'own.pth'}"
    model = detectors.build(spec, CLASSES, seed=0).eval()
    detectors.save(model, tmp_path / "d.safetensors")
    again = detectors.load(tmp_path / "d.safetensors")
    images, _ = batch()
    for a, b in zip(model(images), again(images), strict=True):
        assert torch.equal(a.scores, b.scores)
    assert statistics_of(again.net) == statistics_of(model.net)
    assert statistics_of(model.net) != statistics_of(published(LITE, 3))


def test_cocos_own_classes_exchange_nothing(cached: Callable[[str], State]) -> None:
    state = cached(LITE)
    words = detectors.in_words_of(coco_classes(), VOC)
    model = detectors.build(f"torchvision:{LITE}?weights=DEFAULT", words, seed=0)
    assert all(torch.equal(each, state[key]) for key, each in model.net.state_dict().items())
    assert not any("exchanged" in note for note in model.notes)
    twenty = detectors.build(f"torchvision:{LITE}?weights=DEFAULT", VOC, seed=0)
    assert any("20 of 20 classes keep their COCO rows" in note for note in twenty.notes)


def test_fresh_rows_depend_on_the_seed_and_kept_ones_do_not(
    cached: Callable[[str], State],
) -> None:
    cached(LITE)
    one, other = (
        class_scores(detectors.build(f"torchvision:{LITE}?weights=COCO_V1", CLASSES, seed=seed).net)
        for seed in (0, 1)
    )
    assert torch.equal(one[..., [0, 1, 3]], other[..., [0, 1, 3]])
    assert not torch.equal(one[..., 2], other[..., 2])


def test_a_file_that_counted_batches_keeps_its_batch_norms(
    cached: Callable[[str], State], tmp_path: Path
) -> None:
    file = tmp_path / "own.pth"
    torch.save(random_state(published(RCNN, 90, Start(WEIGHTS, BATCH))), file)
    model = detectors.build(f"torchvision:{RCNN}?weights={file}", CLASSES, seed=0)
    assert model.card.architecture["start"] == {"from": "weights", "norms": "batch"}
    norms = [type(each).__name__ for each in model.net.get_submodule("backbone").modules()]
    assert "BatchNorm2d" in norms
    assert "FrozenBatchNorm2d" not in norms
    cached(RCNN)
    named = detectors.build(f"torchvision:{RCNN}?weights=COCO_V1", CLASSES, seed=0)
    assert named.card.architecture["start"] == {"from": "weights", "norms": "frozen"}


def test_a_named_file_is_fetched_only_on_request_and_its_hash_checked(
    hub: Path, tmp_path: Path
) -> None:
    content = b"weights"
    good = tmp_path / f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    bad = tmp_path / "net-00000000.pth"
    for file in (good, bad):
        file.write_bytes(content)
    with pytest.raises(ModelError, match=rf"here: {good.name} is not in .*--download fetches it"):
        cached_download(good.as_uri(), "here", download=False)
    assert cached_download(good.as_uri(), "here", download=True) == hub / good.name
    assert (hub / good.name).read_bytes() == content
    with pytest.raises(ModelError, match=r"cannot fetch .*invalid hash"):
        cached_download(bad.as_uri(), "here", download=True)
    assert not (hub / bad.name).exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("weights=COCO_V1", r"ssdlite320_mobilenet_v3_large_coco-a79551df\.pth is not in .*--down"),
        ("weights=COCO_V2", r"weights=COCO_V2: no such weights; did you mean 'COCO_V1'"),
        ("weights=none.pth", r"none\.pth: no such file of weights"),
        ("weights_backbone=IMAGENET1K_V3", "did you mean 'IMAGENET1K_V"),
        ("weights_backbone=IMAGENET1K_V1", r"mobilenet_v3_large-8738ca79\.pth is not in"),
        ("weights=COCO_V1&weights_backbone=IMAGENET1K_V1", "exclude each other"),
        ("weights=COCO_V1&weights=COCO_V1", "option 'weights' twice"),
        ("weight=COCO_V1", "unknown option 'weight'; did you mean 'weights'"),
        ("weights=", "expected a name such as DEFAULT, or a file"),
        ("weights={other}", r"does not fit the architecture: '.*' is missing"),
        ("weights={few}", r"'head\.classification_head\..*' has shape \(24, .*, not \(546, "),
        ("weights={pickle}", "more than tensors, which would run code"),
        ("weights_backbone={other}", r"does not fit the architecture: '.*' is missing"),
    ],
)
def test_weights_that_are_not_there_or_do_not_fit(
    options: str, said: str, hub: Path, tmp_path: Path
) -> None:
    files = {name: tmp_path / f"{name}.pth" for name in ("other", "few", "pickle")}
    torch.save(
        detectors.build("tiny_ssd?side=64&width=16", CLASSES).net.state_dict(), files["other"]
    )
    torch.save(published(LITE, 3).state_dict(), files["few"])
    torch.save(Callable, files["pickle"])
    with pytest.raises(ModelError, match=said) as caught:
        detectors.build(f"torchvision:{LITE}?{options.format(**files)}", CLASSES, seed=0)
    assert "\n" not in str(caught.value)


def test_weights_have_a_backbone_of_their_own() -> None:
    with pytest.raises(ModelError, match="it takes no other, and no taps"):
        detectors.build(f"torchvision:{LITE}?weights=COCO_V1", CLASSES, taps=["a"])


@pytest.mark.parametrize(
    "start",
    [
        "weights",
        {"from": "weights"},
        {"from": "weights", "norms": 1},
        {"from": "x", "norms": "batch"},
        {"from": "weights", "norms": "frozen"},  # SSDlite has no such norms
    ],
)
def test_a_start_written_by_anybody_is_held_to_the_rules(start: object) -> None:
    card = detectors.build(f"torchvision:{LITE}", CLASSES).card
    wrong = replace(card, architecture={**card.architecture, "start": start})
    with pytest.raises(ModelError, match=r"start|no frozen"):
        detectors.rebuild(wrong)
