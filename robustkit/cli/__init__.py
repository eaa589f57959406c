"""The command line: finds commands, reads their options, keeps the error contract."""

from robustkit.cli.main import main

__all__ = ["main"]
