"""From the settings of a transfer evaluation to its summary."""

from __future__ import annotations

import json
import time
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from msgspec import UNSET, UnsetType, structs
from torch import Tensor, nn

from robustkit import attacks, evaluation
from robustkit.attacks import FUSES, Attack, ExternalSet, Store, TorchAttack
from robustkit.attacks.registry import check_radius, make_attack, trained_on
from robustkit.cli.inputs import (
    CleanAccuracy,
    LazyModels,
    LoadedModels,
    load_models,
    measure_clean_accuracy,
    training_images,
)
from robustkit.cli.models import batch_size_of, name_models
from robustkit.cli.parser import config_from
from robustkit.commands.transfer.result import Cell, Net, Sets, Summary
from robustkit.compute import derive_seed, resolve_device, torch_generator
from robustkit.compute.seeds import check_seed
from robustkit.data import ImageSet, sample
from robustkit.errors import AttackError, ConfigError, did_you_mean
from robustkit.evaluation import GradientPairs, diagnosis
from robustkit.evaluation.gradient_similarity import Cosines
from robustkit.evaluation.transferability import TransferMatrix
from robustkit.jobs import Log, cached_per_process, executor_of, run_jobs
from robustkit.models import Classifier
from robustkit.reading import typed_path
from robustkit.runs.summaries import Total
from robustkit.settings import setting

PLAIN, CONTROL, TARGETED = "untargeted", "sign-flipped control", "targeted"
STEERED = {CONTROL: "flipped", TARGETED: "targeted"}  # kinds towards a label: keys of the summary
MOST_PROBED = 500  # images on which the outputs of models are diagnosed


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """Which attack is made on the sources, and what else is compared."""

    attack: str = setting(
        "mifgsm", "attack made on the sources: mifgsm, pgd?steps=50, torchattacks:VMIFGSM, …"
    )
    eps: float = setting(8 / 255, "its radius, in units of images in [0,1], such as 8/255")
    norm: str = setting("linf", "of the ball: linf or l2")
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
        if "loss" in self.ensembles and isinstance(self.make_attack(), TorchAttack):
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


@dataclass(frozen=True)
class Evaluation:
    """The summary, and the matrix by which examples are chosen."""

    summary: Summary
    matrix: TransferMatrix


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


def transfer_all(prepared: Prepared, log: Log) -> Evaluation:
    """Craft, score and compare; `log` gets a line for every step."""
    config, images, store = prepared.config, prepared.images, prepared.store
    began = time.perf_counter()
    clean = measure_clean_accuracy(
        prepared.loaded, prepared.device, prepared.batch_size, log, store
    )
    matrices = {
        kind: evaluate(prepared, kind, log)
        for kind in kinds(config)
        if kind == PLAIN or prepared.sources  # sets made elsewhere cannot be steered
    }
    matrix = matrices[PLAIN]
    gradients, gradient_images = _gradients(prepared, log)
    steered = {name: cells(matrices[kind]) for kind, name in STEERED.items() if kind in matrices}
    summary = Summary(
        n=len(images),
        n_common=int(matrix.common.sum()),
        attack=prepared.attack().to_dict(),
        nets=_nets(prepared, matrix, clean, gradients),
        pixel_space=prepared.loaded.pixel_space(),
        round=prepared.round,
        matrix=cells(matrix, gradients),
        mcnemar=_mcnemar(matrix),
        **steered,
        cosines=UNSET if gradients is None else _cosines(prepared, gradients),
        gradient_images=gradient_images,
        sets=Sets(
            keys=dict(matrix.keys),
            imported={name: made.provenance for name, made in prepared.imported.items()},
            hits=store.hits,
            misses=store.misses,
            notes=store.notes,
        ),
        seconds=Total(total=time.perf_counter() - began),
    )
    return Evaluation(summary, matrix)


def kinds(config: TransferConfig) -> tuple[str, ...]:
    """Return the kinds of attack that an evaluation makes on every source."""
    return (PLAIN, *([CONTROL] if config.control else []), *([TARGETED] if config.targeted else []))


def evaluate(
    prepared: Prepared,
    kind: str,
    log: Log = lambda line: None,
    *,
    sources: Sequence[str] | None = None,
) -> TransferMatrix:
    """Return the matrix of one kind of attack on `sources` (None: all, and imported sets)."""
    chosen = prepared.sources if sources is None else _only(prepared.sources, sources)
    steered = kind != PLAIN
    labels = _other_labels(prepared.images, prepared.config.seed) if kind == TARGETED else None
    return evaluation.transfer_matrix(
        chosen,
        prepared.targets,
        prepared.images,
        prepared.attack(targeted=steered),
        seed=derive_seed(prepared.config.seed, "transfer"),
        target_labels=labels,
        imported=prepared.imported if sources is None and not steered else {},
        store=prepared.store,
        round=prepared.round,
        batch_size=prepared.batch_size,
        device=prepared.device,
        on_source=lambda source: log(f"{kind}: adversarials of {source}"),
        on_cell=lambda source, target: log(f"{kind}: {source} -> {target}"),
    )


def fill_cache(prepared: Prepared, settings: Mapping[str, Any], log: Log) -> None:
    """Compute every row on the executor of the settings, into the cache that the evaluation reads.

    Inline there is nothing to do. Notes on damaged entries of the cache are kept.
    """
    if settings["executor"] == "inline":
        return
    folder = prepared.store.folder
    assert folder is not None
    if settings["cache"] == "none" and settings["ray_address"] is not None:
        raise ConfigError(
            "--cache none with --ray-address: workers hand their sets over in the cache; name a "
            "folder that all machines share"
        )
    shared = json.dumps({**settings, "cache": str(folder)})
    rows = [
        FillRow(shared, kind, source)
        for kind in kinds(prepared.config)
        for source in prepared.sources
    ]
    log(f"{len(rows)} sets of adversarials on {settings['executor']}")
    with executor_of(settings) as executor:
        for notes in run_jobs(rows, executor, log=log):
            prepared.store.notes += [note for note in notes if note not in prepared.store.notes]


@dataclass(frozen=True)
class FillRow:
    """Job: craft one source's adversarials and predict them by all targets, into the cache.

    `settings` are those of the run as JSON, with a cache that the driver can read.
    """

    settings: str
    kind: str
    source: str

    @property
    def id(self) -> str:
        """See `Job`."""
        return f"{self.kind}: {self.source}"

    def run(self) -> list[str]:
        """Fill the cache and return new notes on damaged entries that it held."""
        prepared = _prepared(self.settings)
        known = len(prepared.store.notes)
        evaluate(prepared, self.kind, sources=(self.source,))
        return prepared.store.notes[known:]


@cached_per_process()
def _prepared(settings: str) -> Prepared:
    """Return what a worker prepares once for all its rows."""
    return prepare(json.loads(settings))


def cells(
    matrix: TransferMatrix, gradients: GradientPairs | None = None
) -> dict[str, dict[str, Cell]]:
    """Return the cells of a matrix: source → target → its rates, and cosines where compared."""
    return {
        source: {target: _cell(matrix, source, target, gradients) for target in matrix.targets}
        for source in matrix.sources
    }


def _cell(
    matrix: TransferMatrix, source: str, target: str, gradients: GradientPairs | None
) -> Cell:
    rates = matrix.rates(source, target)
    cosines = {}
    if gradients is not None and {source, target} <= set(gradients.names):
        cosines = structs.asdict(gradients.cosines(source, target))
    return Cell(
        headline=rates["headline"],
        fooling=rates["fooling"],
        all=rates["all"],
        reached=matrix.hit_rate(source, target) if (source, target) in matrix.target_hit else UNSET,
        **cosines,
    )


def _nets(
    prepared: Prepared,
    matrix: TransferMatrix,
    clean: Mapping[str, CleanAccuracy],
    gradients: GradientPairs | None,
) -> dict[str, Net]:
    images = _probe_images(prepared.images, prepared.config.seed)
    models, nets = _all_models(prepared), {}
    for name, right in matrix.correct.items():
        fields: Any = {}
        if name in clean:
            one = clean[name]
            fields = {"clean": one.clean, "published": one.published, "warnings": one.warnings}
        if name in models:
            fields["diagnostics"] = list(
                diagnosis.outputs(
                    models[name], images, batch_size=prepared.batch_size, device=prepared.device
                )
            )
            fields |= {} if gradients is None else structs.asdict(gradients.norms(name))
        nets[name] = Net(clean_acc=float(right.mean()), **fields)
    return nets


def _gradients(prepared: Prepared, log: Log) -> tuple[GradientPairs | None, int | UnsetType]:
    """Compare the input gradients of all models, on as many images as the settings ask for."""
    config, images = prepared.config, prepared.images
    if config.gradients == 0:
        return None, UNSET
    if config.gradients < len(images):
        seed = derive_seed(config.seed, "gradient images")
        images = images.subset(sample(images.labels, config.gradients, seed))
    log(f"gradients of {len(images):,} images")
    pairs = evaluation.gradient_pairs(
        _all_models(prepared),
        images,
        store=prepared.store,
        batch_size=prepared.batch_size,
        device=prepared.device,
    )
    return pairs, len(images)


def _cosines(prepared: Prepared, gradients: GradientPairs) -> dict[str, Cosines]:
    return {
        f"{first} | {second}": gradients.cosines(first, second)
        for first, second in combinations(_all_models(prepared), 2)
    }


def _mcnemar(matrix: TransferMatrix) -> dict[str, dict[str, float]]:
    """Return the exact p of every two targets: source → "first | second" → p."""
    pairs = list(combinations(matrix.targets, 2))
    return {
        source: {
            f"{first} | {second}": matrix.p_value(source, first, second) for first, second in pairs
        }
        for source in matrix.sources
    }


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


def _all_models(prepared: Prepared) -> Mapping[str, nn.Module]:
    """Return sources and targets by name, looked up when they are needed; targets come first."""
    # A chain map iterates over its last part first.
    parts: list[Any] = [prepared.sources, prepared.targets]
    return ChainMap(*parts)


def _only(nets: Mapping[str, nn.Module], names: Sequence[str]) -> Mapping[str, nn.Module]:
    return (
        nets.only(names) if isinstance(nets, LazyModels) else {name: nets[name] for name in names}
    )


def _probe_images(images: ImageSet, seed: int, count: int = 100) -> ImageSet:
    count = max(count, min(images.num_classes, MOST_PROBED))
    if len(images) <= count:
        return images
    return images.subset(sample(images.labels, count, derive_seed(seed, "probe")))


def _other_labels(images: ImageSet, seed: int) -> Tensor:
    """Return one of the other classes for every image, uniformly at random: int64 (N,)."""
    steps = torch.randint(
        1, images.num_classes, (len(images),), generator=torch_generator("wanted labels", seed)
    )
    return (images.labels + steps) % images.num_classes
