"""`robustkit transfer`: how far attacks on some models mislead others."""

from robustkit.commands.transfer.pipeline import transfer_all
from robustkit.commands.transfer.preparation import Prepared, TransferConfig, prepare
from robustkit.commands.transfer.report import write_report

__all__ = ["Prepared", "TransferConfig", "prepare", "transfer_all", "write_report"]
