"""Robust accuracy of any nets: what `robustkit attack` does, from settings to report."""

from robustkit.commands.attack.pipeline import AttackConfig, Prepared, attack_all, prepare
from robustkit.commands.attack.report import write_report

__all__ = ["AttackConfig", "Prepared", "attack_all", "prepare", "write_report"]
