"""The smallest evolution that has every part, and what two runs of it are compared by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evolution.command import add_arguments
from evolution.protocol.workspace import open_workspace
from robustkit.cli.context import settings
from robustkit.cli.main import main
from robustkit.cli.parser import CommandParser
from robustkit.runs import Entry, Ledger, RunFolder

TEXT = (
    "--data digits --surrogate small --population 2 --generations 2 --epochs 1 --final-epochs 1 "
    "--final-seeds 1 --promote 1 --train-size 100 --test-size 60 --attack-steps 2 --eps 0.15 "
    "--min-blocks 1 --max-blocks 2 --max-params 20000 --max-macs 400000 --device cpu --lam 1,3 "
    "--yardstick 2 --baselines architecture,pool,random"
)
TINY = [*TEXT.split(), "--penalty-every", "1"]  # as in folders older than the option
INLINE = ["--executor", "inline"]
ONE_WORKER = ["--executor", "processes", "--workers", "1"]
RAY = ["--executor", "ray", "--workers", "2"]
TWO_WORKERS = ["--executor", "processes", "--workers", "2"]


def evolve(*arguments: str) -> int:
    """The command, in this process."""
    open_workspace.cache_clear()  # a process of its own would have none
    return main(["evolve", *arguments])


def settings_of(*arguments: str) -> dict[str, Any]:
    """What a run of the command with these arguments would do."""
    parser = CommandParser("evolve")
    add_arguments(parser)
    options = parser.parse(arguments)
    assert options is not None
    return settings("evolve", options)


def summary(folder: Path) -> dict[str, Any]:
    """What a run found; how long it took is no finding."""
    found = RunFolder.open(folder).summary()
    assert found is not None
    return {name: value for name, value in found.items() if name != "seconds"}


def trials(folder: Path) -> list[Entry]:
    with Ledger.open(folder / "ledger.sqlite") as ledger:
        return ledger.trials()


def rows(folder: Path) -> list[tuple[Any, ...]]:
    """The ledger, seconds aside."""
    return [
        (each.id, each.stage, each.key, each.payload, each.outcome, each.reason, each.result)
        for each in trials(folder)
    ]


def content(folder: Path) -> dict[str, bytes]:
    """Every file of the folder; the lock is no content."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != ".lock"]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}
