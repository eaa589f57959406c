"""RobustBench's robust classifiers (Croce et al. 2021), loaded by its own loader."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.class_names import CIFAR_10, CIFAR_100, imagenet_classes
from robustkit.errors import ModelError, RobustkitError, did_you_mean
from robustkit.geometry import Geometry, Size
from robustkit.models.fitting import dry_run
from robustkit.models.preprocessing import Preprocessing
from robustkit.models.sources.base import (
    SOURCES,
    Request,
    SourceNet,
    exchange_head,
    import_quietly,
    make_anywhere,
    need_package,
)
from robustkit.models.weights import cached_download, read_checkpoint, read_weights
from robustkit.reading import Json, read_json
from robustkit.runs.atomic import atomic_path

FOLDER = "ROBUSTBENCH_MODELS"  # the environment's name for RobustBench's model_dir
THREAT_MODELS = ("Linf", "L2", "corruptions")
_TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet-1K"}
_AUTOATTACK = ("autoattack", "autoattack.state")


@SOURCES.register("robustbench")
def open_robustbench(request: Request) -> SourceNet:
    """Offer `robustbench:NAME?dataset=cifar10&threat_model=Linf[&weights=FILE]`.

    Checkpoints are looked for where RobustBench puts them, DIR/dataset/threat_model/NAME.pt, DIR
    being the environment's ROBUSTBENCH_MODELS or ./models; `weights` names another file. Where it
    is allowed they are fetched. Each is read without running what it holds, and RobustBench's own
    loader puts it in. Its models take pictures in [0,1] and normalise inside. Raises `ModelError`.
    """
    spec = request.spec
    spec.refuse_unknown("dataset", "threat_model", "weights")
    entry = Entry.checked(
        spec.text,
        spec.name,
        spec.options.get("dataset", "cifar10"),
        spec.options.get("threat_model", "Linf"),
    )
    if request.shape is not None and request.shape[0] != 3:
        raise ModelError(f"{spec.text} takes images of 3 channels, not {request.shape[0]}")
    net = _loaded(entry, request)
    preprocessing, classes = _preprocessing(entry, spec.text), entry.classes
    published = _published(entry)
    if request.classes is not None and request.classes != classes:
        wanted = len(request.classes)
        net = _with_head(entry, net, wanted, spec.text)
        note = f"new head: {len(classes):,} classes of the weights become the data's {wanted}"
        return SourceNet(net, entry.plain, preprocessing, None, wanted, trained=True, notes=(note,))
    return SourceNet(
        net,
        entry.plain,
        preprocessing,
        classes,
        len(classes),
        trained=True,
        published=published,
        notes=_notes(net, preprocessing.input_size or (32, 32), spec.text),
    )


def make_robustbench(
    name: str, dataset: str, threat_model: str, num_classes: int, in_channels: int
) -> nn.Module:
    """Return the model `name` of RobustBench with fresh weights, built without network.

    Raises `ModelError` for a model that RobustBench does not have or cannot build here, and for
    images that are not in colour.
    """
    where = f"robustbench:{name}"
    if in_channels != 3:
        raise ModelError(f"{where} takes images of 3 channels, not {in_channels}")
    entry = Entry.checked(where, name, dataset, threat_model)
    net = _built(entry, where)
    trained_classes = len(entry.classes)
    return net if num_classes == trained_classes else _with_head(entry, net, num_classes, where)


@dataclass(frozen=True)
class Entry:
    """One model of RobustBench's."""

    name: str
    dataset: str
    threat_model: str

    @classmethod
    def checked(cls, where: str, name: str, dataset: str, threat_model: str) -> Entry:
        """Return the entry, if RobustBench has it; raises `ModelError` with the nearest names."""
        need_package("robustbench")
        for option, value, known in (
            ("dataset", dataset, tuple(_TITLES)),
            ("threat_model", threat_model, THREAT_MODELS),
        ):
            if value not in known:
                hint = did_you_mean(value, known)
                raise ModelError(f"{where}: RobustBench has no {option} '{value}'{hint}")
        entry = cls(name, dataset, threat_model)
        names = list(entry._models(where))
        if name not in names:
            message = f"{where}: RobustBench has no model '{name}' for {dataset} and {threat_model}"
            near = ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0.0)) or "none"
            raise ModelError(f"{message}; the nearest names are {near}")
        return entry

    @property
    def plain(self) -> Json:
        """The architecture on a card."""
        return {
            "family": "robustbench",
            "name": self.name,
            "dataset": self.dataset,
            "threat_model": self.threat_model,
        }

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the logits of RobustBench's own weights."""
        if self.dataset == "imagenet":
            return imagenet_classes()
        return CIFAR_10 if self.dataset == "cifar10" else CIFAR_100

    @property
    def listed(self) -> Mapping[str, Any]:
        """What RobustBench's list says: `model`, its constructor, and `gdrive_id`."""
        description: Mapping[str, Any] = self._models(self.name)[self.name]
        return description

    @property
    def timm_name(self) -> str | None:
        """The name by which RobustBench finds it in timm's registry, as its loader forms it."""
        from timm.models import is_model

        name = f"{self.name.lower().replace('-', '_')}_{self.dataset}_{self.threat_model.lower()}"
        return name if is_model(name) else None

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its checkpoints; none where its constructor fetches the weights."""
        drive = self.listed["gdrive_id"]
        if isinstance(drive, list):
            return tuple(f"{self.name}.pt_m{index}.pt" for index in range(len(drive)))
        return (f"{self.name}.pt",) if drive or self.timm_name else ()

    def _models(self, where: str) -> Mapping[str, Any]:
        zoo = _library(where)["robustbench.model_zoo"]
        enums = _library(where)["robustbench.model_zoo.enums"]
        found = zoo.model_dicts[enums.BenchmarkDataset(self.dataset)]
        models: Mapping[str, Any] = found.get(enums.ThreatModel(self.threat_model), {})
        return models


def _library(where: str) -> Mapping[str, ModuleType]:
    """Return the modules of RobustBench by name; raises `ModelError` if they cannot be imported."""
    try:
        library = _imported()
    except ImportError as error:
        raise ModelError(f"{where}: robustbench cannot be imported ({_line(error)})") from None
    # torchattacks' wheel holds an old copy that lacks half of the models; the last installed wins.
    if not (hasattr(library["robustbench.utils"], FETCH) and _has_timm(library)):
        raise ModelError(
            f"{where}: torchattacks' old copy of robustbench lies over RobustBench; put it back: "
            "pip install --force-reinstall --no-deps robustbench"
        )
    return library


def _has_timm(library: Mapping[str, ModuleType]) -> bool:
    return hasattr(library["robustbench.utils"], "timm")


FETCH = "download_gdrive_new"  # what its current loader fetches checkpoints with


@cache
def _imported() -> Mapping[str, ModuleType]:
    names = ("utils", "data", "model_zoo", "model_zoo.enums")
    with warnings.catch_warnings(action="ignore"), _autoattack_or_none(), _silence():
        return {name: importlib.import_module(name) for name in (f"robustbench.{n}" for n in names)}


@contextmanager
def _autoattack_or_none() -> Iterator[None]:
    """Let `import robustbench` pass without AutoAttack, which is on no package index.

    Only its `eval`, which is not used here, needs it; but that is imported with the package.
    """
    if importlib.util.find_spec("autoattack") is not None:
        yield
        return
    for name in _AUTOATTACK:
        sys.modules[name] = _NoAutoAttack(name)
    try:
        yield
    finally:
        for name in _AUTOATTACK:
            sys.modules.pop(name, None)


class _NoAutoAttack(ModuleType):
    """Stands where AutoAttack would, and says so to whoever uses anything of it."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*_: Any, **__: Any) -> Any:
            raise ModelError(
                f"autoattack.{name}: AutoAttack is not installed, and not on the package index: "
                "pip install git+https://github.com/fra31/auto-attack"
            )

        return refuse


def _loaded(entry: Entry, request: Request) -> nn.Module:
    """Return the net with its weights, as RobustBench's loader makes it."""
    where, listed = request.spec.text, entry.files
    file = request.spec.options.get("weights")
    paths = _paths(entry, request) if listed else ()
    held = {name: read_checkpoint(path) for name, path in zip(listed, paths, strict=True)}

    def published(weights: Any) -> Mapping[str, Tensor]:
        path = file or cached_download(weights.url, where, download=request.download)
        return read_weights(path)

    utils = _library(where)["robustbench.utils"]
    # The loader makes its folder where there is none, so it is given a temporary one.
    with tempfile.TemporaryDirectory() as folder, _handing_over(utils, held, published):
        try:
            net: nn.Module = utils.load_model(
                entry.name,
                model_dir=folder,
                dataset=entry.dataset,
                threat_model=entry.threat_model,
            )
        except RobustkitError:
            raise
        except Exception as error:  # whatever its models and loader trip over
            read = f" from {', '.join(map(str, paths))}" if paths else ""
            reason = f"{type(error).__name__}: {_line(error)}"
            raise ModelError(f"{where}: RobustBench cannot load it{read} ({reason})") from None
    return net


def _paths(entry: Entry, request: Request) -> tuple[Path, ...]:
    """Return the paths of the checkpoints, fetched if allowed; raises `ModelError`."""
    where, file = request.spec.text, request.spec.options.get("weights")
    if file is not None:
        # RobustBench numbers an ensemble's files behind the name of the whole.
        ends = [name.removeprefix(f"{entry.name}.pt") for name in entry.files]
        return tuple(Path(f"{file}{end}") for end in ends)
    if entry.timm_name is not None:
        from timm.models import get_pretrained_cfg

        url = get_pretrained_cfg(entry.timm_name).url
        return (cached_download(url, where, download=request.download),)
    folder = Path(os.environ.get(FOLDER) or "models") / entry.dataset / entry.threat_model
    paths = tuple(folder / name for name in entry.files)
    drive = entry.listed["gdrive_id"]
    for path, address in zip(paths, drive if isinstance(drive, list) else [drive], strict=True):
        if path.is_file():
            continue
        if not request.download:
            searched = (
                f"${FOLDER}" if os.environ.get(FOLDER) else f"./models (${FOLDER} is not set)"
            )
            raise ModelError(
                f"{where}: its weights, {path.name}, are not in {folder}, under {searched}; allow "
                "them to be fetched with --download (download=True), or name a file: weights=FILE"
            )
        _fetch(address, path, where)
    return paths


def _fetch(address: str, path: Path, where: str) -> None:
    """Have RobustBench fetch a checkpoint from where it keeps it."""
    utils = _library(where)["robustbench.utils"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        try:
            with _silence():
                utils.download_gdrive_new(address, temporary)
        except Exception as error:  # of requests, of gdown, of the system
            raise ModelError(f"{where}: cannot fetch {path.name} ({_line(error)})") from None
        if not temporary.is_file():
            raise ModelError(f"{where}: cannot fetch {path.name}: nothing came from {address}")


def _built(entry: Entry, where: str) -> nn.Module:
    """Return the net that RobustBench's constructor makes, its weights fresh."""

    def fresh(weights: Any) -> Mapping[str, Tensor]:
        from torchvision import models as torchvision_models

        names = torchvision_models.list_models(module=torchvision_models)
        for name in names:
            if torchvision_models.get_model_weights(name) is type(weights):
                net: nn.Module = torchvision_models.get_model(name)
                return net.state_dict()
        raise ModelError(f"{where}: it cannot be built without fetching {weights}")

    def make() -> nn.Module:
        timm = import_quietly("timm")

        count, name = len(entry.classes), entry.timm_name
        net: nn.Module = (
            timm.create_model(name, num_classes=count) if name else entry.listed["model"]()
        )
        return net

    with _handing_over(_library(where)["robustbench.utils"], {}, fresh):
        try:
            return make_anywhere(make)
        except RobustkitError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {_line(error)}"
            raise ModelError(f"{where}: RobustBench cannot build it here ({reason})") from None


class _Instead:
    """A module with some of its functions replaced."""

    def __init__(self, module: ModuleType, **functions: Callable[..., Any]) -> None:
        self._module = module
        vars(self).update(functions)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


@contextmanager
def _handing_over(
    utils: Any, held: Mapping[str, Any], published: Callable[[Any], Mapping[str, Tensor]]
) -> Iterator[None]:
    """Have RobustBench's loader take what was read for what it would fetch and unpickle.

    `held` are checkpoints by the names of their files; `published` gives the state dict of weights
    of torchvision that a constructor asks for. Everything is put back afterwards.
    """
    from torchvision.models import WeightsEnum

    originals = utils.torch, utils.timm, utils.download_gdrive_new, WeightsEnum.get_state_dict

    def load(path: Path | str, **_: Any) -> Any:
        return held[Path(path).name]

    def create_model(name: str, **given: Any) -> nn.Module:
        (checkpoint,) = held.values()
        net: Any = originals[1].create_model(
            name, **given, pretrained_cfg_overlay={"state_dict": checkpoint, "source": None}
        )
        for module in net.modules():
            getattr(module, "pretrained_cfg", {}).pop("state_dict", None)
        return net  # type: ignore[no-any-return]

    def download(*_: Any) -> None:
        """Do nothing: the file was read already."""

    utils.torch = _Instead(torch, load=load)
    utils.timm = _Instead(originals[1], create_model=create_model)
    utils.download_gdrive_new = download
    WeightsEnum.get_state_dict = lambda self, *_, **__: dict(published(self))
    try:
        with warnings.catch_warnings(action="ignore"), _silence():
            yield
    finally:
        utils.torch, utils.timm, utils.download_gdrive_new, WeightsEnum.get_state_dict = originals


def _with_head(entry: Entry, net: nn.Module, wanted: int, where: str) -> nn.Module:
    """Return `net` with a new head for `wanted` classes, all else as it is."""
    trained_classes, name = len(entry.classes), entry.timm_name
    if name is not None:
        timm = import_quietly("timm")

        return exchange_head(
            lambda count: make_anywhere(lambda: timm.create_model(name, num_classes=count)),
            net.state_dict(),
            trained_classes,
            wanted,
            where,
        )
    heads = [
        (path, module)
        for path, module in net.named_modules()
        if type(module) is nn.Linear and module.out_features == trained_classes
    ]
    if len(heads) != 1:
        raise ModelError(f"{where}: cannot tell its head, so it cannot get a new one")
    path, head = heads[0]
    parent, _, last = path.rpartition(".")
    new = nn.Linear(head.in_features, wanted, bias=head.bias is not None)
    setattr(net.get_submodule(parent), last, new)
    return net


def _preprocessing(entry: Entry, where: str) -> Preprocessing:
    """Return the preprocessing of RobustBench for the model: resized and cropped, in [0,1]."""
    if entry.dataset != "imagenet":
        return Preprocessing(input_size=(32, 32))
    library = _library(where)
    enums = library["robustbench.model_zoo.enums"]
    with _silence():
        preprocess = library["robustbench.data"].get_preprocessing(
            enums.BenchmarkDataset(entry.dataset),
            enums.ThreatModel(entry.threat_model),
            entry.name,
            None,
        )
    geometry = _geometry(preprocess.transforms, where)
    return Preprocessing(
        input_size=geometry.size, interpolation=geometry.interpolation, geometry=geometry
    )


def _geometry(transforms: list[Any], where: str) -> Geometry:
    """Return torchvision's Resize, CenterCrop and ToTensor, in this order, as a `Geometry`."""
    from torchvision import transforms as kinds

    resize: int | Size | None = None
    size: Size | None = None
    interpolation = "bilinear"
    for transform in transforms:
        if isinstance(transform, kinds.Resize) and size is None:
            sides = [transform.size] if isinstance(transform.size, int) else list(transform.size)
            resize = sides[0] if len(sides) == 1 else (sides[0], sides[1])
            interpolation = transform.interpolation.value
        elif isinstance(transform, kinds.CenterCrop) and size is None:
            size = transform.size[0], transform.size[1]
        elif not isinstance(transform, kinds.ToTensor):
            raise ModelError(
                f"{where}: RobustBench prepares its pictures by {transform}, not supported"
            )
    size = size or (resize if isinstance(resize, tuple) else None)
    if size is None:
        raise ModelError(f"{where}: RobustBench does not tell the size of its pictures")
    return Geometry(size, resize, interpolation)


def _published(entry: Entry) -> Json | None:
    """Return the accuracies in the `model_info` beside RobustBench's code, which no wheel has."""
    package = Path(_library(entry.name)["robustbench.utils"].__file__ or "").parent
    for root in (package, package.parent, Path()):
        file = root / "model_info" / entry.dataset / entry.threat_model / f"{entry.name}.json"
        if file.is_file():
            break
    else:
        return None
    try:
        description = read_json(file, error=ModelError)
        accuracy = float(description["clean_acc"]) / 100
        robust = [
            float(description[key]) / 100
            for key in ("external", "autoattack_acc", "corruptions_acc")
            if description.get(key) not in (None, "")
        ]
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ModelError(f"{file}: not one of RobustBench's descriptions ({error})") from None
    published = {"accuracy": accuracy, "on": _TITLES[entry.dataset]}
    return {**published, "robust_accuracy": robust[0]} if robust else published


def _notes(net: nn.Module, size: Size, where: str) -> tuple[str, ...]:
    """Return a note where the outputs are softmaxes, as those of some ensembles are."""
    try:
        outputs = dry_run(net, (3, *size)).float()
    except Exception as error:
        reason = f"{type(error).__name__}: {_line(error)}"
        raise ModelError(
            f"{where}: cannot take images of 3x{size[0]}x{size[1]} ({reason})"
        ) from None
    sums = outputs.sum(dim=1)
    if bool((outputs >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all()):
        return (
            "gives probabilities instead of logits, as RobustBench has it: losses on logits have "
            "weaker gradients there",
        )
    return ()


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what RobustBench prints from standard output, which is for results."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _line(error: Exception) -> str:
    """Return the message of a library's error in one line of limited length."""
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else f"{text[:160]}…"
