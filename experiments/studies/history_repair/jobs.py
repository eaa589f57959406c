"""The jobs of the study: train a history, repair a checkpoint as a row says; their results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from experiments.studies.base import StudyJob, StudySummary
from robustkit import data, models, repair, training
from robustkit.cli.models import resolve_net
from robustkit.compute import derive_seed
from robustkit.data import ImageSet, Splits
from robustkit.errors import RepairError, RunError
from robustkit.repair import (
    METHODS,
    Method,
    Repair,
    RepairConfig,
    SwarmConfig,
    TuneConfig,
    preset,
)
from robustkit.runs.summaries import Amount, Count, MeanShare, Result

Score = Literal["acc_after", "rr", "br"]
Part = Literal["repaired", "held_out"]

_MISSING = -1  # no value of a file is below 0


@dataclass(frozen=True)
class Row:
    """A method, `changes` to its settings, its swarm's design, and how many runs it gets."""

    method: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    swarm: SwarmConfig | None = None
    runs: int = 3

    def settings(self, runs: int | None = None, seed: int = 0) -> Method:
        """Return the method with this row's settings."""
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

# Not of the paper: what it leaves open, its list of future work, and our own methods.
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


class Scores(Result, frozen=True, kw_only=True):
    """Accuracy after a repair, repair rate and break rate."""

    acc_after: MeanShare | None
    rr: MeanShare | None
    br: MeanShare | None


class Run(Result, frozen=True, kw_only=True, omit_defaults=True):
    """One repair, on the images repaired on and on those held out; sizes of patch and search."""

    repaired: Scores
    held_out: Scores | None = None
    changed: Count | UnsetType = UNSET
    iterations: Count | UnsetType = UNSET


class Sets(Result, frozen=True, kw_only=True):
    """Sizes of the sets of images; None of those a method does not look at."""

    pos: Count | None
    neg: Count | None
    deg: Count | None
    imp: Count | None


class Cell(Result, frozen=True, kw_only=True, omit_defaults=True):
    """A row of a table for one model: the repairs, or the reason why there is none.

    A failure has no values; `check_cell` refuses a repair that lacks one.
    """

    failed: str | None = None
    before: MeanShare = _MISSING
    n: Count = _MISSING
    held_out_before: MeanShare = _MISSING
    held_out_n: Count = _MISSING
    sets: Sets | UnsetType = UNSET
    localised: dict[str, Count] | UnsetType = UNSET
    top: Count | UnsetType | None = UNSET
    scored_by: str | UnsetType = UNSET
    seconds: Amount = _MISSING
    runs: list[Run] = msgspec.field(default_factory=list)


class Trained(Result, frozen=True, kw_only=True):
    """The result of a subject's training."""

    val_acc: list[MeanShare | None]


Models = dict[str, dict[str, dict[str, Cell]]]
"""By name of the model, fold and row."""


class Summary(StudySummary, frozen=True, kw_only=True):
    """Cells by model, fold and row."""

    trainings: dict[str, Trained] = msgspec.field(default_factory=dict)
    models: Models


def check(summary: Summary, where: str) -> None:
    """Raise `RunError` where a cell is neither a failure nor whole."""
    for model, folds in summary.models.items():
        for fold, rows in folds.items():
            for row, cell in rows.items():
                check_cell(cell, f"{where}: models.{model}.{fold}.{row}")


def check_cell(cell: Cell, where: str) -> None:
    """Raise `RunError` where the cell is neither a failure nor whole."""
    if cell.failed is not None:
        return
    for name in ("before", "n", "held_out_before", "held_out_n", "sets", "seconds", "runs"):
        if getattr(cell, name) == getattr(Cell(), name):
            raise RunError(f"{where}: '{name}' is missing")
    for number, run in enumerate(cell.runs):
        if run.held_out is None:
            raise RunError(f"{where}.runs[{number}]: 'held_out' is missing")


@dataclass(frozen=True)
class TrainHistory(StudyJob):
    """Train `model` on `data`, a checkpoint per epoch, in the folder at `path`."""

    path: str
    data: str
    model: str
    epochs: int
    seed: int
    name: str

    kind = Trained

    def run(self) -> Trained:
        """Train with SGD 0.01, momentum 0.9, Nesterov, batches of 32, at a constant rate."""
        splits = data.load(self.data)
        net = resolve_net(self.model, splits, seed=self.seed)
        config = training.TrainConfig(
            epochs=self.epochs,
            lr=0.01,
            momentum=0.9,
            nesterov=True,
            weight_decay=0.0,
            batch_size=32,
            schedule="constant",
            warmup=0.0,
            seed=self.seed,
        )
        folder = Path(self.path)
        folder.mkdir(parents=True, exist_ok=True)
        history = training.fit(net, splits, config, checkpoint_dir=folder)
        return Trained(val_acc=[record.val_acc for record in history.records])


@dataclass(frozen=True)
class RepairCell(StudyJob):
    """One cell of a table: a checkpoint, called `model`, repaired as a row says, `runs` times.

    `fold` "all" repairs and scores on all test images, with the validation images held out;
    "1" and "2" repair on one half of the test images and hold out the other.
    """

    path: str
    data: str
    model: str
    epoch: int
    row: str
    fold: str
    runs: int
    iterations: int
    seed: int

    kind = Cell

    def run(self) -> Cell:
        """Repair the net; a localisation that finds no weight is a result, too: nothing changes."""
        splits = data.load(self.data)
        images, held_out = folded(splits, self.fold, self.seed)
        model, previous = (
            models.load(Path(self.path) / f"epoch_{epoch:04}.safetensors")
            for epoch in (self.epoch, self.epoch - 1)
        )
        try:
            return _result(self._repaired(model, previous, images, held_out))
        except RepairError as error:
            return Cell(failed=str(error))

    def _repaired(
        self,
        model: models.Classifier,
        previous: models.Classifier,
        images: ImageSet,
        held_out: ImageSet,
    ) -> Repair:
        method = {**ROWS, **BEYOND}[self.row].settings(self.runs, self.seed)
        if isinstance(method.config, TuneConfig):
            return repair.tune(model, method.config, images, held_out)
        assert isinstance(method.config, RepairConfig)
        # The same budget for all; the source's 100 iterations but for rehearsals.
        swarm = replace(method.swarm, iterations=self.iterations)
        return repair.repair(model, method.config, images, held_out, previous=previous, swarm=swarm)


def folded(splits: Splits, fold: str, seed: int) -> tuple[ImageSet, ImageSet]:
    """Return the images to repair on and those held out."""
    if fold == "all":
        return splits.test, splits.val
    halves = data.stratified_split(splits.test.labels, 0.5, derive_seed("folds", seed))
    first, second = (splits.test.subset(indices) for indices in halves)
    return (first, second) if fold == "1" else (second, first)


def _result(repair: Repair) -> Cell:
    result, located = repair.result, repair.localisation
    held_out = result.held_out
    return Cell(
        before=result.acc_before,
        n=result.n,
        sets=Sets(**{name: getattr(result, f"n_{name}") for name in Sets.__struct_fields__}),
        held_out_n=0 if held_out is None else held_out.n,
        held_out_before=_MISSING if held_out is None else held_out.acc_before,
        localised=result.localised,
        top=None if located is None else located.top,
        scored_by=repair.scored_by,
        seconds=repair.seconds / len(repair.runs),
        runs=[_run(run) for run in repair.runs],
    )


def _run(run: repair.Run) -> Run:
    effects = {"repaired": run.effect}
    if run.held_out is not None:
        effects["held_out"] = run.held_out
    scores = {
        images: Scores(
            **{name: getattr(effect.metrics(), name) for name in Scores.__struct_fields__}
        )
        for images, effect in effects.items()
    }
    return Run(**scores, changed=len(run.patch), iterations=run.iterations)
