"""`robustkit explain`: show what a decision rests on, layer by layer, and whether to trust it."""

from __future__ import annotations

from pathlib import Path

from robustkit.cli.context import (
    add_data_options,
    add_executor_options,
    add_run_options,
    run_folder,
    settings,
)
from robustkit.cli.models import add_trust_option
from robustkit.cli.output import log
from robustkit.cli.parser import CommandParser, Forms, Options, add_config, config_from, names
from robustkit.commands.explain import (
    ExplainOptions,
    checkpoints,
    checkpoints_report,
    load_subject,
    resolve_settings,
    run_explain,
    write_report,
)
from robustkit.commands.explain.result import read_checkpoints
from robustkit.commands.explain.subject import Settings
from robustkit.runs import RunFolder


def add_arguments(parser: CommandParser) -> None:
    """Declare the model, the images, the maps, and where to put the result."""
    group = parser.add_argument_group("model and images")
    named = "a model file, torchvision:NAME or package.module:factory"
    group.add_argument("--model", metavar="MODEL", help=f"model to explain: {named}")
    group.add_argument(
        "--contrast",
        metavar="MODEL",
        help="another model, whose maps are compared: before and after",
    )
    group.add_argument(
        "--weights",
        nargs="+",
        metavar="FILE",
        default=[],
        help="state dicts for those models that name no weights, in their order",
    )
    add_trust_option(group)
    group.add_argument(
        "--run",
        metavar="DIR",
        help="explain the checkpoints of this training run instead, on its data",
    )
    group.add_argument(
        "--epochs", type=names, default=[], metavar="N,N", help="epochs of --run; none: all"
    )
    group.add_argument(
        "--split", default=None, help="test, val or train; none: the first that the data has"
    )
    group.add_argument("--index", type=names, default=[], metavar="N,N", help="images of the split")
    group.add_argument(
        "--image",
        nargs="+",
        default=[],
        metavar="FILE",
        help="image files, prepared as by the model's own pipeline, else of its input size",
    )
    group.add_argument(
        "--repair",
        metavar="DIR",
        help="explain the model and the images of this repair, compare the repaired model",
    )
    group.add_argument(
        "--transfer",
        metavar="DIR",
        help="explain a source on images of this transfer evaluation that fool it, and compare "
        "a target",
    )
    group.add_argument(
        "--pair", metavar="SOURCE:TARGET", help="pair of --transfer, where it has several"
    )
    group.add_argument(
        "--clean", action="store_true", help="with --transfer: the images before the attack"
    )
    group.add_argument(
        "--which",
        metavar="SET",
        help="with --repair: broken or repaired images; with --transfer: those that the target was "
        "spared or misled by; none: the first",
    )
    add_data_options(parser)
    forms: Forms = {
        "method": {"type": names},
        "layers": {"type": names},
        "mask": {"type": names},
    }
    add_config(parser, ExplainOptions, title="maps", forms=forms)
    add_executor_options(parser, "checkpoints of --run", default="inline")
    add_run_options(parser, resumable=True)
    parser.arrange(
        first="model data image method layers run out",
        advanced="weights trust contrast split pair clean which steps samples region fill noise "
        "paper quantile ray_address cpus_per_trial gpus_per_trial",
    )


def run(options: Options) -> int:
    """Explain, and leave pictures, maps, summary and report in the run folder."""
    if options.resume is not None:
        checkpoints.check_resumable(options.resume)
    config: Settings = settings("explain", options)
    if config["run"] is not None:
        return _run_checkpoints(options, config)
    config = resolve_settings(checkpoints.without_run(config, options), options.given)
    chosen = config_from(ExplainOptions, config)
    subject = load_subject(config)
    with run_folder("explain", options, config, keep_failed=False, resumable=False) as folder:
        summary = run_explain(subject, chosen, folder, log)
        folder.write_summary(summary.to_json())
        write_report(folder)
    if subject.loaded is not None:
        for line in subject.loaded.lines():
            log(line)
    for image in summary.images:
        log(
            f"{image.index}: {image.target} {image.score:.3f} "
            f"({image.probability:.1%}), predicted {image.predicted}"
        )
    log(f"report: {folder.file('report.html')}")
    return 0


def report(folder: RunFolder) -> Path:
    """Draw the report of a finished explanation again."""
    if folder.config.get("run") is not None:
        return checkpoints_report.write_report(folder)
    return write_report(folder)


def _run_checkpoints(options: Options, config: Settings) -> int:
    resumed = options.resume is not None
    if not resumed:
        config = checkpoints.resolve_run(config, options.given)
    # A finished run does not need the training any more.
    done = resumed and RunFolder.open(options.resume).summary() is not None
    prepared = None if done else checkpoints.prepare(config)
    with run_folder("explain", options, config, keep_failed=resumed) as folder:
        if prepared is not None and folder.summary() is None:
            summary = checkpoints.run_checkpoints(prepared, folder, log)
            folder.write_summary(summary.to_json())
        checkpoints.remove_parts(folder)
        path = checkpoints_report.write_report(folder)
    for line in checkpoints_report.headline(read_checkpoints(folder)):
        log(line)
    log(f"report: {path}")
    return 0
