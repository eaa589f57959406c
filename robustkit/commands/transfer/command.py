"""`robustkit transfer`: measure how far attacks made on some models mislead others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import ActionYesNo

from robustkit.cli.context import (
    add_data_options,
    add_executor_options,
    add_run_options,
    run_folder,
    settings,
)
from robustkit.cli.models import add_model_options
from robustkit.cli.output import log
from robustkit.cli.parser import CommandParser, Options, add_config
from robustkit.commands.transfer import TransferConfig, prepare, transfer_all, write_report
from robustkit.commands.transfer.export import FORMS, export, keep_examples
from robustkit.commands.transfer.pipeline import fill_cache
from robustkit.commands.transfer.result import Summary
from robustkit.errors import ConfigError
from robustkit.jobs import executor_of
from robustkit.report import format_estimate
from robustkit.runs import RunFolder

CACHE = "runs/cache"


def add_arguments(parser: CommandParser) -> None:
    """Declare models, images, the attack, and where to put the result."""
    for flag, what in (("--sources", "adversarials are made on"), ("--targets", "are scored")):
        parser.add_argument(
            flag,
            nargs="+",
            metavar="MODEL",
            default=[],
            help=f"models that {what}: files, torchvision:NAME?weights=DEFAULT, "
            "timm:NAME?pretrained=true, robustbench:NAME, package.module:factory, FILE.py:factory; "
            "NAME=MODEL gives a name",
        )
    add_data_options(parser)
    add_model_options(parser)
    add_config(parser, TransferConfig, title="attack", forms={"ensembles": {"nargs": "+"}})
    add_set_options(parser, kept="sets and predictions", exchanged=True)
    add_run_options(parser, resumable=False)
    add_executor_options(parser, "sets of adversarials", default="inline")
    parser.arrange(
        first="sources targets data attack eps test_size out",
        advanced="weights trust split batch_size control gradients bf16 cache round ray_address "
        "cpus_per_trial gpus_per_trial",
    )


def add_set_options(parser: CommandParser, *, kept: str, exchanged: bool) -> None:
    """Add the options of sets of adversarials; `kept` names what the cache keeps, for the help.

    `exchanged` adds `--import` and `--export`; whether sets are rounded then follows the export.
    """
    group = parser.add_argument_group("adversarial sets")
    group.add_argument(
        "--cache", default=CACHE, metavar="DIR", help=f"folder that keeps {kept}, or none"
    )
    if exchanged:
        group.add_argument(
            "--import",
            nargs="+",
            default=[],
            metavar="NPZ",
            help="sets made elsewhere, scored like those of sources; NAME=FILE gives a name",
        )
        group.add_argument("--export", default="none", help="write the sets, too: none, npz or png")
    group.add_argument(
        "--round",
        action=ActionYesNo(yes_prefix="", no_prefix="no-"),
        default=None if exchanged else False,
        help="adversarials in whole grey levels, as files hold them"
        + ("; none: where sets are exported" if exchanged else ""),
    )


def run(options: Options) -> int:
    """Craft, score, and leave summary and report in a new run folder."""
    config = settings("transfer", options)
    _check(config)
    with executor_of(config):  # one that cannot be had is found out before there is a folder
        prepared = prepare(config)
    for line in prepared.loaded.lines():
        log(line)
    with run_folder("transfer", options, config, keep_failed=False) as folder:
        fill_cache(prepared, config, log)
        result = transfer_all(prepared, log)
        keep_examples(prepared, result, folder)
        export(prepared, config["export"], folder)
        folder.write_summary(result.summary.to_json())
        write_report(folder)
    for note in result.summary.sets.notes:
        log(f"cache: {note}")
    for line in _table(result.summary):
        log(line)
    for name, net in result.summary.nets.items():
        for finding in net.diagnostics:
            log(f"  ! {name}: {finding.name}: {finding.seen}; {finding.means}")
    log(f"report: {folder.file('report.html')}")
    return 0


def report(folder: RunFolder) -> Path:
    """Draw the report of a finished evaluation again."""
    return write_report(folder)


def _check(config: Mapping[str, Any]) -> None:
    if not config["targets"]:
        raise ConfigError("--targets: name at least one model to score the adversarials on")
    if not config["sources"] and not config["import"]:
        raise ConfigError("--sources: name at least one model, or --import a set")
    if config["export"] not in FORMS:
        raise ConfigError(f"--export must be {', '.join(FORMS)}, not '{config['export']}'")


def _table(summary: Summary) -> list[str]:
    """Return the headline rates as lines of text."""
    lines = [f"T(source -> target) over the {summary.n_common} images all nets get right:"]
    for source, row in summary.matrix.items():
        for target, cell in row.items():
            rate = cell.headline
            shown = "n = 0" if rate.value is None else format_estimate(rate, ".1%")
            lines.append(f"  {source} -> {target}: {shown}")
    return lines
