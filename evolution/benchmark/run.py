"""`robustkit evolve --benchmark`: a search on the benchmark in a run folder, resumable."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from evolution.benchmark.config import PACKAGE, BenchmarkConfig, from_options
from evolution.benchmark.report import write_benchmark_report
from evolution.benchmark.result import Summary, summarise
from evolution.benchmark.search import baseline, run_searches
from evolution.benchmark.surrogate import Surrogate
from evolution.benchmark.table import LARGEST, Table, load_table, table_path
from robustkit.cli.context import run_folder
from robustkit.cli.output import log
from robustkit.cli.parser import Options, plain
from robustkit.errors import ConfigError, RunError
from robustkit.reading import Json, read_bounded
from robustkit.runs import Entry, Ledger, RunFolder, check_same_config
from robustkit.runs.folder import EDITED
from robustkit.runs.summaries import read_settings, read_summary

LEDGER = "ledger.sqlite"
DIGEST = "table"  # of the run's settings: the SHA-256 of the table's file


def run_benchmark(options: Options) -> int:
    """Search on the benchmark; write ledger, summary and report into the run folder."""
    config, path = _settings(options)
    table = load_table(path)
    saved = plain(config) | {DIGEST: _digest(path)}
    surrogate = Surrogate(table)
    with run_folder("evolve", options, saved) as folder:
        summary = search_in(folder, config, table, surrogate)
        report = folder.file("report.html")
        if not report.exists():  # a finished run stays as it is; `robustkit report` draws anew
            write_benchmark_report(folder)
    for line in headline(summary):
        log(line)
    log(f"summary: {folder.file('summary.json')}")
    log(f"report: {report}")
    return 0


def search_in(
    folder: RunFolder,
    config: BenchmarkConfig,
    table: Table,
    surrogate: Surrogate,
    on_entry: Callable[[Entry], None] = lambda entry: None,
) -> Summary:
    """Run both searches until the summary is written, and return it.

    A finished run is left as it is; what the ledger holds is not drawn again.
    """
    if folder.summary() is not None:
        return read_summary(folder, Summary)
    start = time.monotonic()
    path = folder.file(LEDGER)
    with Ledger.open(path) if os.path.lexists(path) else Ledger.create(path) as ledger:
        searches = run_searches(config, surrogate, ledger, on_entry)
    summary = summarise(
        searches,
        config,
        baseline(surrogate, config.epochs),
        networks=len(table.records),
        table=str(folder.config[DIGEST]),
        seconds=time.monotonic() - start,
    )
    folder.write_summary(summary.to_json())
    return summary


def headline(summary: Summary) -> list[str]:
    """Return the result in a few lines."""
    lines = [f"{'expected':14} {'accuracy':>9} {'transfer':>9} {'unseen':>9} {'area':>6}"]
    rows = [
        ("R's own", summary.baseline, None),
        ("evolution", summary.evolve.selected.expected, summary.evolve.area),
        ("random search", summary.random.selected.expected, summary.random.area),
    ]
    for name, net, area in rows:
        unseen = "–" if net.unseen is None else f"{net.unseen:.1%}"
        shown = "" if area is None else f"{area:6.2f}"
        lines.append(f"{name:14} {net.accuracy:9.1%} {net.transfer:9.1%} {unseen:>9} {shown:>6}")
    return lines


def _settings(options: Options) -> tuple[BenchmarkConfig, Path | None]:
    """Return the settings and the table's file, None for the package's own.

    Those of the folder with `--resume`, from which what is given may not differ.
    """
    if options.values.get("resume") is None:
        config = from_options(options.values, options.given)
        return config, _path(config)
    if options.out is not None:
        raise ConfigError(
            "--out and --resume exclude each other: a resumed run stays in its folder"
        )
    folder = RunFolder.open(options.resume, command="evolve")
    if folder.config.get("benchmark") is None:
        raise RunError(f"{options.resume} is an evolution of trained networks, no benchmark's")
    names = [field.name for field in fields(BenchmarkConfig)]
    for name in (*names, DIGEST):
        if name not in folder.config:
            raise RunError(
                f"{options.resume}/config.yaml: no '{name}'; {EDITED}, which alone can go on with "
                "this run"
            )
    config = read_settings(folder, BenchmarkConfig)
    from_options(options.values, options.given)  # refuses what means nothing here
    check_same_config(folder.config, _comparable(options.given))
    if _digest(_path(config)) != folder.config[DIGEST]:
        raise RunError(
            f"benchmark {config.benchmark}: the table has changed since {options.resume} began; "
            "put the old one back, or start a new run"
        )
    return config, _path(config)


def _comparable(given: Mapping[str, Any]) -> Json:
    names = {field.name for field in fields(BenchmarkConfig)}
    return {name: value for name, value in given.items() if name in names}


def _path(config: BenchmarkConfig) -> Path | None:
    return None if config.benchmark == PACKAGE else Path(config.benchmark)


def _digest(path: Path | None) -> str:
    content = read_bounded(table_path(path), error=RunError, limit=LARGEST)
    return hashlib.sha256(content).hexdigest()[:16]
