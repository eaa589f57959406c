"""`robustkit repair`: repair failures of a trained model, and show what that broke."""

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
from robustkit.commands.repair import (
    RepairOptions,
    load_subject,
    remove_states,
    run_repair,
    with_run,
    write_report,
)
from robustkit.commands.repair.result import Summary
from robustkit.jobs import executor_of
from robustkit.repair import RepairMetrics
from robustkit.repair.repair import Interval
from robustkit.report import format_estimate
from robustkit.runs import RunFolder
from robustkit.stats import Estimate


def add_arguments(parser: CommandParser) -> None:
    """Declare the model, the images, the method, and the place of the result."""
    group = parser.add_argument_group("model")
    named = "a model file, torchvision:NAME or package.module:factory"
    group.add_argument("--model", metavar="MODEL", help=f"what to repair: {named}")
    group.add_argument(
        "--previous", metavar="MODEL", help="the checkpoint before it, which history needs"
    )
    group.add_argument(
        "--run", metavar="DIR", help="take both, and the data, from this training run's history"
    )
    group.add_argument(
        "--epoch", type=int | None, metavar="N", help="of --run, which checkpoint; none: the last"
    )
    group.add_argument("--weights", metavar="FILE", help="state dict, if the model is no file")
    group.add_argument("--previous-weights", metavar="FILE", help="the same for --previous")
    add_trust_option(group)
    add_data_options(parser)
    group = parser.add_argument_group("images")
    group.add_argument(
        "--repair-on", metavar="SET", help="val, test or an .npz of images, labels; none: val"
    )
    group.add_argument(
        "--held-out",
        metavar="SET",
        help="evaluate on these besides; none: test (or val); 'none': not",
    )
    forms: Forms = {
        "labels": {"type": names},
        "pairs": {"type": names},
        "layers": {"type": names},
    }
    add_config(parser, RepairOptions, title="repair", forms=forms)
    parser.add_argument(
        "--write-model", action="store_true", help="write the repaired model beside the patch"
    )
    add_run_options(parser, resumable=True)
    add_executor_options(parser, "runs", default="inline")
    parser.arrange(
        first="model previous data method labels runs out",
        advanced="weights previous_weights trust epoch diff imp ranking top per_image on_empty "
        "fitness positives n_positives budget swarm particles iterations patience "
        "topology start spread steps seconds lr ray_address cpus_per_trial "
        "gpus_per_trial",
    )


def run(options: Options) -> int:
    """Repair, and write patch, summary and report into the run folder."""
    config = settings("repair", options)
    if options.resume is None:
        chosen = config_from(RepairOptions, config)
        config = with_run(config, options.given, needs_history=chosen.needs_history())
    chosen = config_from(RepairOptions, config)
    if options.resume is not None and (folder := RunFolder.open(options.resume)).summary():
        log(f"{folder.path}: finished already")
        return 0
    with executor_of(config):  # one that cannot be had is found out before there is a folder
        subject = load_subject(config, paper=chosen.protocol == "paper")
    if subject.loaded is not None:
        for line in subject.loaded.lines():
            log(line)
    # A label or layer that does not exist is found out on the way: then there is no new folder.
    resumed = options.resume is not None
    with run_folder("repair", options, config, keep_failed=resumed) as folder:
        summary = run_repair(subject, chosen, folder, log, write_model=config["write_model"])
        folder.write_summary(summary.to_json())
        remove_states(folder)
        write_report(folder)
    for line in headline(summary):
        log(line)
    log(f"patch: {folder.file('patch.safetensors')}")
    log(f"report: {folder.file('report.html')}")
    return 0


def report(folder: RunFolder) -> Path:
    """Draw the report of a finished repair anew."""
    return write_report(folder)


def headline(summary: Summary) -> list[str]:
    """Return the result in a few lines."""
    lines = [_line("repaired on", summary)]
    if summary.held_out is not None:
        lines.append(_line("held out", summary.held_out))
    if summary.unchanged:
        lines.append("nothing was fitter than the model as it is: the patch is empty")
    else:
        lines.append(f"weights changed: {summary.changed:,}")
    return lines


def _line(images: str, metrics: RepairMetrics) -> str:
    rr = _rate(metrics.rr, metrics.rr_interval, metrics.n_neg)
    br = _rate(metrics.br, metrics.br_interval, metrics.n_pos)
    return (
        f"{images:12} accuracy {metrics.acc_before:.2%} -> {metrics.acc_after:.2%}, "
        f"repair rate {rr}, break rate {br}"
    )


def _rate(rate: float | None, interval: Interval, among: int) -> str:
    low, high = interval
    estimate = Estimate(value=rate, n=among, low=low, high=high)
    return "– (n = 0)" if rate is None else format_estimate(estimate, ".2%", with_n=True)
