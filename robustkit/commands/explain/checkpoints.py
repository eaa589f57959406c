"""`robustkit explain --run`: the same maps for every checkpoint of a training."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from msgspec import UNSET
from msgspec.structs import replace
from torch import Tensor

from robustkit import explain, models
from robustkit.cli.context import FREE, for_executor
from robustkit.cli.parser import Options, config_from
from robustkit.commands.explain.config import ExplainOptions
from robustkit.commands.explain.panels import draw_strips
from robustkit.commands.explain.pipeline import describe_images, write_arrays
from robustkit.commands.explain.result import (
    CONTROLS,
    BriefScore,
    Change,
    ChangeSimilarity,
    CheckpointResult,
    CheckpointsSummary,
    EpochResult,
    ImagePrediction,
    ImageTarget,
    take_fields,
)
from robustkit.commands.explain.scores import score_maps, similarity
from robustkit.commands.explain.subject import Settings, Subject, load_subject, resolve_settings
from robustkit.compute import single_thread
from robustkit.data.arrays import read_npz
from robustkit.errors import ConfigError, DataError, RunError
from robustkit.explain.methods import make_maps
from robustkit.jobs import Log, run_phases
from robustkit.reading import printable
from robustkit.runs import RunFolder, atomic_path
from robustkit.runs.summaries import check_has
from robustkit.training.checkpoints import accuracy_by_epoch, kept_checkpoints, source_of, spans

PARTS = "checkpoint"  # the folder of maps that are not yet put together

_ONLY_WITH_RUN = ("run", "epochs", *FREE)
_EXCLUDED = ("model", "contrast", "repair", "transfer")  # other options that name models


def resolve_run(settings: Settings, given: Collection[str]) -> Settings:
    """Return the settings with the epochs written out, and the data of `--run` unless given.

    Raises `ConfigError` for options that exclude each other and for epochs without a checkpoint,
    `RunError` as `RunFolder.open`.
    """
    for name in _EXCLUDED:
        if settings[name] is not None:
            raise ConfigError(
                f"--{name}: --run explains the checkpoints of a training; leave one of them out"
            )
    if settings["mask"] is not None:
        raise ConfigError("--mask is for one model: with --run there is no masking check")
    folder = RunFolder.open(settings["run"], command="train")
    chosen = _chosen_epochs(folder, settings["epochs"])
    taken = {name: value for name, value in source_of(folder).items() if name not in given}
    # The rest is as for the last model alone.
    last = str(kept_checkpoints(folder)[chosen[-1]])
    resolved = resolve_settings({**settings, **taken, "model": last}, given)
    return {**resolved, "model": None, "epochs": [str(epoch) for epoch in chosen]}


def without_run(settings: Settings, options: Options) -> Settings:
    """Return the settings of one model's explanation, without the options of `--run`.

    Raises `ConfigError` where the user gave one.
    """
    if settings["epochs"]:
        raise ConfigError("--epochs names checkpoints of --run DIR, which is missing")
    # Printed options name defaults, too, which nobody asked for.
    printed = for_executor({name: options.parser.get_default(name) for name in FREE}, {})
    for name in FREE:
        if options.given.get(name, printed[name]) != printed[name]:
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag} is for the checkpoints of --run DIR, which is missing")
    return {name: value for name, value in settings.items() if name not in _ONLY_WITH_RUN}


def check_resumable(path: str) -> None:
    """Raise `ConfigError` for the folder of one model's explanation, which is made in one go."""
    folder = RunFolder.open(path, command="explain")
    if folder.config.get("run") is None:
        raise ConfigError(
            f"{path}: explains one model, and only explanations with --run can be resumed; "
            f"start anew with --config {path}/config.yaml"
        )


@dataclass(frozen=True)
class ExplainCheckpoint:
    """Explain the images of the run in the folder `path` by the model file of one epoch.

    `targets` are the class numbers of the images, the same for every epoch.
    """

    id: str
    path: str
    model: str
    epoch: int
    targets: tuple[int, ...]
    timeout: float | None = None

    kind: ClassVar[Any] = CheckpointResult

    def run(self) -> Mapping[str, Any]:
        """Write the maps; return predictions and scores as the JSON of `CheckpointResult`."""
        folder = RunFolder.open(self.path)
        options = config_from(ExplainOptions, folder.config)
        subject = load_subject({**folder.config, "model": self.model})
        targets = torch.tensor(self.targets)
        maps = make_maps(
            subject.model, subject.pixels, targets, options.method, options.map_settings()
        )
        result = CheckpointResult(images=describe_images(subject, targets, options))
        if options.check:
            scores = score_maps(subject, targets, maps, result.images, options)
            sanity = scores[options.method[0]].sanity
            assert sanity is not UNSET
            result = replace(result, scores=scores, layers=list(sanity.cascading))
        file = part_file(folder.path, self.epoch)
        file.parent.mkdir(exist_ok=True)
        write_arrays(file, {name: method.pixels.cpu().numpy() for name, method in maps.items()})
        return result.to_json()


@dataclass(frozen=True, eq=False)
class Prepared:
    """What an explanation needs, loaded and checked.

    `files` are the models and `accuracy` their validation accuracies by epoch; `subject` has the
    last model; `targets` int64 (N,) are the classes of the images in every epoch.
    """

    files: Mapping[int, Path]
    accuracy: Mapping[int, float]
    subject: Subject
    targets: Tensor
    options: ExplainOptions


def prepare(settings: Settings) -> Prepared:
    """Load what resolved settings name, and try the last checkpoint's maps on one image.

    So mistakes show before there is a folder; raises `RobustkitError` for them.
    """
    folder = RunFolder.open(settings["run"], command="train")
    kept = kept_checkpoints(folder)
    files = {epoch: kept[epoch] for epoch in _chosen_epochs(folder, settings["epochs"])}
    for file in files.values():
        models.read_card(file)
    accuracy = accuracy_by_epoch(folder)
    options = config_from(ExplainOptions, settings)
    subject = load_subject({**settings, "model": str(files[max(files)])})
    targets = subject.targets(options.target)
    one = slice(0, 1)
    make_maps(
        subject.model, subject.pixels[one], targets[one], options.method, options.map_settings()
    )
    return Prepared(files, accuracy, subject, targets, options)


def run_checkpoints(prepared: Prepared, folder: RunFolder, log: Log) -> CheckpointsSummary:
    """Explain every checkpoint that is not yet done and return the summary.

    Writes `maps.npz` and a strip for each image and method. Maps of a checkpoint that are lost or
    damaged are made again. Raises `RunError` where a job fails.
    """
    targets, methods = tuple(prepared.targets.tolist()), prepared.options.method
    path = str(folder.path.resolve())
    jobs = [
        ExplainCheckpoint(epoch_id(epoch), path, str(file.resolve()), epoch, targets)
        for epoch, file in prepared.files.items()
    ]
    trials = {trial.id: trial for trial in run_phases([jobs], folder, stage="explain", log=log)}
    ledger = folder.file("ledger.sqlite")
    results = {
        job.epoch: _read_result(trials[job.id].result, methods, f"{ledger}: trial '{job.id}'")
        for job in jobs
    }
    images, _, height, width = prepared.subject.pixels.shape
    shape = (images, height, width)
    parts = {job.epoch: _read_part(job, folder, methods, shape, log) for job in jobs}
    maps = {name: {epoch: parts[epoch][name] for epoch in parts} for name in methods}
    arrays = {"images": prepared.subject.pixels.numpy()}
    for name, by_epoch in maps.items():
        arrays |= {f"{name}/{epoch_id(epoch)}": each.numpy() for epoch, each in by_epoch.items()}
    write_arrays(folder.file("maps.npz"), arrays)
    summary = summarise(prepared, results, maps)
    for name, picture in draw_strips(prepared.subject, summary, maps):
        with atomic_path(folder.file(name)) as temporary:
            temporary.write_bytes(picture)
    return summary


def summarise(
    prepared: Prepared,
    results: Mapping[int, CheckpointResult],
    maps: Mapping[str, Mapping[int, Tensor]],
) -> CheckpointsSummary:
    """Return predictions, changes of the maps (N,H,W) and scores, from the results by epoch."""
    last, options = max(results), prepared.options
    return CheckpointsSummary(
        target=options.target,
        target_epoch=last if options.target == "predicted" else None,
        images=[take_fields(ImageTarget, image) for image in results[last].images],
        epochs=[
            EpochResult(
                epoch=epoch,
                val_acc=prepared.accuracy.get(epoch),
                images=[take_fields(ImagePrediction, image) for image in result.images],
                scores=None
                if result.scores is UNSET
                else {name: BriefScore.from_score(each) for name, each in result.scores.items()},
            )
            for epoch, result in results.items()
        ],
        changes={name: changes(by_epoch) for name, by_epoch in maps.items()},
        scores=results[last].scores,
    )


def changes(maps: Mapping[int, Tensor]) -> list[Change]:
    """Return, for each epoch of one method's maps (N,H,W), their similarity to other epochs'.

    `final` is with the last epoch's, `previous` with those of the epoch before it among `maps`,
    None for the first.
    """
    epochs = sorted(maps)
    final = maps[epochs[-1]]
    return [
        Change(
            epoch=epoch,
            final=_change_similarity(maps[epoch], final),
            previous=None if before is None else _change_similarity(maps[epoch], maps[before]),
        )
        for before, epoch in zip([None, *epochs], epochs, strict=False)
    ]


def remove_parts(folder: RunFolder) -> None:
    """Remove the maps of single checkpoints, which `maps.npz` holds once a run is done."""
    shutil.rmtree(folder.file(PARTS), ignore_errors=True)


def epoch_id(epoch: int) -> str:
    """Return the name of an epoch in ledgers and files."""
    return f"epoch_{epoch:04}"


def part_file(path: Path, epoch: int) -> Path:
    """Return the file of a checkpoint's maps, METHOD (N,H,W), in the run folder `path`."""
    return path / PARTS / f"{epoch_id(epoch)}.npz"


def _chosen_epochs(folder: RunFolder, given: Collection[str]) -> list[int]:
    """Return the epochs asked for, or all that were kept, in order."""
    kept = kept_checkpoints(folder)
    if not kept:
        raise ConfigError(f"{folder.path}: no checkpoints in its history/, nothing to explain")
    for epoch in given:
        if not epoch.isdecimal():
            raise ConfigError(f"--epochs: numbers between commas, not '{epoch}'")
        if int(epoch) not in kept:
            raise ConfigError(
                f"--epochs: {folder.path} has no checkpoint of epoch {int(epoch)} "
                f"(there is {spans(kept)})"
            )
    chosen = [int(epoch) for epoch in given] or list(kept)
    if len(set(chosen)) < len(chosen):
        raise ConfigError("--epochs: the same epoch twice")
    return sorted(chosen)


def _change_similarity(first: Tensor, second: Tensor) -> ChangeSimilarity:
    images = [
        explain.spearman(first[row : row + 1], second[row : row + 1]).mean
        for row in range(len(first))
    ]
    return take_fields(ChangeSimilarity, similarity(first, second), images=images)


def _read_result(value: Any, methods: Sequence[str], where: str) -> CheckpointResult:
    """Return a result of the ledger with methods and layers in the order of `score_maps`.

    Raises `RunError`, which begins with `where`, for a result that was edited.
    """
    result = CheckpointResult.from_json(value, where)
    if result.scores is UNSET:
        return result
    layers = [] if result.layers is UNSET else result.layers
    names = (*methods, *CONTROLS)
    check_has(result.scores, names, f"{where}: scores")
    scores = {name: result.scores[name] for name in names}
    for name in methods:
        sanity = scores[name].sanity
        if sanity is UNSET or sanity.independent is UNSET:
            raise RunError(f"{where}: scores.{printable(name)}: 'sanity' is not complete")
        ordered = {}
        for kind, table in (
            ("cascading", sanity.cascading),
            ("independent", sanity.independent),
        ):
            check_has(table, layers, f"{where}: scores.{printable(name)}.sanity.{kind}")
            ordered[kind] = {layer: table[layer] for layer in layers}
        scores[name] = replace(scores[name], sanity=replace(sanity, **ordered))
    return replace(result, scores=scores)


def _read_part(
    job: ExplainCheckpoint,
    folder: RunFolder,
    methods: tuple[str, ...],
    shape: tuple[int, ...],
    log: Log,
) -> dict[str, Tensor]:
    """Return the maps of one checkpoint by method, of this shape (N,H,W) each."""
    file = part_file(folder.path, job.epoch)
    try:
        saved = read_npz(file, methods, ())
        if any(maps.shape != shape or maps.dtype.kind != "f" for maps in saved.values()):
            raise DataError(f"{file}: not maps of {shape}")
    except DataError:
        log(f"{job.id}: its maps are lost or damaged and made anew")
        with single_thread():  # as the job was run
            job.run()
        saved = read_npz(file, methods, ())
    return {name: torch.from_numpy(saved[name]) for name in methods}
