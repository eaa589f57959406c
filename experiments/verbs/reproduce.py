"""`robustkit reproduce`: list the published experiments, or run one and compare."""

from __future__ import annotations

from pathlib import Path

from experiments.launch import next_free, run_folder, settings
from experiments.options import Options, VerbParser, run_verb
from experiments.pages import finished
from experiments.reproduce import EXPERIMENTS, Experiment, Row, Study, run_study
from robustkit.errors import ConfigError
from robustkit.runs import RunFolder, write_text


def add_arguments(parser: VerbParser) -> None:
    """Which experiment, at which size, and what every run has."""
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="experiment; without, they are listed"
    )
    parser.add_argument("--quick", action="store_true", help="a rehearsal on embedded data")
    parser.add_argument("--seed", type=int, default=0, help="seed of the run")
    parser.add_argument("--out", metavar="DIR", help="new run folder; none: the next free one")
    parser.add_argument("--resume", metavar="DIR", help="go on with the run in this folder")
    group = parser.add_argument_group("executor of a study of many pieces")
    group.add_argument("--executor", default="processes", help="inline or processes")
    group.add_argument("--workers", type=int, default=2, help="pieces at a time, one thread each")
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


def _study(study: Study, options: Options) -> int:
    config = settings("reproduce", options)
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
    """Write the comparison of a finished study anew."""
    study = EXPERIMENTS.find(folder.config["name"])
    assert isinstance(study, Study)
    path = folder.file("comparison.md")
    write_text(path, study.render(finished(folder)))
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
