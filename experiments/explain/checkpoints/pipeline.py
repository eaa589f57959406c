"""From the checkpoints of a training to their maps, strips and a summary."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.explain.checkpoints.changes import changes
from experiments.explain.checkpoints.jobs import PARTS, ExplainCheckpoint, key, part
from experiments.explain.checkpoints.scores import brief, in_order
from experiments.explain.checkpoints.settings import checkpoint_files
from experiments.explain.checkpoints.strips import draw_strips
from experiments.explain.config import ExplainOptions
from experiments.explain.pipeline import map_settings, write_arrays
from experiments.explain.subject import Subject, load_subject
from experiments.history import accuracy_by_epoch
from experiments.options import config_from
from experiments.pieces import Say, carry_out
from robustkit import models
from robustkit.compute import single_thread
from robustkit.data.arrays import read_npz
from robustkit.errors import DataError
from robustkit.explain.methods import make_maps
from robustkit.runs import RunFolder, Trial, atomic_path

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

    So mistakes show before there is a folder; raises the house's errors for them.
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


def run_checkpoints(prepared: Prepared, folder: RunFolder, say: Say) -> dict[str, Any]:
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
    trials = carry_out([jobs], folder, arm="explain", say=say)
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
    prepared: Prepared, trials: Sequence[Trial], maps: Mapping[str, Mapping[int, Tensor]]
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
    say: Say,
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
