"""`robustkit train`: a trained model, its history and its report."""

from robustkit.commands.train.pipeline import Prepared, check, prepare, train
from robustkit.commands.train.report import rates, write_report

__all__ = ["Prepared", "check", "prepare", "rates", "train", "write_report"]
