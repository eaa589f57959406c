"""`robustkit evolve`: evolve a network that attacks on a reference do not transfer to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evolution.protocol.config import BEFORE, EvolveConfig
from evolution.protocol.progress import Live
from evolution.protocol.reference import find_reference, introduced, measured, missing_words
from evolution.protocol.result import Summary
from evolution.protocol.run import evolve
from evolution.protocol.search import reusable, search_settings
from evolution.protocol.workspace import check_scratch, load_splits
from evolution.report import write_report
from evolution.report.headline import questions
from evolution.strategies import open_strategy
from robustkit import models
from robustkit.cli.context import (
    add_data_options,
    add_executor_options,
    add_run_options,
    run_folder,
    settings,
)
from robustkit.cli.models import resolve_net
from robustkit.cli.output import log
from robustkit.cli.parser import (
    CommandParser,
    Options,
    add_config,
    config_from,
    names_or_none,
    real_or_none,
    weights,
)
from robustkit.compute import resolve_device
from robustkit.errors import ConfigError, DataError
from robustkit.jobs import executor_of
from robustkit.reading import Json
from robustkit.report import format_estimate
from robustkit.runs import RunFolder
from robustkit.stats import Gap


def add_arguments(parser: CommandParser) -> None:
    """Add options of the data, the experiment, and where it runs."""
    add_data_options(parser)
    nets: Json = {"nargs": "+", "metavar": "MODEL"}
    forms: dict[str, Json] = {
        "reference": nets,
        "surrogate": nets,
        "lam": {"type": weights},
        "baselines": {"type": names_or_none},
    }
    add_config(parser, EvolveConfig, title="experiment", forms=forms)
    parser.add_argument(
        "--reuse", metavar="DIR", help="take over the same trials from the evolution in this folder"
    )
    parser.add_argument(
        "--trust",
        nargs="+",
        metavar="FUNCTION",
        default=[],
        help="functions, package.module:factory, that a model file may name and that loading runs",
    )
    parser.add_argument(
        "--benchmark",
        nargs="?",
        const="package",
        metavar="FILE",
        help="search on the benchmark, in seconds: trials are predicted from its table of trained "
        "networks, by default the package's own; nothing is trained",
    )
    add_run_options(parser, resumable=True)
    parser.add_argument(
        "--scratch",
        metavar="DIR",
        help="existing folder for what is needed until the run has ended; none: in the run folder",
    )
    group = add_executor_options(parser, "jobs")
    group.add_argument(
        "--timeout",
        type=real_or_none,
        default=1800.0,
        help="seconds a job may take; null: no limit",
    )
    group.add_argument(
        "--memory-gib", type=real_or_none, help="GiB of memory a job may add; none: no limit"
    )
    parser.arrange(
        first="data reference population generations epochs final_epochs lam eps workers benchmark "
        "out",
        advanced="reuse trust scratch surrogate_trainings in_flight halving inherit presets screen "
        "floor early_stop tolerance yardstick family search_seed promote "
        "lam_ramp penalty_views penalty_every phi grad_loss penalty_stats norm attack_steps bf16 "
        "channels_last optimizer lr weight_decay augment views min_blocks max_blocks max_params "
        "kinds norms activations channels kernels memory_gib ray_address cpus_per_trial "
        "gpus_per_trial",
    )


def run(options: Options) -> int:
    """Evolve and compare; write nets, ledger, summary and report into the run folder."""
    if _on_benchmark(options):
        from evolution.benchmark.run import run_benchmark  # scikit-learn takes a second to import

        return run_benchmark(options)
    options = _without_benchmark(options)
    config, scratch = settled(settings("evolve", options)), check_scratch(options.scratch)
    if options.resume is None:
        for line in check(config):
            log(line)
    with run_folder("evolve", options, config) as folder:
        with Live(folder) as live:
            summary = evolve(folder, live.on_entry, scratch)
        path = folder.file("report.html")
        if not path.exists():  # a finished run stays as it is; `robustkit report` draws anew
            report(folder)
    for line in headline(summary):
        log(line)
    log(f"summary: {folder.file('summary.json')}")
    log(f"report: {path}")
    return 0


def report(folder: RunFolder) -> Path:
    """Draw the report of a finished evolution anew."""
    if folder.config.get("benchmark") is not None:
        from evolution.benchmark.report import write_benchmark_report

        return write_benchmark_report(folder)
    return write_report(folder)


def _on_benchmark(options: Options) -> bool:
    """Return whether a run is, or the one to be resumed was, a search on the benchmark."""
    if options.benchmark is not None or options.resume is None:
        return options.benchmark is not None
    return RunFolder.open(options.resume, command="evolve").config.get("benchmark") is not None


def _without_benchmark(options: Options) -> Options:
    """Return the options of a run that trains, whose settings say nothing of a benchmark."""
    values, given = (
        {name: value for name, value in each.items() if name != "benchmark"}
        for each in (options.values, options.given)
    )
    return replace(options, values=values, given=given)


def settled(config: Json) -> Json:
    """Return the settings, `in_flight` of a steady search set to the number of workers.

    Raises `ConfigError` where the number of workers is the cluster's, which is not yet known.
    """
    if config["mode"] != "steady" or config["in_flight"] is not None:
        return config
    if config["workers"] == 0:
        raise ConfigError("--mode steady with --workers 0: say how many with --in-flight N")
    return config | {"in_flight": config["workers"]}


def check(settings: Mapping[str, Any]) -> list[str]:
    """Check everything that can be wrong before there is a run folder; return lines about R."""
    config = config_from(EvolveConfig, {**BEFORE, **settings})
    device = resolve_device(settings["device"])
    if config.inherit and settings["reuse"]:
        raise ConfigError(
            "--inherit with --reuse: a ledger has no weights to inherit; leave one of them out"
        )
    reusable(settings["reuse"])
    with executor_of(settings):
        splits = load_splits(dict(settings), config)
    _, height, width = splits.train.shape
    if height != width:
        raise DataError(
            f"{splits.name}: images are {width}x{height} pixels, and evolved networks take square "
            f"ones; crop them or, in a folder of images, add '?size={min(height, width)}' to its "
            "path"
        )
    permissions = {"download": bool(settings["download"]), "trust": settings["trust"]}
    for spec in (*config.surrogate, *([config.family] if config.family else [])):
        resolve_net(spec, splits, seed=0, **permissions)
    loaded, *others = (find_reference(spec, splits, **permissions) for spec in config.reference)
    macs = models.cost(loaded.net, splits.train.shape).macs
    # A space in which no network fits is found out here, not after R has been trained.
    open_strategy("random", search_settings(config, splits, baseline=0.0, macs=macs)).ask()
    lines = []
    for name, each in zip(config.references, (loaded, *others), strict=True):
        if not each.reference.given:
            lines += [f"{name}: {note}" for note in each.reference.notes]
        else:
            lines += introduced(each, measured(each.net.to(device), splits), splits, name)
    return lines


def headline(summary: Summary) -> list[str]:
    """Return the result in a few lines, warnings first."""
    nets = summary.nets
    lines = [f"warning: {warning}" for warning in summary.warnings]
    lines += [f"{'net':4} {'clean':>7} {'white-box':>10} {'transfer from R':>34}"]
    for name in nets.roles:
        net, shown = nets.of(name), ""
        rate = None if name == "R" else nets.compared(name).rate("transfer_from_R")
        if rate is not None and rate.value is not None:
            shown = format_estimate(rate, ".1%", with_n=True)
        lines.append(f"{name:4} {net.clean_acc:7.1%} {net.whitebox_acc:10.1%} {shown:>34}")
    if missing := missing_words(summary.left_out):
        # What E is compared with where R' is missing.
        lines += [_gap_line(summary.control_gap, "E0"), _gap_line(summary.search_gap, "RS")]
        lines.append(missing)
    elif summary.gap is not None:
        lines.append(_gap_line(summary.gap, "R'"))
    lines += [f"{question} {text}" for question, _, text in questions(summary)]
    return [line for line in lines if line]


def _gap_line(gap: Gap, against: str) -> str:
    """Return the gap T(R→`against`) - T(R→E) as a line; empty without common images."""
    if gap.value is None:
        return ""
    return (
        f"gap T(R→{against}) - T(R→E): "
        f"{format_estimate(gap, '.1f', unit=' points', with_n=True)}, p = {gap.p_value:.2g}"
    )
