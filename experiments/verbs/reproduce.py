"""`robustkit reproduce`: list the published experiments, or run one and compare."""

from __future__ import annotations

from pathlib import Path

from experiments.executing import add_executor_options
from experiments.launch import next_free, run_folder, settings
from experiments.options import Options, VerbParser, run_verb
from experiments.pages import finished
from experiments.reproduce import EXPERIMENTS, Experiment, Row, Study, run_study
from robustkit.compute import resolve_device
from robustkit.errors import ConfigError
from robustkit.runs import RunFolder, write_text


def add_arguments(parser: VerbParser) -> None:
    """Which experiment, at which size, and what every run has."""
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="experiment; without, they are listed"
    )
    parser.add_argument("--quick", action="store_true", help="a rehearsal on embedded data")
    parser.add_argument(
        "--published", action="store_true", help="the publication's size, for a GPU or for days"
    )
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
    """Run the experiment's verb, then print and save the comparison as `comparison.md`."""
    if options.name is None:
        print("\n".join(f"{each.name}  {each.title}\n    {each.source}" for each in _all()))
        return 0
    if options.resume is not None and options.out is not None:
        raise ConfigError(
            "--out and --resume exclude each other: a resumed run stays in its folder"
        )
    experiment = EXPERIMENTS.find(options.name)
    if options.resume is None:
        _check(experiment, options)
    if isinstance(experiment, Study):
        return _study(experiment, options)
    if options.resume is not None:
        path, arguments = Path(options.resume), ["--resume", options.resume]
    else:
        path = Path(options.out) if options.out is not None else next_free(experiment.name)
        arguments = [*experiment.arguments(quick=options.quick), "--out", str(path)]
        arguments += ["--seed", str(options.seed), "--device", options.device]
    code = run_verb(experiment.verb, arguments)
    if code == 0:
        _compare(experiment, path)
    return code


def _check(experiment: Experiment | Study, options: Options) -> None:
    takes = experiment.takes if isinstance(experiment, Study) else ("device",)
    given = {"published": options.published, "weights": options.weights, "images": options.images}
    given["device"] = options.device not in ("auto", "cpu")
    for name, value in given.items():
        if value and name not in takes:
            able = [each.name for each in _all() if isinstance(each, Study) and name in each.takes]
            raise ConfigError(f"--{name}: '{experiment.name}' takes none; {', '.join(able)} does")
    if options.quick and options.published:
        raise ConfigError("--quick and --published exclude each other")
    if bool(options.weights) != bool(options.images):
        raise ConfigError("--weights FILE and --images DIR go together: give both or neither")
    if options.weights and not Path(options.weights).is_file():
        raise ConfigError(f"--weights {options.weights}: no such file")
    if options.images and not Path(options.images).is_dir():
        raise ConfigError(f"--images {options.images}: no such folder")


def _study(study: Study, options: Options) -> int:
    config = settings("reproduce", options)
    resolve_device(config["device"])
    if config["name"] != study.name:
        raise ConfigError(f"{options.resume}: a run of '{config['name']}', not of '{study.name}'")
    kept = options.resume is not None
    with run_folder("reproduce", options, config, keep_failed=kept) as folder:
        if folder.summary() is None:
            folder.write_summary(run_study(study, folder, lambda line: print(line, flush=True)))
        path = report(folder)
    print(path.read_text(encoding="utf-8"), end="")
    return 0


def report(folder: RunFolder) -> Path:
    """Write the comparison of a finished study anew, and draw its figures."""
    study = EXPERIMENTS.find(folder.config["name"])
    assert isinstance(study, Study)
    path = folder.file("comparison.md")
    summary = finished(folder)
    write_text(path, study.render(summary))
    for name, drawn in study.draw(summary):
        write_text(folder.file(name), drawn)
    return path


def _all() -> list[Experiment | Study]:
    return [EXPERIMENTS[name] for name in sorted(EXPERIMENTS)]


def _compare(experiment: Experiment, path: Path) -> None:
    folder = RunFolder.open(path, verb=experiment.verb)
    text = comparison(experiment, experiment.compare(folder.summary() or {}))
    write_text(folder.file("comparison.md"), text)
    print(text, end="")


def comparison(experiment: Experiment, rows: tuple[Row, ...]) -> str:
    """The rows as a Markdown table under the experiment's title and source."""
    lines = [f"# {experiment.title}", "", experiment.source, ""]
    lines += ["| | published | ours |", "|---|---|---|"]
    lines += [f"| {row.what} | {row.published} | {row.ours} |" for row in rows]
    return "\n".join(lines) + "\n"
