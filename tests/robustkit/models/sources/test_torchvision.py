from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from robustkit import models
from robustkit.data.pictures import Format, shaped_pixels
from robustkit.errors import ModelError
from tests.robustkit.models.sources.pictures import fed_to, photographs

# MNASNet reads the version of its module that a state dict tells.
NAMES = ("squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v3_small", "mnasnet0_5")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch's hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def put(hub: Path, name: str) -> tuple[nn.Module, Any]:
    """torchvision's net with random weights, which lie in the cache as its default ones."""
    torch.manual_seed(1)
    net = torchvision.models.get_model(name, weights=None)
    for module in net.modules():  # statistics that are not those of a fresh net
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    weights = torchvision.models.get_model_weights(name).DEFAULT
    torch.save(net.state_dict(), hub / Path(weights.url).name)
    return net.eval(), weights


@pytest.mark.parametrize("name", NAMES)
def test_a_net_is_fed_what_torchvision_feeds_it(hub: Path, name: str, tmp_path: Path) -> None:
    """Its own `transforms()` on a picture file, against our pixel space and the model's layer."""
    net, weights = put(hub, name)
    model = models.load(f"torchvision:{name}?weights=DEFAULT")
    preset, geometry = weights.transforms(), model.card.preprocessing.geometry
    assert geometry is not None
    for picture in photographs():
        own = preset(picture)[None]
        pixels = shaped_pixels(picture, Format(3, *geometry.size, geometry))
        fed, logits = fed_to(model.net, model, torch.from_numpy(pixels.copy())[None] / 255)
        torch.testing.assert_close(fed, own, atol=1e-6, rtol=0)
        with torch.no_grad():
            torch.testing.assert_close(logits, net(own), atol=1e-6, rtol=1e-6)
    assert len(set(model.classes)) == 1000
    assert model.card.provenance["published"]["accuracy"] == pytest.approx(
        weights.meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100
    )
    models.save(model, tmp_path / "saved.safetensors")
    again = models.load(tmp_path / "saved.safetensors")
    x = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
    assert again.card.preprocessing == model.card.preprocessing


def test_a_file_of_weights_is_fed_alike(hub: Path, tmp_path: Path) -> None:
    put(hub, NAMES[0])
    model = models.load(f"torchvision:{NAMES[0]}?weights=DEFAULT")
    save_file(model.net.state_dict(), tmp_path / "own.safetensors")
    torch.save({"state_dict": model.net.state_dict()}, tmp_path / "own.pth")
    x = torch.rand(2, 3, 224, 224)
    for file in ("own.safetensors", "own.pth"):
        spec = f"torchvision:{NAMES[0]}?weights={tmp_path / file}"
        with torch.no_grad():
            torch.testing.assert_close(models.load(spec)(x), model(x), atol=1e-6, rtol=0)
        beside = models.load(f"torchvision:{NAMES[0]}", weights=tmp_path / file)
        assert beside.card.preprocessing == model.card.preprocessing


def test_a_file_of_other_classes_takes_pictures_as_they_come(tmp_path: Path) -> None:
    net = torchvision.models.get_model(NAMES[0], weights=None, num_classes=4).eval()
    torch.save(net.state_dict(), tmp_path / "four.pth")
    spec = f"torchvision:{NAMES[0]}?weights={tmp_path / 'four.pth'}"
    model = models.load(spec, classes=tuple("abcd"))
    x = torch.rand(2, 3, 50, 40)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        own = net((x - mean.view(3, 1, 1)) / std.view(3, 1, 1))
        torch.testing.assert_close(model(x), own, atol=1e-6, rtol=0)
    assert model.classes == tuple("abcd")
    told = models.load(f"{spec}&mean=0.5,0.5,0.5&std=0.5,0.5,0.5&input_size=64x48", num_classes=4)
    fed, _ = fed_to(told.net, told, x)
    assert fed.shape[2:] == (64, 48)


def test_other_classes_get_a_new_head_and_nothing_else(hub: Path) -> None:
    net, _ = put(hub, "shufflenet_v2_x0_5")
    spec = "torchvision:shufflenet_v2_x0_5?weights=DEFAULT"
    site: dict[str, Any] = {"in_channels": 3, "image_size": 64}
    model = models.resolve(spec, num_classes=5, classes=tuple("vwxyz"), seed=0, **site)
    assert model.notes == ("new head: 1,000 classes of the weights become the data's 5",)
    assert model.classes == tuple("vwxyz")
    own = net.state_dict()
    for name, tensor in model.net.state_dict().items():
        if name.startswith("fc."):
            assert tensor.shape[0] == 5
        else:
            assert torch.equal(tensor, own[name]), name
    again = models.resolve(spec, num_classes=5, classes=tuple("vwxyz"), seed=0, **site)
    other = models.resolve(spec, num_classes=5, classes=tuple("vwxyz"), seed=1, **site)
    assert models.digest(model) == models.digest(again) != models.digest(other)
    kept = models.load(spec).classes
    same = models.resolve(spec, num_classes=1000, classes=kept, seed=0, **site)
    assert not same.notes
    assert torch.equal(same.net.get_parameter("fc.weight"), net.get_parameter("fc.weight"))


def test_grey_pictures_are_shown_in_colour(hub: Path) -> None:
    put(hub, NAMES[0])
    model = models.load(f"torchvision:{NAMES[0]}?weights=DEFAULT")
    x = torch.rand(2, 1, 224, 224)
    with torch.no_grad():
        assert torch.equal(model(x), model(x.expand(-1, 3, -1, -1)))


def test_weights_are_never_fetched_unasked(hub: Path) -> None:
    with pytest.raises(ModelError, match=r"squeezenet1_1-\w+\.pth is not in .*--download"):
        models.load("torchvision:squeezenet1_1?weights=IMAGENET1K_V1")


def test_a_cached_file_that_would_run_code_is_refused(hub: Path) -> None:
    weights = torchvision.models.get_model_weights(NAMES[0]).DEFAULT
    torch.save(nn.Linear(2, 2), hub / Path(weights.url).name)
    with pytest.raises(ModelError, match=r"refused: .*more than tensors"):
        models.load(f"torchvision:{NAMES[0]}?weights=DEFAULT")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("torchvision:resnet5?weights=DEFAULT", "no classifier 'resnet5'; the nearest names are"),
        ("torchvision:resnet50?weights=IMAGENET1K_V3", "no weights 'IMAGENET1K_V3' for resnet50"),
        ("torchvision:resnet50?weights=IMAGENET1K_V3", "did you mean 'IMAGENET1K_V"),
        ("torchvision:resnet50?weight=DEFAULT", "unknown option 'weight'; did you mean 'weights'"),
        ("torchvision:resnet50?weights=gone.pth", r"gone\.pth: no such file of weights"),
        ("torchvision:resnet50?weights", "expected key=value"),
        ("torchvision:resnet50?weights=a&weights=b", "'weights' is given twice"),
        ("torchvision:resnet50", "untrained"),
        ("torchvision:", "a name is missing"),
        ("torchvision:squeezenet1_1?weights=DEFAULT&mean=0.5", "mean and std are given together"),
        ("torchvision:squeezenet1_1?weights=DEFAULT&input_size=big", "expected numbers"),
    ],
)
def test_mistakes_are_one_line(hub: Path, spec: str, said: str) -> None:
    put(hub, NAMES[0])
    with pytest.raises(ModelError, match=said) as error:
        models.load(spec)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3", "vit_b_16", "vit_h_14"])
def test_nets_that_their_weights_change_are_built_again(name: str) -> None:
    """Without weights, on no device: the card's options make the module that the weights need."""
    from robustkit.models.sources.torchvision import _options

    for weights in torchvision.models.get_model_weights(name):
        options = _options(name, weights)
        if name in ("googlenet", "inception_v3"):
            assert options == {"transform_input": True}
        else:
            side = weights.meta["min_size"][0]
            assert options == ({} if side == 224 else {"image_size": side})


def test_what_inception_has_for_its_training_is_left_out(hub: Path, tmp_path: Path) -> None:
    """By name, by its official file, and saved: the same net, which scales its input itself."""
    torch.manual_seed(0)
    net = torchvision.models.inception_v3(weights=None, init_weights=False, transform_input=True)
    file = hub / Path(torchvision.models.Inception_V3_Weights.DEFAULT.url).name
    torch.save(net.state_dict(), file)
    net.aux_logits, net.AuxLogits = False, None
    net.eval()
    named = models.load("torchvision:inception_v3?weights=DEFAULT")
    given = models.load(f"torchvision:inception_v3?weights={file}")
    models.save(named, tmp_path / "saved.safetensors")
    saved = models.load(tmp_path / "saved.safetensors")
    x = torch.rand(1, 3, 299, 299)
    with torch.no_grad():
        expected = net(named.preprocess(x))
        for model in (named, given, saved):
            torch.testing.assert_close(model(x), expected, atol=1e-6, rtol=1e-6)
    site: dict[str, Any] = {"in_channels": 3, "image_size": 299}
    headed = models.resolve(
        "torchvision:inception_v3?weights=DEFAULT", num_classes=3, seed=0, **site
    )
    assert headed.net.train()(x.expand(2, -1, -1, -1)).shape == (2, 3)
    assert "published" in named.card.provenance
    assert "published" not in headed.card.provenance


def test_a_file_with_a_published_name_is_taken_for_it(hub: Path, tmp_path: Path) -> None:
    """ResNet-50's first weights were evaluated in another geometry than its second."""
    torch.manual_seed(0)
    weights = torchvision.models.ResNet50_Weights
    file = tmp_path / Path(weights.IMAGENET1K_V1.url).name
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), file)
    geometry = models.load(f"torchvision:resnet50?weights={file}").card.preprocessing.geometry
    assert geometry is not None
    assert geometry.resize == weights.IMAGENET1K_V1.transforms().resize_size[0] == 256
