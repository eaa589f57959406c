"""The rows of the tables: which method with which settings, and the tables they stand in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from robustkit.repair import METHODS, Method, SwarmConfig, preset

TABLES = {
    "3": ("RQ1: history against Arachne", ("history", "arachne")),
    "4": ("RQ2: which impact", ("history", "forward", "backward")),
    "5": ("RQ3: which data", ("history", "deg - imp", "deg & diff")),
    "6": ("RQ4: which layer", ("history", "last", "before-last")),
}


@dataclass(frozen=True)
class Row:
    """A method, `changes` to its settings, its swarm's design, and how many runs it gets."""

    method: str
    changes: dict[str, Any] = field(default_factory=dict)
    swarm: SwarmConfig | None = None
    runs: int = 3

    def settings(self, runs: int | None = None, seed: int = 0) -> Method:
        """The method as this row wants it."""
        base = METHODS[self.method]
        config = replace(base.config, **self.changes, runs=runs or self.runs, seed=seed)
        return Method(config, self.swarm or base.swarm)


ROWS: dict[str, Row] = {
    "history": Row("history", runs=10),
    "arachne": Row("arachne", runs=10),
    "forward": Row("history", {"impacts": "forward"}),
    "backward": Row("history", {"impacts": "backward"}),
    "deg - imp": Row("history", {"use_diff": False}),
    "deg & diff": Row("history", {"use_imp": False}),
    "last": Row("history", {"layers": ("last",)}),
    "before-last": Row("history", {"layers": ("before-last",)}),
}

# Not of the paper: what it leaves open, its list of future work, and methods of this house.
BEYOND: dict[str, Row] = {
    "history, swarm as printed": Row("history", swarm=preset("paper-literal")),
    "arachne, swarm as printed": Row("arachne", swarm=preset("paper-literal")),
    "history, 200 positives": Row("history", {"n_positives": 200}),
    "history, all positives": Row("history", {"positives": "all"}),
    "history, ring": Row("history", swarm=preset("constricted", topology="ring")),
    "history, 30 particles": Row("history", swarm=preset("constricted", particles=30)),
    "history, start at the weights": Row("history", swarm=preset("constricted", start="current")),
    "history, N_g x 5": Row("history", {"per_image": 5}),
    "history, N_g x 20": Row("history", {"per_image": 20}),
    "random weights": Row("random"),
    "finetune": Row("finetune"),
    "retrain": Row("retrain"),
    "guarded": Row("guarded"),
    "guarded, 0 %": Row("guarded", {"budget": 0.0}),
    "guarded, 1 %": Row("guarded", {"budget": 0.01}),
    "anchored": Row("anchored"),
    "anchored, 1 %": Row("anchored", {"budget": 0.01}),
    "anchored, all layers": Row(
        "anchored",
        {"scope": "all", "lr": 1e-4, "steps": 200, "checks": 4, "halvings": 3, "budget": 0.01},
        runs=1,
    ),
}
