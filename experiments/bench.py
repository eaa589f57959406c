"""`robustkit bench`: measure what is claimed about speed, beside libraries that do the same.

The benchmarks are part of a checkout and of no installed package.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from robustkit.cli.parser import CommandParser, Options
from robustkit.errors import ConfigError

_BENCHMARKS = "experiments.benchmarks"


def add_arguments(parser: CommandParser) -> None:
    """Declare the options; raises `ConfigError` where the benchmarks are not installed."""
    _command().add_arguments(parser)


def run(options: Options) -> int:
    """Measure, print a table, compare; return 1 when a claim is missed, otherwise 0."""
    code: int = _command().run(options)
    return code


def _command() -> ModuleType:
    try:
        return importlib.import_module(f"{_BENCHMARKS}.command")
    except ModuleNotFoundError as error:
        if error.name != _BENCHMARKS:
            raise
        raise ConfigError(
            "benchmarks are not part of an installed robustkit: run `make bench` in a checkout of "
            "its repository"
        ) from None
