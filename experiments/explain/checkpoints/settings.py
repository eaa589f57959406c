"""Which checkpoints are explained: `--run`, `--epochs`, and what excludes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from experiments.executing import FREE, for_executor
from experiments.explain.subject import resolve_settings
from experiments.history import kept_checkpoints, source_of, spans
from experiments.options import Options
from robustkit.errors import ConfigError
from robustkit.runs import RunFolder

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
