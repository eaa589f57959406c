"""From prepared models, images and attack to the summary of a transfer evaluation."""

from __future__ import annotations

import json
import time
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from msgspec import UNSET, UnsetType, structs
from torch import Tensor, nn

from robustkit import evaluation
from robustkit.cli.inputs import CleanAccuracy, LazyModels, measure_clean_accuracy
from robustkit.commands.transfer.preparation import Prepared, TransferConfig, prepare
from robustkit.commands.transfer.result import Cell, Net, Sets, Summary
from robustkit.compute import derive_seed, torch_generator
from robustkit.data import ImageSet, sample
from robustkit.errors import ConfigError
from robustkit.evaluation import GradientPairs, diagnosis
from robustkit.evaluation.gradient_similarity import Cosines
from robustkit.evaluation.transferability import TransferMatrix
from robustkit.jobs import Log, cached_per_process, executor_of, run_jobs
from robustkit.runs.summaries import Total

PLAIN, CONTROL, TARGETED = "untargeted", "sign-flipped control", "targeted"
TOWARDS_LABEL = {CONTROL: "flipped", TARGETED: "targeted"}  # targeted kinds: keys of the summary
MOST_PROBED = 500  # images on which the outputs of models are diagnosed


@dataclass(frozen=True)
class TransferResult:
    """The summary, and the matrix by which examples are chosen."""

    summary: Summary
    matrix: TransferMatrix


def transfer_all(prepared: Prepared, log: Log) -> TransferResult:
    """Craft, score and compare; `log` gets a line for every step."""
    config, images, store = prepared.config, prepared.images, prepared.store
    began = time.perf_counter()
    clean_accuracy = measure_clean_accuracy(
        prepared.loaded, prepared.device, prepared.batch_size, log, store
    )
    matrices = {
        kind: evaluate(prepared, kind, log)
        for kind in kinds(config)
        if kind == PLAIN or prepared.sources  # sets made elsewhere cannot be steered
    }
    matrix = matrices[PLAIN]
    gradients, gradient_images = _gradients(prepared, log)
    towards_label = {
        name: cells(matrices[kind]) for kind, name in TOWARDS_LABEL.items() if kind in matrices
    }
    summary = Summary(
        n=len(images),
        n_common=int(matrix.common.sum()),
        attack=prepared.attack().to_dict(),
        nets=_nets(prepared, matrix, clean_accuracy, gradients),
        pixel_space=prepared.loaded.pixel_space(),
        round=prepared.round,
        matrix=cells(matrix, gradients),
        mcnemar=_mcnemar(matrix),
        **towards_label,
        cosines=UNSET if gradients is None else _cosines(prepared, gradients),
        gradient_images=gradient_images,
        sets=Sets(
            keys=dict(matrix.keys),
            imported={
                name: adversarials.provenance for name, adversarials in prepared.imported.items()
            },
            hits=store.hits,
            misses=store.misses,
            notes=store.notes,
        ),
        seconds=Total(total=time.perf_counter() - began),
    )
    return TransferResult(summary, matrix)


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
    targeted = kind != PLAIN
    target_labels = (
        _other_labels(prepared.images, prepared.config.seed) if kind == TARGETED else None
    )
    return evaluation.transfer_matrix(
        chosen,
        prepared.targets,
        prepared.images,
        prepared.attack(targeted=targeted),
        seed=derive_seed(prepared.config.seed, "transfer"),
        target_labels=target_labels,
        imported=prepared.imported if sources is None and not targeted else {},
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
    clean_accuracy: Mapping[str, CleanAccuracy],
    gradients: GradientPairs | None,
) -> dict[str, Net]:
    images = _probe_images(prepared.images, prepared.config.seed)
    models, nets = _all_models(prepared), {}
    for name, correct in matrix.correct.items():
        fields: Any = {}
        if name in clean_accuracy:
            measured = clean_accuracy[name]
            fields = {
                "clean": measured.clean,
                "published": measured.published,
                "warnings": measured.warnings,
            }
        if name in models:
            fields["diagnostics"] = list(
                diagnosis.outputs(
                    models[name], images, batch_size=prepared.batch_size, device=prepared.device
                )
            )
            fields |= {} if gradients is None else structs.asdict(gradients.norms(name))
        nets[name] = Net(clean_acc=float(correct.mean()), **fields)
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
