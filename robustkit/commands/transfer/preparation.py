"""From the settings of a transfer evaluation to models, images and sets of adversarials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from robustkit import attacks
from robustkit.attacks import FUSES, AdversarialSet, Attack, ExternalSet, Store
from robustkit.attacks.libraries.base import LibraryAttack
from robustkit.attacks.registry import check_radius, make_attack, trained_on
from robustkit.cli.inputs import LazyModels, LoadedModels, load_models, training_images
from robustkit.cli.models import batch_size_of, name_models
from robustkit.cli.parser import config_from
from robustkit.compute import derive_seed, resolve_device
from robustkit.compute.seeds import check_seed
from robustkit.data import ImageSet
from robustkit.errors import AttackError, ConfigError, did_you_mean
from robustkit.models import Classifier
from robustkit.reading import typed_path
from robustkit.settings import setting


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """Which attack is made on the sources, and what else is compared."""

    attack: str = setting(
        "mifgsm", "attack made on the sources: mifgsm, pgd?steps=50, torchattacks:VMIFGSM, …"
    )
    eps: float = setting(8 / 255, "its radius, in units of images in [0,1], such as 8/255")
    norm: str = setting("linf", "of the ball: linf, l2, l1 or l0")
    targeted: bool = setting(
        False, "also steer to other labels, drawn once and shared by all sources"
    )
    control: bool = setting(
        True, "also make the sign-flipped control, which steers to the true labels"
    )
    ensembles: tuple[str, ...] = setting(
        (), "also attack all sources as one: logits (mean logits), loss (mean loss)"
    )
    gradients: int = setting(
        1000, "images whose gradients are compared between every two nets; 0: none"
    )
    bf16: bool = setting(False, "gradients of our own attacks in bfloat16; scores stay in float32")
    seed: int = setting(0, "of random starts, target labels and the choice of images")

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.gradients < 0:
            raise ConfigError(f"gradients must not be negative, not {self.gradients}")
        for fuse in self.ensembles:
            if fuse not in FUSES:
                raise ConfigError(f"unknown ensemble '{fuse}'{did_you_mean(fuse, FUSES)}")
        if len(set(self.ensembles)) < len(self.ensembles):
            raise ConfigError("the same ensemble twice")
        if "loss" in self.ensembles and isinstance(self.make_attack(), LibraryAttack):
            raise ConfigError(
                f"--ensembles loss: {self.attack} takes its own loss of one model's logits; use "
                "'logits', or an attack of our own"
            )
        self.make_attack()
        if self.control or self.targeted:
            self._check_targeted()

    def _check_targeted(self) -> None:
        try:
            self.make_attack(targeted=True)
        except AttackError as error:
            flag = "leave out --targeted" if self.targeted else "say --no-control"
            raise ConfigError(f"{error}, which the control and targets need: {flag}") from None

    def make_attack(self, *, targeted: bool = False) -> Attack:
        """Return the attack: away from the true label or, `targeted`, towards a given one."""
        return make_attack(
            self.attack, eps=self.eps, norm=self.norm, bf16=self.bf16, targeted=targeted
        )


@dataclass(frozen=True)
class Prepared:
    """Everything an evaluation needs, loaded and checked."""

    config: TransferConfig
    loaded: LoadedModels
    train: Callable[[], ImageSet]
    sources: Mapping[str, nn.Module]
    targets: Mapping[str, Classifier]
    imported: Mapping[str, ExternalSet]
    store: Store
    scratch: TemporaryDirectory[str] | None
    device: torch.device
    batch_size: int | None
    round: bool

    @property
    def images(self) -> ImageSet:
        """The images on which all models are compared."""
        return self.loaded.images

    def attack(self, *, targeted: bool = False) -> Attack:
        """Return the attack as configured, with images to train on where it trains."""
        return trained_on(self.config.make_attack(targeted=targeted), self.train)


def prepare(settings: Mapping[str, Any], *, keep: bool = True) -> Prepared:
    """Load images, models and imported sets; raises `RobustkitError` for whatever does not fit.

    Without `keep` the cache is only read, and what it lacks is kept as long as the process.
    """
    config = config_from(TransferConfig, settings)
    device = resolve_device(settings["device"])
    of_sources, of_targets = name_models(settings["sources"]), name_models(settings["targets"])
    for name in of_sources.keys() & of_targets.keys():
        if of_sources[name] != of_targets[name]:
            raise ConfigError(
                f"'{name}' is {of_sources[name]} as a source and {of_targets[name]} as a target: "
                "write NAME=MODEL to tell them apart"
            )
    batch_size = batch_size_of(settings)
    loaded = load_models(settings, {**of_sources, **of_targets})
    check_radius(config.eps, config.norm, loaded.images)
    nets = loaded.nets
    imported = {
        name: attacks.import_npz(typed_path(file, error=AttackError), loaded.images)
        for name, file in name_models(settings["import"]).items()
    }
    sources = _sources(config, nets, list(of_sources))
    if clash := imported.keys() & {*sources, *nets}:
        raise ConfigError(f"an imported set and a model are both called '{min(clash)}'")
    store, scratch = _open_store(settings["cache"], keep)
    train = partial(training_images, settings, loaded)
    trained_on(config.make_attack(), train)  # finds out now whether there is anything to train on
    return Prepared(
        config=config,
        loaded=loaded,
        train=train,
        sources=sources,
        targets=nets.only(list(of_targets)),
        imported=imported,
        store=store,
        scratch=scratch,
        device=device,
        batch_size=batch_size,
        round=_rounds(settings),
    )


def crafted(prepared: Prepared, name: str) -> AdversarialSet:
    """Return the untargeted set of the source `name`, from the cache where it is there."""
    config = prepared.config
    return attacks.craft(
        prepared.sources[name],
        prepared.images,
        prepared.attack(),
        seed=derive_seed(config.seed, "transfer"),
        store=prepared.store,
        round=prepared.round,
        batch_size=prepared.batch_size,
        device=prepared.device,
    )


def _sources(
    config: TransferConfig, nets: LazyModels, names: Sequence[str]
) -> Mapping[str, nn.Module]:
    """Return the sources by name, ensembles of all of them included."""
    if not config.ensembles:
        return nets.only(names)
    if len(names) < 2:
        raise ConfigError("--ensembles: an ensemble needs at least two sources")
    members = [nets[name] for name in names]  # all stay in memory: they are attacked together
    sources: dict[str, nn.Module] = dict(zip(names, members, strict=True))
    for fuse in config.ensembles:
        name = f"all, mean {fuse}"
        if name in nets:
            raise ConfigError(f"a model is called '{name}', as the ensemble is: rename it")
        sources[name] = attacks.Ensemble(members, fuse).eval()
    return sources


def _open_store(cache: str, keep: bool) -> tuple[Store, TemporaryDirectory[str] | None]:
    """Return the store of adversarial sets and, without a cache to write, its temporary folder.

    There sets are kept as long as the run, for they may not fit into memory together.
    """
    folder = None if cache == "none" else typed_path(cache, error=ConfigError)
    if folder is not None and keep:
        return Store(_cache_folder(folder)), None
    scratch = TemporaryDirectory()
    return Store(Path(scratch.name), beside=folder), scratch


def _cache_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--cache {folder}: cannot be a folder ({error.strerror})") from None
    return folder


def _rounds(settings: Mapping[str, Any]) -> bool:
    """Return whether adversarials have whole grey levels: as set, else where they are exported."""
    chosen = settings.get("round", False)  # an evaluation of an older version never rounded
    return settings["export"] != "none" if chosen is None else bool(chosen)
