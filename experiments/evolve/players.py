"""Who takes part in the comparison, and the networks that a run's options name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from experiments.evolve.workspace import Workspace
from robustkit import models
from robustkit.runs import Trial

# Nets of the final comparison beside R: name, and whether it is trained with the penalty.
PLAYERS = {"R2": False, "Rp": True, "E": True, "E0": False, "RS": True}
# Which of them come from which search.
ARMS = {"evolve": ("E", "E0"), "random": ("RS",)}


def given_reference(space: Workspace) -> models.Classifier | None:
    """The reference, if it is a trained one: a model file."""
    if not space.config.reference.endswith(".safetensors"):
        return None
    return resolve_net(space.config.reference, space)


def architecture(spec: str, space: Workspace) -> dict[str, Any]:
    """The architecture, as on a card, of the net that `spec` names."""
    return dict(resolve_net(spec, space).card.architecture)


def resolve_net(spec: str, space: Workspace) -> models.Classifier:
    """The net that `spec` names, checked against the run's data."""
    channels, size, _ = space.splits.train.shape
    mean, std = space.stats
    return models.resolve(
        spec,
        num_classes=space.splits.train.num_classes,
        in_channels=channels,
        image_size=size,
        classes=space.splits.train.classes,
        mean=mean,
        std=std,
        seed=0,
    )


def judged_names(trials: Iterable[Trial]) -> dict[str, list[str]]:
    """Names of the judged nets by player, in order: {"R": ["R"], "E": ["E-0", "E-1"], …}."""
    names: dict[str, list[str]] = {}
    for trial in trials:
        if trial.arm == "judge" and trial.outcome == "Ok":
            name = trial.id.split("/")[1]
            names.setdefault(name.split("-")[0], []).append(name)
    return names
