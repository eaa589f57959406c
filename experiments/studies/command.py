"""`robustkit reproduce`: run a published experiment and set our results beside the published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.studies import EXPERIMENTS, SCALES, Study, find
from experiments.studies.evidence import comparison, evidence, listing
from experiments.studies.running import check_scale, of_settings, run_study, summary_of
from robustkit.cli.context import add_executor_options, run_folder, settings
from robustkit.cli.output import log
from robustkit.cli.parser import CommandParser, Options
from robustkit.compute import resolve_device
from robustkit.compute.seeds import check_seed
from robustkit.errors import ConfigError, RunError
from robustkit.reading import read_text
from robustkit.runs import RunFolder, write_text
from robustkit.runs.folder import finished


def add_arguments(parser: CommandParser) -> None:
    """Declare which experiment to run, at which scale, and what every run has."""
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="experiment, or one table or figure of it",
    )
    parser.add_argument("--list", action="store_true", help="list them and stop")
    parser.add_argument(
        "--evidence", metavar="DIR", help="print the page of all results in this folder and stop"
    )
    scales = "; ".join(f"{name}: {meaning}" for name, meaning in SCALES.items())
    parser.add_argument("--scale", default="small", help=scales)
    parser.add_argument(
        "--weights", metavar="FILE", help="torchvision's VGG-16's, for contribution-maps"
    )
    parser.add_argument("--images", metavar="DIR", help="pictures for it")
    parser.add_argument("--seed", type=int, default=0, help="seed of the run")
    parser.add_argument("--out", metavar="DIR", help="new run folder; none: the next free one")
    parser.add_argument("--resume", metavar="DIR", help="go on with the run in this folder")
    add_executor_options(parser, "jobs of a study")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")


def run(options: Options) -> int:
    """Run the study; print the comparison and save it as `comparison.md`."""
    for flag in ("evidence", "list"):
        if options.values[flag]:
            _check_alone(flag, options)
    if options.evidence is not None:
        print(evidence(Path(options.evidence)), end="")
        return 0
    if options.list or not options.given.keys() - {"extend"}:
        print(listing())
        return 0
    config = settings("reproduce", options)
    kept = options.resume is not None
    if kept:  # a run that goes on knows what it is
        of_settings(config, Path(options.resume, "config.yaml"))
    elif config["name"] is not None:
        _check(find(config["name"])[0], config)
    else:
        raise ConfigError("NAME is missing: of which experiment? `--list` names them all")
    resolve_device(config["device"])
    with run_folder("reproduce", options, config, keep_failed=kept) as folder:
        if folder.summary() is None:
            folder.write_summary(run_study(folder, log))
        path = report(folder)
    print(read_text(path, error=RunError, follow=False), end="")
    return 0


def report(folder: RunFolder) -> Path:
    """Write the comparison of a finished study anew, and draw its figures."""
    study, item = of_settings(folder.config, folder.file("config.yaml"))
    path = folder.file("comparison.md")
    summary = summary_of(study, finished(folder), folder.file("summary.json"))
    write_text(path, comparison(study, item, summary))
    for name, drawn in study.figures(summary):
        write_text(folder.file(name), drawn)
    return path


def _check_alone(flag: str, options: Options) -> None:
    """Raise `ConfigError` for what is given beside an option that prints and stops."""
    beside = sorted(options.given.keys() - {flag, "extend"})
    if beside:
        option = "NAME" if beside[0] == "name" else f"--{beside[0].replace('_', '-')}"
        raise ConfigError(f"--{flag} prints and stops, so {option} does nothing beside it")


def _check(study: Study, config: Mapping[str, Any]) -> None:
    check_scale(study, config["scale"])
    check_seed(config["seed"])
    options = {name: config[name] for name in ("weights", "images")}
    options["device"] = config["device"] if config["device"] not in ("auto", "cpu") else None
    for name, value in options.items():
        if value is not None and name not in study.options:
            able = [study.name for study in EXPERIMENTS.values() if name in study.options]
            raise ConfigError(f"--{name}: '{study.name}' takes none, unlike {', '.join(able)}")
    if "weights" in study.options:
        _check_own(study, config)


def _check_own(study: Study, config: Mapping[str, Any]) -> None:
    """Check the user's weights and pictures: a paper scale needs both, no other takes them."""
    weights, images = config["weights"], config["images"]
    paper = config["scale"] == "paper"
    if not paper and (weights or images):
        raise ConfigError("--weights and --images go with --scale paper")
    if paper and not (weights and images):
        raise ConfigError(
            f"--scale paper: '{study.name}' then needs --weights FILE and --images DIR"
        )
    if weights and not Path(weights).is_file():
        raise ConfigError(f"--weights {weights}: no such file")
    if images and not Path(images).is_dir():
        raise ConfigError(f"--images {images}: no such folder")
