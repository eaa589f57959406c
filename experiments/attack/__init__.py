"""Robust accuracy of any nets: what `robustkit attack` does, from settings to report."""

from experiments.attack.config import HELPS, AttackConfig
from experiments.attack.pipeline import Prepared, attack_all, prepare
from experiments.attack.report import write_report

__all__ = ["HELPS", "AttackConfig", "Prepared", "attack_all", "prepare", "write_report"]
