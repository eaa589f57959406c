"""The command without the benchmarks, as in an installed package: one line says where they are."""

from __future__ import annotations

import sys

import pytest

from experiments import bench
from robustkit.cli.parser import CommandParser
from robustkit.errors import ConfigError


def test_without_the_benchmarks_one_line_says_where_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.startswith("experiments.benchmarks")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(bench, "_BENCHMARKS", "experiments.absent")
    with pytest.raises(ConfigError, match="run `make bench` in a checkout"):
        bench.add_arguments(CommandParser("bench"))
