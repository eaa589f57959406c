"""`robustkit explain`: show what a decision rests on, layer by layer, and whether to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    load_subject,
    resolve_settings,
    run_explain,
    write_report,
)
from robustkit.runs import RunFolder


def add_arguments(parser: CommandParser) -> None:
    """The model, the images, the maps, and where to put the result."""
    group = parser.add_argument_group("model and images")
    named = "a model file, torchvision:NAME or package.module:factory"
    group.add_argument("--model", metavar="MODEL", help=f"whose decisions: {named}")
    group.add_argument(
        "--contrast", metavar="MODEL", help="set the maps of this model beside: before and after"
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
        "--run", metavar="DIR", help="the checkpoints of this training run, on its data, instead"
    )
    group.add_argument(
        "--epochs", type=names, default=[], metavar="N,N", help="which of them; none: all"
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
        help="image files, made as the model's own pipeline does, else of its size",
    )
    group.add_argument(
        "--repair", metavar="DIR", help="a repair's model, its images, and the mended model beside"
    )
    group.add_argument(
        "--transfer",
        metavar="DIR",
        help="images of a transfer evaluation that fool a source; a target's maps beside",
    )
    group.add_argument(
        "--pair", metavar="SOURCE:TARGET", help="of --transfer, where it has several"
    )
    group.add_argument(
        "--clean", action="store_true", help="of --transfer: the images before the attack"
    )
    group.add_argument(
        "--which",
        metavar="SET",
        help="of --repair: broken or repaired images; of --transfer: those the target was spared "
        "or misled by; none: the first",
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
    config = settings("explain", options)
    if config["run"] is not None:
        return _run_checkpoints(options, config)
    config = resolve_settings(checkpoints.without_run(config, options), options.given)
    chosen = config_from(ExplainOptions, config)
    subject = load_subject(config)
    with run_folder("explain", options, config, keep_failed=False, resumable=False) as folder:
        summary = run_explain(subject, chosen, folder, log)
        folder.write_summary(summary)
        write_report(folder)
    if subject.judged is not None:
        for line in subject.judged.lines():
            log(line)
    for image in summary["images"]:
        log(
            f"{image['index']}: {image['target']} {image['score']:.3f} "
            f"({image['probability']:.1%}), predicted {image['predicted']}"
        )
    log(f"report: {folder.file('report.html')}")
    return 0


def _run_checkpoints(options: Options, config: Mapping[str, Any]) -> int:
    resumed = options.resume is not None
    if not resumed:
        config = checkpoints.resolve_run(config, options.given)
    # A run that is done needs the training no more.
    done = resumed and RunFolder.open(options.resume).summary() is not None
    prepared = None if done else checkpoints.prepare(config)
    with run_folder("explain", options, config, keep_failed=resumed) as folder:
        if prepared is not None and folder.summary() is None:
            folder.write_summary(checkpoints.run_checkpoints(prepared, folder, log))
        checkpoints.forget_parts(folder)
        path = checkpoints.write_report(folder)
    for line in checkpoints.headline(checkpoints.read(folder)):
        log(line)
    log(f"report: {path}")
    return 0


def report(folder: RunFolder) -> Path:
    """Draw the report of a finished explanation anew."""
    if folder.config.get("run") is not None:
        return checkpoints.write_report(folder)
    return write_report(folder)
