"""The repair methods by name: settings of the swarm's search, or of gradient descent."""

from __future__ import annotations

from dataclasses import dataclass, replace

from robustkit.errors import RepairError
from robustkit.registry import Registry
from robustkit.repair.config import ARACHNE, BUDGET, HISTORY, RepairConfig
from robustkit.repair.swarm import CONSTRICTED, SwarmConfig, preset
from robustkit.repair.tuning import TuneConfig


@dataclass(frozen=True)
class Method:
    """The settings of a swarm's search with the swarm's design, or of gradient descent alone."""

    config: RepairConfig | TuneConfig
    swarm: SwarmConfig = CONSTRICTED


METHODS: Registry[Method] = Registry(
    "repair method",
    RepairError,
    {
        "history": Method(HISTORY),
        "arachne": Method(ARACHNE),
        # The control: as many weights as the history method finds, or so, anywhere.
        "random": Method(replace(HISTORY, localisation="random", top=300)),
        "finetune": Method(TuneConfig(scope="last")),
        "retrain": Method(TuneConfig(scope="all", lr=1e-4, steps=200, checks=5)),
        # Beyond the papers. All successes are watched, which the fast evaluation makes cheap, and
        # what breaks beyond a budget rules a candidate out. Far from the weights as they are every
        # candidate breaks more than that, so particles start at all distances.
        "guarded": Method(
            replace(HISTORY, per_image=5, fitness="guarded", positives="all"),
            preset("constricted", start="graded"),
        ),
        "anchored": Method(TuneConfig(scope="last", anchor=10.0, budget=BUDGET, halvings=6)),
    },
)
