"""The adaptation that several files of tests look at."""

from tests.experiments.adaptation.runs import adapted

__all__ = ["adapted"]
