"""Repair by training history: Tables 3 to 7, and what lies beyond them.

The publication leaves open N_g, |I_pos|, the swarm's constants and the ranking; those are this
house's defaults (see `docs/repair.md`). Our data are parts of the published sets, so the models are
less accurate than the published ones: what is compared is the shape of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.pieces import Piece
from experiments.reproduce.registry import EXPERIMENTS
from experiments.reproduce.repairs.jobs import RepairCell, TrainHistory
from experiments.reproduce.repairs.published import MODELS
from experiments.reproduce.repairs.rows import BEYOND, ROWS
from experiments.reproduce.repairs.tables import render
from experiments.reproduce.study import Plan, Results, Study

# Data, network, epochs of the training, and the checkpoints that are repaired.
FULL = {
    "gtsrb": ("gtsrb", "cnn6_2", 10, {"gtsrb(5)": 5, "gtsrb(10)": 10}),
    "cifar": ("cifar10", "cnn6_2", 10, {"cifar(5)": 5, "cifar(10)": 10}),
}
# Not trained to the end, so that there is something to repair.
QUICK = {"digits": ("digits", "vgg3?width=4", 3, {"digits(3)": 3})}
QUICK_ROWS = ("history", "arachne", "deg & diff", "guarded", "anchored")
FOLD_RUNS = 3


def phases(plan: Plan) -> Sequence[Sequence[Piece]]:
    """Trainings first, then every cell."""
    trainings: list[Piece] = []
    cells: list[Piece] = []
    for name, (data, net, epochs, checkpoints) in (QUICK if plan.quick else FULL).items():
        path = str(plan.folder / f"history-{name}")
        trainings.append(TrainHistory(f"train/{name}", path, data, net, epochs, plan.seed))
        for model, epoch in checkpoints.items():
            for row, fold, runs in _cells(plan.quick):
                cells.append(
                    RepairCell(
                        id=f"{model}/{fold}/{row}",
                        path=path,
                        data=data,
                        epoch=epoch,
                        row=row,
                        fold=fold,
                        runs=runs,
                        iterations=5 if plan.quick else 100,
                        seed=plan.seed,
                    )
                )
    # What the publication has comes first, so that an interrupted study shows that.
    cells.sort(key=lambda cell: cell.id.split("/")[2] in BEYOND)
    return [trainings, cells]


def _cells(quick: bool) -> list[tuple[str, str, int]]:
    rows = {**ROWS, **BEYOND}
    chosen = {name: rows[name] for name in QUICK_ROWS} if quick else rows
    whole = [(name, "all", 2 if quick else row.runs) for name, row in chosen.items()]
    return [*whole, *(("history", fold, 2 if quick else FOLD_RUNS) for fold in ("1", "2"))]


def summarise(results: Results) -> dict[str, Any]:
    """All cells: model → fold → row → figures of every run."""
    # In the publication's order, whatever order the ledger has.
    models: dict[str, Any] = {
        name: {} for name in MODELS if any(each.startswith(f"{name}/") for each in results)
    }
    trainings: dict[str, Any] = {}
    for name, result in results.items():
        if name.startswith("train/"):
            trainings[name.removeprefix("train/")] = result
            continue
        model, fold, row = name.split("/")
        models.setdefault(model, {}).setdefault(fold, {})[row] = result
    return {"study": "history-repair", "trainings": trainings, "models": models}


EXPERIMENTS.enter(
    "history-repair",
    Study(
        name="history-repair",
        title="Repair of deep neural networks by fault localisation from training history",
        source="Tokui, Tokumoto, Kikuchi, Ishikawa (in Japanese): Tables 3 to 7; baseline Arachne",
        phases=phases,
        summarise=summarise,
        render=render,
    ),
)
