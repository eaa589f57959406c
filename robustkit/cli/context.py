"""What the commands share: options of data, executor and run folder, settings, and the folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from robustkit.cli.parser import HOUSEKEEPING, CommandParser, Options, real
from robustkit.errors import ConfigError, RobustkitError, RunError
from robustkit.reading import Json, typed_path
from robustkit.runs import Ledger, RunFolder, check_same_config
from robustkit.runs.folder import EDITED

RUNS = Path("runs")
# Options of the executor, which a resumed run may change: its results stay the same to the bit.
FREE = ("executor", "workers", "ray_address", "cpus_per_trial", "gpus_per_trial")
# Options that folders of older versions may lack: they then have what commands had before them.
LATER = ("extend", "trust", "download", "penalty_views", "penalty_every", "lam_ramp", "early_stop")
EMPTY = {"config.yaml", "env.json", ".lock"}  # what a run folder holds before there are results


def add_executor_options(parser: CommandParser, jobs: str, *, default: str = "processes") -> Any:
    """Add the options of the executor; return their group, for limits of a command's own.

    `jobs` names what the workers do, for the help.
    """
    parser.adjust = for_executor
    group = parser.add_argument_group("executor")
    group.add_argument("--executor", default=default, help="inline, processes or ray")
    group.add_argument(
        "--workers",
        type=int,
        default=2,
        help=f"{jobs} at a time, one thread each; 0 with ray: as many as there is room for",
    )
    group.add_argument(
        "--ray-address", metavar="auto|HOST:PORT", help="Ray cluster to join; none: this machine"
    )
    group.add_argument("--cpus-per-trial", type=real, default=1.0, help="CPUs of each Ray worker")
    group.add_argument(
        "--gpus-per-trial", type=real, default=0.0, help="GPUs of each, 0.25 packs four on one"
    )
    return group


def add_run_options(parser: CommandParser, *, resumable: bool) -> None:
    """Add `--out`, `--device` and, where interrupted runs can go on, `--resume`."""
    group = parser.add_argument_group("run")
    group.add_argument(
        "--out", metavar="DIR", help="new run folder; none: the next free under runs/"
    )
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    if resumable:
        group.add_argument("--resume", metavar="DIR", help="go on with the run in this folder")


def add_data_options(parser: CommandParser) -> None:
    """Add `--data`, `--root` and `--download`, for every command that loads images."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        default="digits",
        help="digits, mnist, fashion_mnist, cifar10, cifar100, svhn, gtsrb, cifar10c, folder:PATH, "
        "images:PATH?labels=FILE, imagenet:PATH or npz:PATH, with ?size=224&resize=256&… behind",
    )
    group.add_argument("--root", metavar="DIR", help="folder of the data; none: $ROBUSTKIT_DATA")
    group.add_argument(
        "--download",
        action="store_true",
        help="allow data to be downloaded into the root, and weights into their cache",
    )


def for_executor(config: Mapping[str, Any], given: Mapping[str, Any]) -> Json:
    """Return the settings, without limits that an inline executor cannot keep unless given."""
    if config.get("executor") != "inline":
        return dict(config)
    limits = {"workers": 1, "timeout": None}
    changed = {name: given.get(name, value) for name, value in limits.items() if name in config}
    return {**config, **changed}


def settings(command: str, options: Options) -> Json:
    """Return the settings of the run: the options or, with `--resume`, those of its folder.

    Options of the executor may change; modules that extended the run have to be named again.
    Raises `ConfigError` for `--out` beside `--resume`, and `RunError` naming the first other option
    that was given and differs from the saved one, or that the saved ones lack.
    """
    chosen = for_executor(_without_housekeeping(options.values), options.given)
    resume = options.values.get("resume")
    if resume is None:
        return chosen
    if options.out is not None:
        raise ConfigError(
            "--out and --resume exclude each other: a resumed run stays in its folder"
        )
    saved = RunFolder.open(resume, command=command).config
    for name in chosen:
        if name not in saved and name not in LATER:
            raise RunError(
                f"{resume}/config.yaml: no '{name}'; {EDITED}, which alone can go on with this run"
            )
    _same_modules(saved, options, resume)
    saved = options.checked(saved, f"{resume}/config.yaml")
    given = _without_housekeeping(options.given)
    changed = {name: given.pop(name) for name in FREE if name in given}
    check_same_config(saved, given)
    return for_executor(saved | changed, options.given)


@contextmanager
def run_folder(
    command: str,
    options: Options,
    config: Mapping[str, Any],
    *,
    keep_failed: bool = True,
    resumable: bool = True,
) -> Iterator[RunFolder]:
    """Give the locked folder of the run, new or resumed; an interrupt tells how to go on.

    Without `resumable` this run cannot be resumed, although others of its command can. Without
    `keep_failed` an error removes the new folder, unless there are results in it already. Raises
    `RunError` when a new folder's path exists, or when another process works in it.
    """
    folder = _folder(command, options, config)
    try:
        with folder.lock():
            try:
                yield folder
            except RobustkitError:
                if not keep_failed and _is_empty(folder.path):
                    shutil.rmtree(folder.path)
                raise
    except KeyboardInterrupt as interrupt:
        if resumable and "resume" in options.values:
            hint = f"go on with: robustkit {command} --resume {folder.path}"
        else:
            hint = f"start anew with: robustkit {command} --config {folder.file('config.yaml')}"
        raise KeyboardInterrupt(hint) from interrupt


def next_free(command: str, runs: Path = RUNS) -> Path:
    """Return the first of `runs/COMMAND-1`, `runs/COMMAND-2`, … that does not exist."""
    number = 1
    while (runs / f"{command}-{number}").exists():
        number += 1
    return runs / f"{command}-{number}"


def _folder(command: str, options: Options, config: Mapping[str, Any]) -> RunFolder:
    if options.values.get("resume") is not None:
        return replace(RunFolder.open(options.resume, command=command), config=dict(config))
    path = next_free(command) if options.out is None else typed_path(options.out, error=ConfigError)
    return RunFolder.create(path, command=command, config=dict(config), argv=list(options.command))


def _is_empty(path: Path) -> bool:
    """Return whether a run folder has no results: no other file, and no trial in its ledger."""
    names = {file.name for file in path.iterdir()}
    if not names <= EMPTY | {"ledger.sqlite", "checkpoint"}:
        return False
    ledger, kept = path / "ledger.sqlite", path / "checkpoint"
    if kept.is_dir() and any(kept.iterdir()):
        return False
    if not ledger.exists():
        return True
    with Ledger.read(ledger) as opened:
        return not opened.counts()


def _same_modules(saved: Mapping[str, Any], options: Options, resume: str) -> None:
    """Raise `RunError` unless the user names the modules again that extended the run."""
    before, now = (",".join(map(str, each.get("extend", []))) for each in (saved, options.given))
    if before != now:
        made_with, now_given = (
            f"--extend {text}" if text else "no --extend" for text in (before, now)
        )
        raise RunError(
            f"{resume} was made with {made_with}, and {now_given} is given; a run goes on with the "
            "same modules, which are imported only where you name them"
        )


def _without_housekeeping(options: Mapping[str, Any]) -> Json:
    return {name: value for name, value in options.items() if name not in HOUSEKEEPING}
