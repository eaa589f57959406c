"""Who takes part in the comparison, and the networks that a run's options name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from experiments.evolve.reference import (
    Reference,
    find_reference,
    left_out,
    own_preprocessing,
)
from experiments.evolve.result import ReferenceNote
from experiments.evolve.workspace import REFERENCE, Workspace
from experiments.nets import resolve_net
from robustkit import models
from robustkit.errors import RunError
from robustkit.models.specs import is_file
from robustkit.reading import check_kind
from robustkit.runs import Trial, read_object

NOTED = "reference.json"

# Nets of the final comparison beside R: name, and whether it is trained with the penalty.
PLAYERS = {"R2": False, "Rp": True, "E": True, "E0": False, "RS": True}
# Which of them come from which search.
ARMS = {"evolve": ("E", "E0"), "random": ("RS",)}


class Recipe(NamedTuple):
    """What a net is built of: its architecture as on a card, and its own preprocessing.

    None: it normalises by the statistics of the run's data.
    """

    architecture: dict[str, Any]
    preprocessing: models.Preprocessing | None = None


def open_reference(space: Workspace) -> Reference:
    """What is known of R; a given one is copied into the run the first time.

    From then on the copy is R, whatever becomes of its source before the run is resumed.
    """
    spec, noted, kept = space.config.reference, space.folder.file(NOTED), space.net_path(REFERENCE)
    kept.parent.mkdir(exist_ok=True)
    if noted.is_file():
        told = check_kind(read_object(noted), ReferenceNote, str(noted), error=RunError)
        reference = Reference.from_dict(told)
        if kept.is_file() or not reference.given:
            return reference
    elif kept.is_file():  # of a run that began before there was such a note
        given = is_file(spec)
        return Reference(given, left_out=left_out(space.net(REFERENCE)) if given else {})
    found = find_reference(spec, space.splits, **_leave(space))
    # The note first: R without it would be taken for one that the run has trained.
    space.folder.write_json(NOTED, found.reference.to_dict())
    if found.reference.given:
        models.save(found.net, kept)
    return found.reference


def architecture(name: str, spec: str, space: Workspace) -> dict[str, Any]:
    """The architecture, as on a card, of the kept net `name`, else of the net `spec` names."""
    return dict(_card(name, spec, space).architecture)


def recipe(name: str, spec: str, space: Workspace, *, given: bool = False) -> Recipe:
    """What the kept net `name`, else the net `spec` names, is built of; `given` as of R."""
    card = _card(name, spec, space)
    return Recipe(dict(card.architecture), own_preprocessing(card, space.splits, given=given))


def _card(name: str, spec: str, space: Workspace) -> models.Card:
    kept = space.net_path(name)
    if kept.is_file():
        return models.read_card(kept)
    height, width = space.splits.train.shape[1:]
    net = resolve_net(spec, space.splits, seed=0, **_leave(space))
    return models.resizing(net, (height, width)).card


def _leave(space: Workspace) -> dict[str, Any]:
    """What the run's options allow: to fetch weights, and to run functions that files name."""
    settings = space.folder.config
    return {"download": bool(settings["download"]), "trust": settings.get("trust") or ()}


def judged_names(trials: Iterable[Trial]) -> dict[str, list[str]]:
    """Names of the judged nets by player, in order: {"R": ["R"], "E": ["E-0", "E-1"], …}."""
    names: dict[str, list[str]] = {}
    for trial in trials:
        if trial.arm == "judge" and trial.outcome == "Ok":
            name = trial.id.split("/")[1]
            names.setdefault(name.split("-")[0], []).append(name)
    return names
