"""The jobs of the study: train a history, repair one of its checkpoints in one way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from experiments.studies.base import Json, StudyJob
from experiments.studies.history_repair.result import Cell, Trained
from experiments.studies.history_repair.tables import BEYOND, ROWS
from robustkit import data, models, repair, training
from robustkit.cli.models import resolve_net
from robustkit.compute import derive_seed
from robustkit.data import ImageSet, Splits
from robustkit.errors import RepairError
from robustkit.repair import Repair, RepairConfig, TuneConfig


@dataclass(frozen=True)
class TrainHistory(StudyJob):
    """Train `model` on `data`, a checkpoint per epoch, in the folder at `path`."""

    path: str
    data: str
    model: str
    epochs: int
    seed: int

    kind = Trained

    def run(self) -> Json:
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
        return {"val_acc": [record.val_acc for record in history.records]}


@dataclass(frozen=True)
class RepairCell(StudyJob):
    """One cell of a table: a checkpoint repaired as a row says, `runs` times.

    `fold` "all" repairs and scores on all test images, with the validation images held out;
    "1" and "2" repair on one half of the test images and hold out the other.
    """

    path: str
    data: str
    epoch: int
    row: str
    fold: str
    runs: int
    iterations: int
    seed: int

    kind = Cell

    def run(self) -> Json:
        """Repair; a localisation that finds no weight is a result, too: nothing changes."""
        splits = data.load(self.data)
        images, held_out = folded(splits, self.fold, self.seed)
        model, previous = (
            models.load(Path(self.path) / f"epoch_{epoch:04}.safetensors")
            for epoch in (self.epoch, self.epoch - 1)
        )
        try:
            return _result(self._repaired(model, previous, images, held_out))
        except RepairError as error:
            return {"failed": str(error)}

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
    first, second = (splits.test.subset(half) for half in halves)
    return (first, second) if fold == "1" else (second, first)


def _result(found: Repair) -> Json:
    result, located = found.result, found.localisation
    return {
        "before": result.acc_before,
        "n": result.n,
        "sets": {name: getattr(result, f"n_{name}") for name in ("pos", "neg", "deg", "imp")},
        "held_out_n": 0 if result.held_out is None else result.held_out.n,
        "held_out_before": None if result.held_out is None else result.held_out.acc_before,
        "localised": result.localised,
        "top": None if located is None else located.top,
        "scored_by": found.how,
        "seconds": found.seconds / len(found.runs),
        "runs": [_run(run) for run in found.runs],
    }


def _run(run: repair.Run) -> Json:
    metrics = {"repaired": run.effect.metrics()}
    if run.held_out is not None:
        metrics["held_out"] = run.held_out.metrics()
    kept = ("acc_after", "rr", "br")
    return {
        **{part: {name: getattr(found, name) for name in kept} for part, found in metrics.items()},
        "changed": len(run.patch),
        "iterations": run.iterations,
    }
