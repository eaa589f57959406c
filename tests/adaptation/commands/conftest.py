"""The adaptation that several files of tests look at."""

from tests.adaptation.commands.runs import adapted

__all__ = ["adapted"]
