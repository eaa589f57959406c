"""`robustkit evolve`: from a data set to an evolved net, its controls, and a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evolution.strategies import open_strategy
from experiments.evolve.arms import search_settings
from experiments.evolve.config import EvolveConfig
from experiments.evolve.helps import HELPS
from experiments.evolve.identity import reusable
from experiments.evolve.live import Live
from experiments.evolve.report import write_report
from experiments.evolve.run import evolve
from experiments.evolve.workspace import load_splits
from experiments.executing import add_executor_options, executor_of
from experiments.launch import add_data_options, add_run_options, run_folder, settings
from experiments.nets import resolve_net
from experiments.options import Options, VerbParser, add_config, config_from, real_or_none
from robustkit import models
from robustkit.compute import resolve_device
from robustkit.data import Splits
from robustkit.errors import ConfigError
from robustkit.runs import RunFolder


def add_arguments(parser: VerbParser) -> None:
    """Data, every setting of the experiment, and where it runs."""
    add_data_options(parser)
    add_config(parser, EvolveConfig, HELPS, title="experiment")
    parser.add_argument(
        "--reuse", metavar="DIR", help="take over the same trials from the evolution in this folder"
    )
    add_run_options(parser, resumable=True)
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


def run(options: Options) -> int:
    """Evolve, compare, and leave nets, ledger, summary and report in the run folder."""
    config = settled(settings("evolve", options))
    if options.resume is None:
        check(config)
    with run_folder("evolve", options, config) as folder:
        with Live(folder) as live:
            summary = evolve(folder, live.on_trial)
        path = folder.file("report.html")
        if not path.exists():  # a finished run stays as it is; `robustkit report` draws anew
            report(folder)
    print(headline(summary))
    print(f"summary: {folder.file('summary.json')}")
    print(f"report: {path}")
    return 0


def report(folder: RunFolder) -> Path:
    """Draw the report of a finished evolution anew."""
    return write_report(folder)


def settled(config: dict[str, Any]) -> dict[str, Any]:
    """The settings; a steady search has as many candidates under way as workers, and keeps to it.

    Raises `ConfigError` where the number of workers is the cluster's, which is not yet known.
    """
    if config["mode"] != "steady" or config["in_flight"] is not None:
        return config
    if config["workers"] == 0:
        raise ConfigError("--mode steady with --workers 0: say how many with --in-flight N")
    return config | {"in_flight": config["workers"]}


def check(settings: Mapping[str, Any]) -> Splits:
    """Everything that can be wrong is found here, before there is a run folder."""
    config = config_from(EvolveConfig, settings)
    resolve_device(settings["device"])
    if config.inherit and settings["reuse"]:
        raise ConfigError(
            "--inherit with --reuse: a ledger has no weights to inherit; leave one of them out"
        )
    reusable(settings["reuse"])
    with executor_of(settings):
        splits = load_splits(dict(settings), config)
    resolve_net(config.surrogate, splits, seed=0)
    reference = resolve_net(config.reference, splits, seed=0)
    macs = models.cost(reference, splits.train.shape).macs
    # A space in which no network fits is found out here, not after R has been trained.
    open_strategy("random", search_settings(config, splits, baseline=0.0, macs=macs)).ask()
    return splits


def headline(summary: Mapping[str, Any]) -> str:
    """The result in a few lines."""
    gap, nets = summary["gap"], summary["nets"]
    lines = [f"{'net':4} {'clean':>7} {'white-box':>10} {'transfer from R':>34}"]
    for name in ("R", "R2", "Rp", "E", "E0", "RS"):
        net = nets[name]
        rate = net.get("transfer_from_R", {}).get("headline")
        shown = (
            ""
            if rate is None or rate["rate"] is None
            else (f"{rate['rate']:7.1%} [{rate['low']:.1%}, {rate['high']:.1%}], n = {rate['n']}")
        )
        lines.append(f"{name:4} {net['clean_acc']:7.1%} {net['whitebox_acc']:10.1%} {shown:>34}")
    if gap["points"] is not None:
        lines.append(
            f"gap T(R→R') - T(R→E): {gap['points']:.1f} points "
            f"[{gap['low']:.1f}, {gap['high']:.1f}], n = {gap['n']}, p = {gap['p_value']:.2g}"
        )
    return "\n".join(lines)
