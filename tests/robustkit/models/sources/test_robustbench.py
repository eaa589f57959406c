from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import transforms

from robustkit.class_names import CIFAR_10, CIFAR_100, imagenet_classes
from robustkit.errors import ModelError
from robustkit.geometry import Geometry
from robustkit.models import Classifier, load, resolve, save
from robustkit.models.sources.robustbench import (
    FETCH,
    _autoattack_or_none,
    _geometry,
    _imported,
    make_robustbench,
)
from tests.robustkit.models.sources.pictures import fed_to, photographs, shown

if importlib.util.find_spec("robustbench") is None:
    pytest.skip("robustbench is not installed", allow_module_level=True)
if not hasattr(_imported()["robustbench.utils"], FETCH):
    pytest.skip("torchattacks' copy of robustbench lies over it", allow_module_level=True)

SMALL = "Hendrycks2020AugMix_WRN"
CORRUPTIONS = "dataset=cifar10&threat_model=corruptions"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """RobustBench's model_dir, empty."""
    monkeypatch.setenv("ROBUSTBENCH_MODELS", str(tmp_path / "zoo"))
    return tmp_path / "zoo"


def listed(name: str, dataset: str, threat_model: str) -> dict[str, Any]:
    """RobustBench's own entry of a model."""
    library = _imported()
    enums = library["robustbench.model_zoo.enums"]
    found: dict[str, Any] = library["robustbench.model_zoo"].model_dicts[
        enums.BenchmarkDataset(dataset)
    ][enums.ThreatModel(threat_model)][name]
    return found


def weights_of(name: str, dataset: str, threat_model: str) -> dict[str, Tensor]:
    """Weights of our own for a model of RobustBench's."""
    torch.manual_seed(5)
    net: nn.Module = listed(name, dataset, threat_model)["model"]()
    state: dict[str, Tensor] = net.state_dict()
    return state


def placed(folder: Path, name: str, dataset: str, threat_model: str, held: Any) -> Path:
    path = folder / dataset / threat_model / f"{name}.pt"
    path.parent.mkdir(parents=True)
    torch.save(held, path)
    return path


def library_loads(folder: Path, name: str, dataset: str, threat_model: str) -> nn.Module:
    """What RobustBench itself makes of the files in `folder`."""
    net: nn.Module = _imported()["robustbench.utils"].load_model(
        name, model_dir=folder, dataset=dataset, threat_model=threat_model
    )
    return net


@pytest.mark.parametrize(
    ("name", "dataset", "threat_model", "written", "classes"),
    [
        # Without the buffers that its normalisation has, as published.
        (SMALL, "cifar10", "corruptions", "parallel", CIFAR_10),
        (SMALL, "cifar100", "corruptions", "plain", CIFAR_100),
        ("Kireev2021Effectiveness_RLAT", "cifar10", "corruptions", "last", CIFAR_10),
    ],
)
def test_a_checkpoint_in_the_folder(
    folder: Path,
    tmp_path: Path,
    name: str,
    dataset: str,
    threat_model: str,
    written: str,
    classes: tuple[str, ...],
) -> None:
    state = weights_of(name, dataset, threat_model)
    bare = {key: tensor for key, tensor in state.items() if key not in ("mu", "sigma")}
    parallel = {f"module.{key}": tensor for key, tensor in bare.items()}
    held = {
        "plain": state,
        "parallel": {"state_dict": parallel, "epoch": 9, "best_acc": 0.5},
        "last": {"last": bare, "best": {}},
    }[written]
    placed(folder, name, dataset, threat_model, held)
    model = load(f"robustbench:{name}?dataset={dataset}&threat_model={threat_model}")
    theirs = library_loads(folder, name, dataset, threat_model)
    assert model.card.classes == classes
    assert model.card.preprocessing.describe() == "input 32x32, pictures in [0,1] as they are"
    assert model.card.provenance["source"].startswith(f"robustbench:{name}?")
    x = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(x), theirs(x))

    path = tmp_path / "saved.safetensors"
    save(model, path)
    with torch.no_grad():
        assert torch.equal(load(path)(x), model(x))


def described(name: str, dataset: str) -> nn.Module:
    """What a saved file's net is built as, without memory and without network."""
    with torch.device("meta"):
        return make_robustbench(name, dataset, "Linf", 1000 if dataset == "imagenet" else 10, 3)


def shapes(net: nn.Module) -> dict[str, torch.Size]:
    return {name: each.shape for name, each in net.state_dict().items()}


def test_a_model_of_imagenet(folder: Path, tmp_path: Path) -> None:
    """Its checkpoint lacks the prefix and the buffers that RobustBench adds."""
    name, where = "Salman2020Do_R18", ("imagenet", "Linf")
    state = weights_of(name, *where)
    published = {
        key.removeprefix("model."): tensor for key, tensor in state.items() if "model." in key
    }
    file = placed(folder, name, *where, {"state_dict": published})
    model = load(f"robustbench:{name}?dataset=imagenet&threat_model=Linf&weights={file}")
    theirs = library_loads(folder, name, *where)
    assert model.card.classes == imagenet_classes()
    own = model.card.preprocessing
    assert own.geometry == Geometry((224, 224), 256, "bilinear")

    key = listed(name, *where)["preprocessing"]
    pipeline = _imported()["robustbench.data"].PREPROCESSINGS[key]
    picture = photographs()[2]
    ours = fed_to(model.net, model, shown(picture, own.geometry))
    expected = fed_to(theirs, theirs, pipeline(picture)[None])
    assert torch.equal(ours[0], expected[0])
    assert torch.equal(ours[1], expected[1])

    path = tmp_path / "saved.safetensors"
    save(model, path)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load(path)(x), model(x))


def test_pictures_are_prepared_as_robustbench_does() -> None:
    known = _imported()["robustbench.data"].PREPROCESSINGS
    sized = {key: pipeline for key, pipeline in known.items() if key is not None}
    assert len(sized) >= 4
    for pipeline in sized.values():
        geometry = _geometry(pipeline.transforms, "x")
        for picture in photographs():
            assert torch.equal(shown(picture, geometry)[0], pipeline(picture))


def test_other_preparations_are_refused() -> None:
    with pytest.raises(ModelError, match=r"x: RobustBench prepares its pictures by Pad.*supported"):
        _geometry([transforms.Pad(2), transforms.ToTensor()], "x")
    with pytest.raises(ModelError, match="does not tell the size"):
        _geometry([transforms.ToTensor()], "x")


def test_a_model_that_timm_hosts(torch_home: Path, tmp_path: Path) -> None:
    from timm.models import create_model, get_pretrained_cfg

    name = "Debenedetti2022Light_XCiT-S12"
    hosted = "debenedetti2022light_xcit_s12_cifar10_linf"
    spec = f"robustbench:{name}?dataset=cifar10&threat_model=Linf"
    with pytest.raises(ModelError, match=r"xcit-s-cifar10-linf\.pth\.tar is not in .*--download"):
        load(spec)
    torch.manual_seed(2)
    made = create_model(hosted, num_classes=10)
    file = torch_home / get_pretrained_cfg(hosted).url.rpartition("/")[2]
    torch.save(made.model.state_dict(), file)
    model = load(spec)
    theirs = library_loads(tmp_path, name, "cifar10", "Linf")
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(x), theirs(x))
    elsewhere = tmp_path / "mine.pth"
    file.rename(elsewhere)
    again = load(f"{spec}&weights={elsewhere}")
    with torch.no_grad():
        assert torch.equal(again(x), theirs(x))
    assert shapes(described(name, "cifar10")) == shapes(model.net)


class Deck(nn.Module):
    """Two nets whose probabilities are averaged, as some of RobustBench's are."""

    def __init__(self) -> None:
        super().__init__()
        nets = [nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10)) for _ in range(2)]
        self.models = nn.ModuleList(nets)

    def forward(self, x: Tensor) -> Tensor:
        """Probabilities (N,10)."""
        return torch.stack([net(x).softmax(dim=1) for net in self.models]).mean(dim=0)


def test_an_ensemble_of_files_that_gives_probabilities(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"model": Deck, "gdrive_id": ["one", "two"]}
    library = _imported()
    enums = library["robustbench.model_zoo.enums"]
    models = library["robustbench.model_zoo"].model_dicts[enums.BenchmarkDataset("cifar10")]
    monkeypatch.setitem(models[enums.ThreatModel("L2")], "Deck", entry)
    spec = "robustbench:Deck?threat_model=L2"
    place = folder / "cifar10" / "L2"
    place.mkdir(parents=True)
    deck = Deck()
    torch.save(deck.models[0].state_dict(), place / "Deck.pt_m0.pt")
    with pytest.raises(ModelError, match=r"Deck\.pt_m1\.pt, are not in .*cifar10/L2"):
        load(spec)
    torch.save(deck.models[1].state_dict(), place / "Deck.pt_m1.pt")
    model = load(spec)
    x = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(x), deck(x))
    assert "gives probabilities instead of logits" in model.notes[0]
    assert torch.equal(load(f"{spec}&weights={place / 'Deck.pt'}")(x), model(x))
    with pytest.raises(ModelError, match="cannot tell its head"):
        resolve(spec, num_classes=3, in_channels=3, image_size=32)


def test_weights_that_its_constructor_fetches(torch_home: Path) -> None:
    from torchvision.models import resnet50

    spec = "robustbench:Standard_R50?dataset=imagenet&threat_model=Linf"
    with pytest.raises(ModelError, match=r"resnet50-0676ba61\.pth is not in .*--download"):
        load(spec)
    theirs = resnet50().eval()
    torch.save(theirs.state_dict(), torch_home / "resnet50-0676ba61.pth")
    model = load(spec)
    inner = model.get_submodule("net.model").state_dict()
    assert all(torch.equal(inner[name], each) for name, each in theirs.state_dict().items())
    (torch_home / "resnet50-0676ba61.pth").unlink()
    assert shapes(described("Standard_R50", "imagenet")) == shapes(model.net)


def test_fetched_where_it_is_allowed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies on the net is stood for by a folder; all else is as it is."""
    state = weights_of(SMALL, "cifar10", "corruptions")
    asked: list[str] = []

    def fetch(address: str, path: Path) -> None:
        asked.append(address)
        if len(asked) > 1:
            torch.save(state, path)

    monkeypatch.setattr(_imported()["robustbench.utils"], "download_gdrive_new", fetch)
    spec = f"robustbench:{SMALL}?{CORRUPTIONS}"
    with pytest.raises(ModelError, match=r"cannot fetch \S+_WRN\.pt: nothing came"):
        load(spec, download=True)
    assert not list(folder.rglob("*.pt"))
    model = load(spec, download=True)
    assert load(spec).card == model.card
    assert asked == [listed(SMALL, "cifar10", "corruptions")["gdrive_id"]] * 2


def test_a_new_head_for_other_classes(folder: Path, tmp_path: Path) -> None:
    state = weights_of(SMALL, "cifar10", "corruptions")
    placed(folder, SMALL, "cifar10", "corruptions", state)
    spec = f"robustbench:{SMALL}?{CORRUPTIONS}"
    model: Classifier = resolve(
        spec, num_classes=4, in_channels=3, image_size=40, classes="abcd", seed=1
    ).eval()
    assert model.notes == ("new head: 10 classes of the weights become the data's 4",)
    changed = {
        name for name, each in model.net.state_dict().items() if not torch.equal(each, state[name])
    }
    assert changed == {"fc.weight", "fc.bias"}
    path = tmp_path / "saved.safetensors"
    save(model, path)
    x = torch.rand(2, 3, 40, 40)
    with torch.no_grad():
        assert torch.equal(load(path)(x), model(x))
    with pytest.raises(ModelError, match="has 10 classes, the data 4"):
        load(spec, classes="abcd")
    with pytest.raises(ModelError, match="takes images of 3 channels, not 1"):
        load(spec, input_shape=(1, 28, 28))


def test_what_robustbench_published(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed(folder, SMALL, "cifar10", "corruptions", weights_of(SMALL, "cifar10", "corruptions"))
    spec = f"robustbench:{SMALL}?{CORRUPTIONS}"
    monkeypatch.chdir(tmp_path)
    assert "published" not in load(spec).card.provenance
    told = tmp_path / "model_info" / "cifar10" / "corruptions"
    told.mkdir(parents=True)
    file = told / f"{SMALL}.json"
    file.write_text(json.dumps({"clean_acc": "95.08", "corruptions_acc": "88.82"}))
    published = load(spec).card.provenance["published"]
    assert published == {
        "accuracy": pytest.approx(0.9508),
        "on": "CIFAR-10",
        "robust_accuracy": pytest.approx(0.8882),
    }
    file.write_text("{}")
    with pytest.raises(ModelError, match="not one of RobustBench's descriptions"):
        load(spec)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("Wong2020Fst?threat_model=Linf", "no model 'Wong2020Fst' for cifar10 .*Wong2020Fast"),
        ("Standard?dataset=cifar11", "no dataset 'cifar11'; did you mean 'cifar10'"),
        ("Standard?threat_model=linf", "no threat_model 'linf'; did you mean 'Linf'"),
        ("Standard?dataset=cifar100&threat_model=L2", "no model 'Standard' for cifar100 and L2"),
        ("Standard?norm=Linf", "unknown option 'norm'"),
        ("Standard", r"Standard\.pt, are not in .*cifar10/Linf, under \$ROBUSTBENCH_MODELS; "),
        ("Standard?weights=no.pt", r"no\.pt: no such file of weights"),
    ],
)
def test_mistakes_are_told_in_a_line(folder: Path, spec: str, said: str) -> None:
    with pytest.raises(ModelError, match=said) as told:
        load(f"robustbench:{spec}")
    assert "\n" not in str(told.value)
    assert not folder.exists()


def test_the_usual_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBUSTBENCH_MODELS", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"in models/cifar10/Linf, under \./models \(\$ROBUST"):
        load("robustbench:Standard")


def test_a_file_of_something_else(tmp_path: Path) -> None:
    other, evil = tmp_path / "other.pt", tmp_path / "evil.pt"
    torch.save(nn.Linear(2, 2).state_dict(), other)
    torch.save({"state_dict": Path("x")}, evil)
    for file, said in ((other, r"cannot load it from \S+other\.pt"), (evil, "refused")):
        with pytest.raises(ModelError, match=said) as told:
            load(f"robustbench:{SMALL}?{CORRUPTIONS}&weights={file}")
        assert "\n" not in str(told.value)


def test_robustbench_is_as_before(folder: Path) -> None:
    """What is exchanged for a call is put back, also after an error."""
    from torchvision.models import WeightsEnum

    utils = _imported()["robustbench.utils"]
    before = utils.torch, utils.timm, utils.download_gdrive_new, WeightsEnum.get_state_dict
    file = placed(folder, SMALL, "cifar10", "corruptions", {"a": torch.zeros(1)})
    with pytest.raises(ModelError):
        load(f"robustbench:{SMALL}?{CORRUPTIONS}&weights={file}")
    after = utils.torch, utils.timm, utils.download_gdrive_new, WeightsEnum.get_state_dict
    assert after == before
    assert utils.torch is torch


def test_autoattack_is_missed_only_by_who_uses_it() -> None:
    if importlib.util.find_spec("autoattack") is not None:
        pytest.skip("AutoAttack is there")
    with _autoattack_or_none():
        attack = importlib.import_module("autoattack").AutoAttack
    assert "autoattack" not in sys.modules
    with pytest.raises(ModelError, match=r"autoattack\.AutoAttack: AutoAttack is not installed"):
        attack(None)


def test_without_robustbench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "robustbench", None)
    with pytest.raises(ModelError, match=r"robustbench: pip install 'robustkit\[robustbench\]'"):
        load("robustbench:Standard")


def test_the_classes_of_cifar() -> None:
    assert (len(set(CIFAR_10)), len(set(CIFAR_100))) == (10, 100)
    assert list(CIFAR_10) == sorted(CIFAR_10)
    assert list(CIFAR_100) == sorted(CIFAR_100)
