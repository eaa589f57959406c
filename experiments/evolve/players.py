"""Who takes part in the comparison, and the networks that a run's options name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from experiments.evolve.workspace import REFERENCE, Workspace
from experiments.nets import resolve_net
from robustkit import models
from robustkit.runs import Trial

# Nets of the final comparison beside R: name, and whether it is trained with the penalty.
PLAYERS = {"R2": False, "Rp": True, "E": True, "E0": False, "RS": True}
# Which of them come from which search.
ARMS = {"evolve": ("E", "E0"), "random": ("RS",)}


def keep_given_reference(space: Workspace) -> bool:
    """Copy R into the run, if it is a trained one: a model file; whether it is.

    From then on the copy is R, whatever becomes of the file before the run is resumed.
    """
    spec, kept = space.config.reference, space.net_path(REFERENCE)
    if not spec.endswith(".safetensors"):
        return False
    if not kept.is_file():
        models.save(resolve_net(spec, space.splits, seed=0), kept)
    return True


def architecture(name: str, spec: str, space: Workspace) -> dict[str, Any]:
    """The architecture, as on a card, of the kept net `name`, else of the net `spec` names."""
    kept = space.net_path(name)
    card = (
        models.read_card(kept) if kept.is_file() else resolve_net(spec, space.splits, seed=0).card
    )
    return dict(card.architecture)


def judged_names(trials: Iterable[Trial]) -> dict[str, list[str]]:
    """Names of the judged nets by player, in order: {"R": ["R"], "E": ["E-0", "E-1"], …}."""
    names: dict[str, list[str]] = {}
    for trial in trials:
        if trial.arm == "judge" and trial.outcome == "Ok":
            name = trial.id.split("/")[1]
            names.setdefault(name.split("-")[0], []).append(name)
    return names
