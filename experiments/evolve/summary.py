"""`summary.json` of an evolution run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.evolve.comparison import compare
from experiments.evolve.judging import load_verdict, verdict_path
from experiments.evolve.pipeline import Evolution
from experiments.evolve.players import judged_names
from experiments.evolve.reference import warnings_about
from experiments.evolve.trying import lower_rungs
from robustkit.attacks import wilson
from robustkit.runs import Ledger, Trial

SEARCHES = ("evolve", "random")


def summarise(
    evolution: Evolution, ledger: Ledger, fooled: Mapping[str, Any], wall: float
) -> dict[str, Any]:
    """The figures of a finished run; everything but `seconds` depends on the config alone.

    `fooled` holds bool (N,) arrays "surrogate" and "flipped"; `wall` is in seconds. `left_out` has
    the players that there are not, with the reason; `gap` is None without R'.
    """
    trials = ledger.trials()
    names = judged_names(trials)
    run, images = evolution.space.folder.path, len(evolution.space.splits.test)
    verdicts = {
        player: [load_verdict(verdict_path(run, name), images) for name in names[player]]
        for player in ("R", "R2", "Rp", "E", "E0", "RS")
        if player not in evolution.reference.left_out
    }
    comparison = compare(
        verdicts, fooled["surrogate"], fooled["flipped"], seed=evolution.config.seed
    )
    results = {trial.id: trial.result or {} for trial in trials}
    for player, net in comparison.nets.items():
        judged = results[f"judge/{names[player][0]}"]
        net |= {"params": judged["params"], "macs": judged["macs"], "seeds": len(names[player])}
    accuracy = wilson(evolution.prepared["accuracy"], len(evolution.space.splits.val))
    searched = [trial for trial in trials if trial.arm in SEARCHES]
    lower = [trial for trial in trials if trial.arm in map(lower_rungs, SEARCHES)]
    return {
        "trials": len(searched),
        "trials_by_arm": dict(Counter(trial.arm for trial in searched)),
        "trials_on_lower_rungs": len(lower),
        "trials_from_cache": len(searched) - len({trial.key for trial in searched}),
        "outcomes": dict(sorted(Counter(trial.outcome for trial in searched).items())),
        "nets": comparison.nets,
        "gap": None if comparison.gap is None else comparison.gap.to_dict(),
        "search_gap": comparison.search_gap.to_dict(),
        "penalty_gap": comparison.penalty_gap.to_dict(),
        "left_out": dict(evolution.reference.left_out),
        "warnings": warnings_about(
            accuracy,
            evolution.space.splits.train.num_classes,
            evolution.reference.published,
        ),
        "common_images": int(comparison.common.sum()),
        "test_images": len(comparison.common),
        "data": evolution.space.splits.name,
        "data_digest": evolution.space.splits.test.digest(),
        "reference": evolution.prepared
        | {
            "given": evolution.reference.given,
            "validation_images": accuracy.n,
            "published": evolution.reference.published,
            "notes": list(evolution.reference.notes),
        },
        "baseline": {
            name: {key: value for key, value in result.items() if key != "curves"}
            for name, result in sorted(evolution.baseline.items())
        },
        "selection": {name: choice.to_dict() for name, choice in sorted(evolution.choices.items())},
        "failed_finalists": [
            trial.id for trial in trials if trial.arm == "final" and trial.outcome != "Ok"
        ],
        "seconds": seconds_by_phase(trials) | {"wall": wall},
    }


def seconds_by_phase(trials: Sequence[Trial]) -> dict[str, float]:
    """Seconds of computation, summed over workers, for each part of the run."""
    phases = {
        "reference": ("reference", "baseline"),
        "search": ("evolve", "rungs-evolve"),
        "random_search": ("random",),
        "promotion": ("promote-evolve", "promote-random"),
        "finalists": ("final",),
        "judging": ("judge",),
    }
    return {
        phase: sum(trial.seconds for trial in trials if trial.arm in arms)
        for phase, arms in phases.items()
    }
