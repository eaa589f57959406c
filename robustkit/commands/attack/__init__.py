"""`robustkit attack`: the robust accuracy of any models."""

from robustkit.commands.attack.pipeline import AttackConfig, Prepared, attack_all, prepare
from robustkit.commands.attack.report import write_report

__all__ = ["AttackConfig", "Prepared", "attack_all", "prepare", "write_report"]
