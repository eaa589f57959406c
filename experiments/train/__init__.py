"""What `robustkit train` does: from settings to a trained model, its history and its report."""

from experiments.train.config import HELPS, check
from experiments.train.pipeline import Prepared, prepare, train
from experiments.train.report import rates, write_report

__all__ = ["HELPS", "Prepared", "check", "prepare", "rates", "train", "write_report"]
