"""Where accuracy axes begin, so that nets that learnt nothing do not squeeze all others."""

from __future__ import annotations

import math

from experiments.evolve.report.evidence import Evidence


def lowest_shown(evidence: Evidence) -> float:
    """The accuracy, in percent, at which axes begin; what is lower is drawn at the edge.

    At least three quarters of all trials, R's architecture at trial budget and E are above it.
    """
    results = [entry.result for entry in evidence.entries if entry.result is not None]
    accuracies = sorted(100 * result["accuracy"] for result in results)
    wanted = accuracies[len(accuracies) // 4 :][:1]
    for name in ("R2", "Rp"):
        if (value := evidence.baseline(name, "accuracy")) is not None:
            wanted.append(100 * value)
    if (winner := evidence.chosen("E").result) is not None:
        wanted.append(100 * winner["accuracy"])
    return float(math.floor(min(wanted, default=0.0) - 1))
