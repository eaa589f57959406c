"""`robustkit reproduce`: list the published experiments, or run one and compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from experiments.executing import add_executor_options
from experiments.launch import run_folder, settings
from experiments.options import Options, VerbParser
from experiments.pages import finished
from experiments.reproduce import EXPERIMENTS, SCALES, Study, comparison, evidence, find, listing
from experiments.reproduce.running import run_study
from robustkit.compute import resolve_device
from robustkit.errors import ConfigError
from robustkit.runs import RunFolder, write_text


def add_arguments(parser: VerbParser) -> None:
    """Which experiment, at which scale, and what every run has."""
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="experiment, or one table or figure of it"
    )
    parser.add_argument("--list", action="store_true", help="list them and stop")
    parser.add_argument(
        "--evidence", metavar="DIR", help="print the page of all results in this folder and stop"
    )
    scales = "; ".join(f"{name}: {said}" for name, said in SCALES.items())
    parser.add_argument("--scale", default="small", help=scales)
    parser.add_argument(
        "--weights", metavar="FILE", help="torchvision's VGG-16's, for contribution-maps"
    )
    parser.add_argument("--images", metavar="DIR", help="pictures for it")
    parser.add_argument("--seed", type=int, default=0, help="seed of the run")
    parser.add_argument("--out", metavar="DIR", help="new run folder; none: the next free one")
    parser.add_argument("--resume", metavar="DIR", help="go on with the run in this folder")
    add_executor_options(parser, "pieces of a study")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")


def run(options: Options) -> int:
    """Run the study; print the comparison and save it as `comparison.md`."""
    if options.evidence is not None:
        print(evidence(Path(options.evidence)), end="")
        return 0
    if options.list or (options.name is None and options.resume is None):
        print(listing())
        return 0
    if options.resume is None:
        _check(find(options.name)[0], options)
    if options.name is None:  # a run that goes on knows what it is
        given = {name: value for name, value in options.given.items() if name != "name"}
        options = replace(options, given=given)
    config = settings("reproduce", options)
    resolve_device(config["device"])
    kept = options.resume is not None
    with run_folder("reproduce", options, config, keep_failed=kept) as folder:
        if folder.summary() is None:
            folder.write_summary(run_study(folder, lambda line: print(line, flush=True)))
        path = report(folder)
    print(path.read_text(encoding="utf-8"), end="")
    return 0


def report(folder: RunFolder) -> Path:
    """Write the comparison of a finished study anew, and draw its figures."""
    study, exhibit = find(folder.config["name"])
    path = folder.file("comparison.md")
    summary = finished(folder)
    write_text(path, comparison(study, exhibit, summary))
    for name, drawn in study.draw(summary):
        write_text(folder.file(name), drawn)
    return path


def _check(study: Study, options: Options) -> None:
    if options.scale not in SCALES:
        raise ConfigError(f"--scale {options.scale}: one of {', '.join(SCALES)}")
    if options.scale not in study.scales:
        raise ConfigError(
            f"--scale {options.scale}: '{study.name}' has {' and '.join(study.scales)} alone, "
            "since nothing is published"
        )
    given = {"weights": options.weights, "images": options.images}
    given["device"] = options.device if options.device not in ("auto", "cpu") else None
    for name, value in given.items():
        if value is not None and name not in study.takes:
            able = [each.name for each in EXPERIMENTS.values() if name in each.takes]
            raise ConfigError(f"--{name}: '{study.name}' takes none; {', '.join(able)} does")
    if "weights" in study.takes:
        _check_own(study, options)


def _check_own(study: Study, options: Options) -> None:
    """The user's weights and pictures: a paper scale is made of both, no other takes them."""
    paper = options.scale == "paper"
    if not paper and (options.weights or options.images):
        raise ConfigError("--weights and --images go with --scale paper")
    if paper and not (options.weights and options.images):
        raise ConfigError(
            f"--scale paper: '{study.name}' then needs --weights FILE and --images DIR"
        )
    if options.weights and not Path(options.weights).is_file():
        raise ConfigError(f"--weights {options.weights}: no such file")
    if options.images and not Path(options.images).is_dir():
        raise ConfigError(f"--images {options.images}: no such folder")
