"""The trained net that several files of tests repair."""

from tests.robustkit.repair.trained import trained

__all__ = ["trained"]
