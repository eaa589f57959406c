"""How far attacks on some nets mislead others: what `robustkit transfer` does."""

from experiments.transfer.config import HELPS, TransferConfig
from experiments.transfer.pipeline import Prepared, prepare, transfer_all
from experiments.transfer.report import write_report

__all__ = ["HELPS", "Prepared", "TransferConfig", "prepare", "transfer_all", "write_report"]
