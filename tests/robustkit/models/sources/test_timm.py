from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from robustkit.class_names import imagenet_classes
from robustkit.errors import ModelError
from robustkit.geometry import Geometry
from robustkit.models import Classifier, load, resolve, save
from robustkit.models.sources.timm import timm_preprocessing
from tests.robustkit.models.sources.conftest import snapshot
from tests.robustkit.models.sources.pictures import fed_to, photographs, shown

timm = pytest.importorskip("timm")
SMALL = "mobilenetv3_small_050"
HUB = "timm/mobilenetv3_small_050.lamb_in1k"
TINY_VIT = {"embed_dim": 48, "depth": 2, "num_heads": 3, "img_size": 32, "patch_size": 8}


def library(name: str = SMALL, **given: Any) -> nn.Module:
    """timm's own net with weights of our own."""
    torch.manual_seed(7)
    net: nn.Module = timm.create_model(name, **given)
    for buffer in net.buffers():
        if buffer.is_floating_point():
            buffer.add_(torch.rand_like(buffer) * 0.1)
    return net.eval()


def cached(hub: Path, net: nn.Module, repository: str = HUB) -> None:
    save_file(net.state_dict(), snapshot(hub, repository) / "model.safetensors")


def described(folder: Path, net: nn.Module | None, **entries: Any) -> None:
    """A repository of the Hub as timm writes it, of a ViT for pictures of 32x32."""
    config = {
        "architecture": "vit_tiny_patch16_224",
        "model_args": TINY_VIT,
        "pretrained_cfg": {
            "input_size": [3, 32, 32],
            "fixed_input_size": True,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
            "crop_pct": 0.8,
            "interpolation": "bilinear",
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
        **entries,
    }
    (folder / "config.json").write_text(json.dumps(config))
    if net is not None:
        save_file(net.state_dict(), folder / "model.safetensors")


def own_pipeline(net: nn.Module, image: Image.Image) -> Tensor:
    config = timm.data.resolve_data_config(model=net)
    made: Tensor = timm.data.create_transform(**config, is_training=False)(image)
    return made[None]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("mode", "pct", "size"),
    [
        ("center", 0.875, (224, 224)),
        ("center", 0.95, (176, 176)),
        ("center", 1.0, (65, 65)),
        ("squash", 0.9, (96, 96)),
        ("squash", 1.0, (64, 80)),
    ],
)
def test_pictures_are_prepared_as_timm_does(
    interpolation: str,
    mode: str,
    pct: float,
    size: tuple[int, int],
) -> None:
    config = {
        "input_size": (3, *size),
        "interpolation": interpolation,
        "crop_pct": pct,
        "crop_mode": mode,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.4),
    }
    ours = timm_preprocessing(config, "timm:any")
    resolved = timm.data.resolve_data_config(pretrained_cfg=config)
    transform = timm.data.create_transform(**resolved, is_training=False)
    assert ours.geometry is not None
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (ours.mean, ours.std))
    for picture in photographs():
        prepared = (shown(picture, ours.geometry)[0] - mean) / std
        torch.testing.assert_close(prepared, transform(picture), atol=1e-6, rtol=0)
    assert ours.input_size == size
    assert ours.interpolation == interpolation


@pytest.mark.parametrize(
    "config",
    [
        {"crop_mode": "border", "input_size": (3, 64, 64)},
        {"crop_mode": "center", "input_size": (3, 64, 80)},
    ],
)
def test_other_ways_to_crop_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"timm:x: timm crops its pictures \(64x\d\d\) in the way"):
        timm_preprocessing(config, "timm:x")


def test_published_weights_from_the_hubs_cache(hub: Path, tmp_path: Path) -> None:
    theirs = library()
    cached(hub, theirs)
    model = load(f"timm:{SMALL}?pretrained=true")
    assert model.card.classes == imagenet_classes()
    assert model.card.architecture == {"family": "timm", "name": SMALL}
    kept: Any = model.net
    assert "state_dict" not in kept.pretrained_cfg
    own = model.card.preprocessing
    assert own.geometry == Geometry((224, 224), 256, "bicubic")
    assert own.mean == (0.485, 0.456, 0.406)

    for picture in photographs():
        prepared = own_pipeline(theirs, picture)
        fed, logits = fed_to(model.net, model, shown(picture, own.geometry))
        torch.testing.assert_close(fed, prepared, atol=1e-6, rtol=0)
        with torch.no_grad():
            torch.testing.assert_close(logits, theirs(prepared), atol=1e-5, rtol=0)
            assert torch.equal(model.net(prepared), theirs(prepared))

    path = tmp_path / "saved.safetensors"
    save(model, path)
    again = load(path)
    x = torch.rand(2, 3, 64, 48)
    with torch.no_grad():
        assert torch.equal(again(x), model(x))


def test_a_checkpoint_of_torch_in_the_hubs_cache(hub: Path) -> None:
    theirs = library()
    torch.save(theirs.state_dict(), snapshot(hub, HUB) / "pytorch_model.bin")
    model = load(f"timm:{SMALL}.lamb_in1k?pretrained=true")
    assert model.card.architecture["name"] == f"{SMALL}.lamb_in1k"
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(model.net(x), theirs(x))


def test_weights_at_an_address_come_from_torchs_cache(torch_home: Path) -> None:
    name = "gcvit_xxtiny"
    address = timm.get_pretrained_cfg(name).url
    with pytest.raises(ModelError, match=r"gcvit_xxtiny_\S+ is not in .*--download"):
        load(f"timm:{name}?pretrained=true")
    theirs = library(name)
    torch.save(theirs.state_dict(), torch_home / address.rpartition("/")[2])
    model = load(f"timm:{name}?pretrained=true")
    x = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(model.net(x), theirs(x))


def test_a_name_of_the_hub(hub: Path, tmp_path: Path) -> None:
    theirs = library("vit_tiny_patch16_224", num_classes=3, **TINY_VIT)
    folder = snapshot(hub, "someone/pets")
    described(folder, None, num_classes=3, label_names=["cat", "dog", "cat"])
    spec = "timm:hf-hub:someone/pets?pretrained=true"
    with pytest.raises(ModelError, match=r"model\.safetensors of someone/pets is not in .*FILE"):
        load(spec)
    save_file(theirs.state_dict(), folder / "model.safetensors")
    model = load(spec)
    assert model.card.classes == ("cat (0)", "dog", "cat (2)")
    assert model.card.architecture == {
        "family": "timm",
        "name": "vit_tiny_patch16_224",
        "options": TINY_VIT,
    }
    assert model.card.preprocessing.geometry == Geometry((32, 32), 40, "bilinear")
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(x), theirs((x - 0.5) / 0.25))

    # A saved file leads to no cache and no network.
    path = tmp_path / "saved.safetensors"
    save(model, path)
    (folder / "config.json").unlink()
    with torch.no_grad():
        assert torch.equal(load(path)(x), model(x))
    with pytest.raises(ModelError, match=r"config\.json of someone/pets is not in .*=True\)$"):
        load(spec)


def test_a_description_that_is_not_timms(hub: Path) -> None:
    folder = snapshot(hub, "someone/other")
    spec = "timm:hf-hub:someone/other?pretrained=true"
    for written, said in (
        ("{", "config.json: not JSON"),
        ("{}", "config.json is not timm's .it has no entry 'architecture'"),
        ('{"architecture": "resnet99", "pretrained_cfg": {}}', "timm has no model 'resnet99'"),
        (
            '{"architecture": "resnet18", "pretrained_cfg": {}, '
            '"model_args": {"checkpoint_path": "x.pth"}}',
            "'checkpoint_path' is no option of an architecture",
        ),
    ):
        (folder / "config.json").write_text(written)
        with pytest.raises(ModelError, match=said):
            load(spec)


def test_a_users_state_dict(tmp_path: Path) -> None:
    theirs = library(num_classes=5)
    file = tmp_path / "mine.pth"
    torch.save({"state_dict": theirs.state_dict(), "epoch": 3}, file)
    spec = f"timm:{SMALL}?pretrained={file}"
    model = load(spec, classes="abcde")
    assert model.card.classes == tuple("abcde")
    assert model.card.preprocessing.input_size is None
    x = torch.rand(2, 3, 40, 40)
    column = {
        name: torch.tensor(getattr(model.card, name)).view(3, 1, 1) for name in ("mean", "std")
    }
    with torch.no_grad():
        torch.testing.assert_close(model(x), theirs((x - column["mean"]) / column["std"]))
    with pytest.raises(ModelError, match="has 5 classes, the data 2"):
        load(spec, classes="ab")
    by_weights = resolve(
        f"timm:{SMALL}",
        num_classes=5,
        in_channels=3,
        image_size=40,
        weights=file,
    ).eval()
    assert torch.equal(by_weights.net(x), theirs(x))


def test_a_file_that_timm_has_to_filter(tmp_path: Path) -> None:
    """The published names of Facebook's ConvNeXts are not timm's."""
    theirs = library("convnext_atto", num_classes=1000)
    renamed = {
        name.replace("stem.0", "downsample_layers.0.0")
        .replace("stem.1", "downsample_layers.0.1")
        .replace("head.norm", "norm")
        .replace("head.fc", "head"): tensor
        for name, tensor in theirs.state_dict().items()
    }
    renamed = {
        name.replace(".blocks", "").replace("mlp.fc", "pwconv").replace("conv_dw", "dwconv"): tensor
        for name, tensor in renamed.items()
    }
    for stage in (1, 2, 3):
        for kind in ("weight", "bias"):
            for layer in (0, 1):
                tensor = renamed.pop(f"stages.{stage}.downsample.{layer}.{kind}")
                renamed[f"downsample_layers.{stage}.{layer}.{kind}"] = tensor
    file = tmp_path / "facebook.pth"
    torch.save({"model": renamed}, file)
    model = load(f"timm:convnext_atto?pretrained={file}")
    assert model.card.classes == imagenet_classes()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.net(x), theirs(x))


def test_a_new_head_for_other_classes(hub: Path, tmp_path: Path) -> None:
    theirs = library()
    cached(hub, theirs)
    model = resolve(
        f"timm:{SMALL}?pretrained=true",
        num_classes=4,
        in_channels=1,
        image_size=28,
        classes="abcd",
        seed=3,
    ).eval()
    assert model.notes == ("new head: 1,000 classes of the weights become the data's 4",)
    own = theirs.state_dict()
    changed = {
        name
        for name, tensor in model.net.state_dict().items()
        if not torch.equal(tensor, own[name])
    }
    assert changed == {"classifier.weight", "classifier.bias"}
    x = torch.rand(2, 1, 28, 28)
    path = tmp_path / "saved.safetensors"
    save(model, path)
    with torch.no_grad():
        assert model(x).shape == (2, 4)
        assert torch.equal(load(path)(x), model(x))


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        (SMALL, (3, 40, 56), {}),
        (SMALL, (1, 32, 32), {"in_chans": 1}),
        ("test_vit", (2, 48, 32), {"in_chans": 2, "img_size": [48, 32]}),
    ],
)
def test_untrained_for_the_data(
    tmp_path: Path, name: str, shape: tuple[int, int, int], options: dict[str, Any]
) -> None:
    model: Classifier = resolve(
        f"timm:{name}",
        num_classes=3,
        in_channels=shape[0],
        image_size=shape[1:],
        mean=(0.3,) * shape[0],
        std=(0.2,) * shape[0],
        seed=1,
    ).eval()
    assert model.card.architecture.get("options", {}) == options
    assert model.card.mean == (0.3,) * shape[0]
    assert not model.card.provenance
    x = torch.rand(2, *shape)
    path = tmp_path / "saved.safetensors"
    save(model, path)
    with torch.no_grad():
        assert model(x).shape == (2, 3)
        assert torch.equal(load(path)(x), model(x))


@pytest.mark.parametrize("name", ["nest_tiny", "test_vit", "efficientformerv2_s0"])
def test_nets_that_compute_while_they_are_built_are_described(name: str) -> None:
    """A model file's net is described without memory before it is built."""
    from robustkit.models.sources.timm import make_timm

    with torch.device("meta"):
        described = make_timm(name, 7, 3, (224, 224), {})
    assert {each.device.type for each in described.parameters()} == {"meta"}
    built = timm.create_model(name, num_classes=7)
    assert {name: each.shape for name, each in described.state_dict().items()} == {
        name: each.shape for name, each in built.state_dict().items()
    }


def test_classes_of_other_parts_of_imagenet() -> None:
    from robustkit.models.sources.timm import _class_names

    config = timm.get_pretrained_cfg("resnetv2_50x1_bit.goog_in21k")
    names = _class_names(config)
    assert names is not None
    assert len(names) == len(set(names)) == 21843
    assert _class_names(timm.get_pretrained_cfg("vit_base_patch16_clip_224.openai")) is None


def test_features_get_a_head_or_are_refused(hub: Path) -> None:
    theirs = library("vit_tiny_patch16_224", num_classes=0, **TINY_VIT)
    described(snapshot(hub, "someone/features"), theirs, num_classes=0)
    spec = "timm:hf-hub:someone/features?pretrained=true"
    with pytest.raises(ModelError, match="its weights give features, not logits"):
        load(spec)
    model = resolve(spec, num_classes=2, in_channels=3, image_size=32, seed=0).eval()
    x = torch.rand(2, 3, 32, 32)
    features = theirs((x - 0.5) / 0.25)
    torch.testing.assert_close(model(x), model.get_submodule("net.head")(features))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("timm:resnet81?pretrained=true", "timm has no model 'resnet81'; the nearest .*resnet18"),
        ("timm:resnet18.a9_in1k?pretrained=true", "resnet18 has no weights 'a9_in1k'; .*a1_in1k"),
        ("timm:lcnet_035?pretrained=true", "timm has no weights for it"),
        (
            f"timm:{SMALL}?pretrained=true&weight=x",
            "unknown option 'weight'; did you mean 'weights'",
        ),
        (f"timm:{SMALL}?weights=x&pretrained=true", "pretrained and weights say the same"),
        (f"timm:{SMALL}?pretrained=no.pth", r"no\.pth: no such file"),
        (f"timm:{SMALL}?pretrained=true", "is not in .*--download"),
        (f"timm:{SMALL}", "untrained; .*pretrained=true"),
        (f"timm:{SMALL}?weights=false", "false: no such file"),
        ("timm:hf-hub:a/b/c?pretrained=true", "cannot fetch config.json"),
    ],
)
def test_mistakes_are_told_in_a_line(hub: Path, spec: str, said: str) -> None:
    with pytest.raises(ModelError, match=said) as told:
        load(spec)
    assert "\n" not in str(told.value)


def test_a_file_of_something_else(tmp_path: Path) -> None:
    other, evil = tmp_path / "other.pth", tmp_path / "evil.pth"
    torch.save(nn.Linear(2, 2).state_dict(), other)
    torch.save({"state_dict": Path("x")}, evil)
    for file, said in ((other, "'conv_stem.weight' is missing"), (evil, "refused")):
        with pytest.raises(ModelError, match=said) as told:
            load(f"timm:{SMALL}?pretrained={file}")
        assert "\n" not in str(told.value)


def test_a_card_cannot_have_timm_read_files(tmp_path: Path) -> None:
    from robustkit.models.sources.timm import make_timm

    with pytest.raises(ModelError, match="timm:resnet18: 'checkpoint_path' is no option"):
        make_timm("resnet18", 3, 3, (32, 32), {"checkpoint_path": str(tmp_path)})
    with pytest.raises(ModelError, match=r"timm cannot build it .*'odd'"):
        make_timm("resnet18", 3, 3, (32, 32), {"odd": 1})
    with pytest.raises(ModelError, match="timm has no model 'hf-hub:a/b'"):
        make_timm("hf-hub:a/b", 3, 3, (32, 32), {})


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        ModelError, match=r"timm: needs the package timm: pip install 'robustkit\[t"
    ):
        load("timm:resnet18?pretrained=true")
