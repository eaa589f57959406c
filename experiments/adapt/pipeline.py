"""All trainings of an adaptation, the source's first, then what starts from it."""

from __future__ import annotations

from typing import Any

from experiments.adapt.config import AdaptOptions
from experiments.adapt.jobs import MeasureShift, TrainRecipe
from experiments.adapt.summary import summarise
from experiments.adapt.workspace import open_workspace
from experiments.options import config_from
from experiments.pieces import Piece, Say, carry_out
from robustkit import models
from robustkit.runs import RunFolder


def run_adapt(folder: RunFolder, say: Say) -> dict[str, Any]:
    """Run what is not yet done; returns the summary. Raises `RunError` where a training fails."""
    config = folder.config
    options = config_from(AdaptOptions, config)
    path = str(folder.path.resolve())
    first, *others = options.recipes
    sources: list[Piece] = [
        TrainRecipe(f"{first}/{number}", path, first, number) for number in range(options.seeds)
    ]
    rest: list[Piece] = [MeasureShift("shift", path)]
    rest += [
        TrainRecipe(f"{name}/{number}", path, name, number)
        for number in range(options.seeds)
        for name in others
    ]
    trials = carry_out(
        [sources, rest],
        folder,
        arm="adapt",
        say=say,
    )
    made = models.read_card(open_workspace(path).file(first, 0))
    return {**summarise(trials, config), "notes": list(made.provenance.get("notes", []))}
