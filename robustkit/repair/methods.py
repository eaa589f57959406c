"""The repair methods by name: settings of the swarm's search, or of gradient descent."""

from __future__ import annotations

from dataclasses import replace

from robustkit.errors import RepairError
from robustkit.registry import Registry
from robustkit.repair.config import ARACHNE, HISTORY, RepairConfig
from robustkit.repair.tuning import TuneConfig

METHODS: Registry[RepairConfig | TuneConfig] = Registry(
    "repair method",
    RepairError,
    {
        "history": HISTORY,
        "arachne": ARACHNE,
        # The control: as many weights as the history method finds on the source's nets, or so.
        "random": replace(HISTORY, localisation="random", top=300),
        "finetune": TuneConfig(scope="last"),
        "retrain": TuneConfig(scope="all", lr=1e-4, steps=200),
    },
)
