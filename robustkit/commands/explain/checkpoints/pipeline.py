"""From the checkpoints of a training to their maps, strips and a summary."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from robustkit import explain, models
from robustkit.cli.context import FREE, for_executor
from robustkit.cli.parser import Options, config_from
from robustkit.commands.explain.checkpoints.strips import draw_strips
from robustkit.commands.explain.config import ExplainOptions
from robustkit.commands.explain.pipeline import describe, judge, map_settings, write_arrays
from robustkit.commands.explain.scores import CONTROLS, similarity
from robustkit.commands.explain.subject import Subject, load_subject, resolve_settings
from robustkit.compute import single_thread
from robustkit.data.arrays import read_npz
from robustkit.errors import ConfigError, DataError
from robustkit.explain.methods import make_maps
from robustkit.jobs import Log, run_phases
from robustkit.runs import Entry, RunFolder, atomic_path
from robustkit.training.checkpoints import accuracy_by_epoch, kept_checkpoints, source_of, spans

OF_RUN = ("run", "epochs", *FREE)  # options that one model's explanation has no use for
OTHERS = ("model", "contrast", "repair", "transfer")  # what else may name models


def resolve_run(settings: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """The settings with the epochs written out, and the data of `--run` where none was given.

    Raises `ConfigError` for options that exclude each other and for epochs without a checkpoint,
    `RunError` as `RunFolder.open`.
    """
    for name in OTHERS:
        if settings[name] is not None:
            raise ConfigError(
                f"--{name}: --run explains the checkpoints of a training; leave one of them out"
            )
    if settings["mask"] is not None:
        raise ConfigError("--mask is for one model: with --run there is no masking check")
    folder = RunFolder.open(settings["run"], verb="train")
    chosen = _chosen(folder, settings["epochs"])
    taken = {name: value for name, value in source_of(folder).items() if name not in given}
    # The rest is as for the last model alone.
    last = str(kept_checkpoints(folder)[chosen[-1]])
    resolved = resolve_settings({**settings, **taken, "model": last}, given)
    return {**resolved, "model": None, "epochs": [str(epoch) for epoch in chosen]}


def without_run(settings: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """The settings of one model's explanation: what is of `--run` left out.

    Raises `ConfigError` where a person gave it.
    """
    if settings["epochs"]:
        raise ConfigError("--epochs names checkpoints of --run DIR, which is missing")
    # Printed options name what nobody asked for, too.
    printed = for_executor({name: options.parser.get_default(name) for name in FREE}, {})
    for name in FREE:
        if options.given.get(name, printed[name]) != printed[name]:
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag} is for the checkpoints of --run DIR, which is missing")
    return {name: value for name, value in settings.items() if name not in OF_RUN}


def check_resumable(path: str) -> None:
    """Raise `ConfigError` for the folder of one model's explanation, which is made in one go."""
    folder = RunFolder.open(path, verb="explain")
    if folder.config.get("run") is None:
        raise ConfigError(
            f"{path}: explains one model, and only explanations with --run can be resumed; "
            f"start anew with --config {path}/config.yaml"
        )


def checkpoint_files(settings: Mapping[str, Any]) -> dict[int, Path]:
    """The model files that resolved settings name, by epoch in order.

    Raises `ConfigError` where one is there no more.
    """
    folder = RunFolder.open(settings["run"], verb="train")
    found = kept_checkpoints(folder)
    return {epoch: found[epoch] for epoch in _chosen(folder, settings["epochs"])}


def _chosen(folder: RunFolder, given: Collection[str]) -> list[int]:
    """The epochs asked for, or all that were kept, in order."""
    found = kept_checkpoints(folder)
    if not found:
        raise ConfigError(f"{folder.path}: no checkpoints in its history/, nothing to explain")
    for each in given:
        if not each.isdecimal():
            raise ConfigError(f"--epochs: numbers between commas, not '{each}'")
        if int(each) not in found:
            raise ConfigError(
                f"--epochs: {folder.path} has no checkpoint of epoch {int(each)} "
                f"(there is {spans(found)})"
            )
    chosen = [int(each) for each in given] or list(found)
    if len(set(chosen)) < len(chosen):
        raise ConfigError("--epochs: the same epoch twice")
    return sorted(chosen)


PARTS = "checkpoint"  # the folder of what is not yet put together


def key(epoch: int) -> str:
    """What an epoch is called in ledgers and files."""
    return f"epoch_{epoch:04}"


def part(path: Path, epoch: int) -> Path:
    """The file of a checkpoint's maps, METHOD (N,H,W) each, in the run folder `path`."""
    return path / PARTS / f"{key(epoch)}.npz"


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

    kind: ClassVar[Any] = dict[str, Any]

    def run(self) -> dict[str, Any]:
        """What the checkpoint says of every image, and how good its maps are; writes the maps."""
        folder = RunFolder.open(self.path)
        options = config_from(ExplainOptions, folder.config)
        subject = load_subject({**folder.config, "model": self.model})
        targets = torch.tensor(self.targets)
        settings = map_settings(options)
        maps = make_maps(subject.model, subject.pixels, targets, options.method, settings)
        images = describe(subject, targets, options)
        result: dict[str, Any] = {"images": images}
        if options.check:
            result["scores"] = scores = judge(subject, targets, maps, images, options)
            # A ledger sorts names; layers have an order of their own.
            result["layers"] = list(scores[options.method[0]]["sanity"]["cascading"])
        file = part(folder.path, self.epoch)
        file.parent.mkdir(exist_ok=True)
        write_arrays(file, {name: each.pixels.cpu().numpy() for name, each in maps.items()})
        return result


def changes(maps: Mapping[int, Tensor]) -> list[dict[str, Any]]:
    """For each epoch of one method's maps (N,H,W), in order, their likeness to other epochs'.

    `final` is with the last epoch's, `previous` with those of the epoch before it among `maps`,
    None for the first. See `likeness`.
    """
    epochs = sorted(maps)
    final = maps[epochs[-1]]
    before = [None, *epochs]
    return [
        {
            "epoch": epoch,
            "final": likeness(maps[epoch], final),
            "previous": None if last is None else likeness(maps[epoch], maps[last]),
        }
        for last, epoch in zip(before, epochs, strict=False)
    ]


def likeness(first: Tensor, second: Tensor) -> dict[str, Any]:
    """`similarity` of maps (N,H,W), and Spearman's correlation of each of the N as `images`.

    None for an image one of whose maps is constant and has no ranks.
    """
    each = [
        explain.spearman(first[row : row + 1], second[row : row + 1]) for row in range(len(first))
    ]
    return {**similarity(first, second), "images": [found.mean for found in each]}


BRIEF = ("mean", "low", "high", "n")


def in_order(result: Mapping[str, Any], methods: Sequence[str]) -> dict[str, Any]:
    """The scores of a job's result, as `score_maps` gives them for one model.

    The ledger sorted methods and layers by name; here they are as asked for, and as the image
    meets them from the last one back.
    """
    scores: dict[str, Any] = {name: result["scores"][name] for name in (*methods, *CONTROLS)}
    for name in methods:
        sanity = dict(scores[name]["sanity"])
        for kind in ("cascading", "independent"):
            sanity[kind] = {layer: sanity[kind][layer] for layer in result["layers"]}
        scores[name] = {**scores[name], "sanity": sanity}
    return scores


def brief(result: Mapping[str, Any], methods: Sequence[str]) -> dict[str, Any] | None:
    """The same without curves and single layers; None where the maps were not checked."""
    if "scores" not in result:
        return None
    told: dict[str, Any] = {}
    for name, each in in_order(result, methods).items():
        told[name] = {kind: _brief_score(each[kind], BRIEF) for kind in ("deletion", "insertion")}
        if name in methods:
            told[name]["sanity"] = _brief_score(each["sanity"], ("signed", "absolute", "ssim"))
            told[name] |= {kind: each[kind] for kind in ("stability", "completeness")}
    return told


def _brief_score(found: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: found[name] for name in names}


OF_IMAGE = ("index", "true", "target")  # what is the same in every epoch
OF_EPOCH = ("index", "target", "predicted", "score", "probability", "residual_max")


@dataclass(frozen=True, eq=False)
class Prepared:
    """The model `files` and validation `accuracy` by epoch, the last model with the images, and
    the class int64 (N,) that is looked at in every epoch."""

    files: Mapping[int, Path]
    accuracy: Mapping[int, float]
    subject: Subject
    targets: Tensor
    options: ExplainOptions


def prepare(settings: Mapping[str, Any]) -> Prepared:
    """Load what resolved settings name, and try the last checkpoint's maps on one image.

    So mistakes show before there is a folder; raises `RobustkitError` for them.
    """
    files = checkpoint_files(settings)
    for file in files.values():
        models.read_card(file)
    accuracy = accuracy_by_epoch(RunFolder.open(settings["run"], verb="train"))
    options = config_from(ExplainOptions, settings)
    subject = load_subject({**settings, "model": str(files[max(files)])})
    targets = subject.targets(options.target)
    one = slice(0, 1)
    make_maps(
        subject.model, subject.pixels[one], targets[one], options.method, map_settings(options)
    )
    return Prepared(files, accuracy, subject, targets, options)


def run_checkpoints(prepared: Prepared, folder: RunFolder, say: Log) -> dict[str, Any]:
    """Explain every checkpoint that is not yet done, then write `maps.npz` and a strip for each
    image and method; returns the summary.

    Maps of a checkpoint that are lost or damaged are made anew. Raises `RunError` where a job
    fails.
    """
    targets, methods = tuple(prepared.targets.tolist()), prepared.options.method
    path = str(folder.path.resolve())
    jobs = [
        ExplainCheckpoint(key(epoch), path, str(file.resolve()), epoch, targets)
        for epoch, file in prepared.files.items()
    ]
    trials = run_phases([jobs], folder, stage="explain", log=say)
    images, _, height, width = prepared.subject.pixels.shape
    shape = (images, height, width)
    parts = {job.epoch: _maps(job, folder, methods, shape, say) for job in jobs}
    maps = {name: {epoch: parts[epoch][name] for epoch in parts} for name in methods}
    arrays = {"images": prepared.subject.pixels.numpy()}
    for name, found in maps.items():
        arrays |= {f"{name}/{key(epoch)}": each.numpy() for epoch, each in found.items()}
    write_arrays(folder.file("maps.npz"), arrays)
    summary = summarise(prepared, trials, maps)
    for name, drawn in draw_strips(prepared.subject, summary, maps):
        with atomic_path(folder.file(name)) as temporary:
            temporary.write_bytes(drawn)
    return summary


def forget_parts(folder: RunFolder) -> None:
    """Remove the maps of single checkpoints, which `maps.npz` holds once a run is done."""
    shutil.rmtree(folder.file(PARTS), ignore_errors=True)


def summarise(
    prepared: Prepared, trials: Sequence[Entry], maps: Mapping[str, Mapping[int, Tensor]]
) -> dict[str, Any]:
    """What each epoch says of the images, how the maps change, and how good they are."""
    results = {trial.id: trial.result or {} for trial in trials}
    by_epoch = {epoch: results[key(epoch)] for epoch in prepared.files}
    last = max(by_epoch)
    predicted = prepared.options.target == "predicted"
    summary: dict[str, Any] = {
        "target": prepared.options.target,
        "target_epoch": last if predicted else None,
        "images": [_of(image, OF_IMAGE) for image in by_epoch[last]["images"]],
        "epochs": [
            {
                "epoch": epoch,
                "val_acc": prepared.accuracy.get(epoch),
                "images": [_of(image, OF_EPOCH) for image in result["images"]],
                "scores": brief(result, prepared.options.method),
            }
            for epoch, result in by_epoch.items()
        ],
        "changes": {name: changes(found) for name, found in maps.items()},
    }
    if prepared.options.check:
        summary["scores"] = in_order(by_epoch[last], prepared.options.method)
    return summary


def _of(image: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: image[name] for name in names}


def _maps(
    job: ExplainCheckpoint,
    folder: RunFolder,
    methods: tuple[str, ...],
    shape: tuple[int, ...],
    say: Log,
) -> dict[str, Tensor]:
    """The maps of one checkpoint by method, of this shape (N,H,W) each."""
    file = part(folder.path, job.epoch)
    try:
        saved = read_npz(file, methods, ())
        if any(each.shape != shape or each.dtype.kind != "f" for each in saved.values()):
            raise DataError(f"{file}: not maps of {shape}")
    except DataError:
        say(f"{job.id}: its maps are lost or damaged and made anew")
        with single_thread():  # as the job was run
            job.run()
        saved = read_npz(file, methods, ())
    return {name: torch.from_numpy(saved[name]) for name in methods}
