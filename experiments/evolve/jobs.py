"""The three kinds of work in a run: train a net, prepare the reference, judge a finalist.

A job is a few plain values and the path of the run folder; its result depends on them alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from experiments.evolve.judging import judge
from experiments.evolve.workspace import Workspace, open_workspace
from robustkit import attacks, models, training
from robustkit.models.card import Card


@dataclass(frozen=True)
class TrainNet:
    """Train a fresh net of `architecture` (as on a card) and keep it under `name`.

    `part` is what it trains on (see `Workspace.examples`). With `scored`, the result tells its
    accuracy, transferability and gradients on val. Without a `name` nothing is kept.
    """

    run_path: str
    architecture: dict[str, Any]
    seed: int
    part: str
    penalised: bool
    final: bool
    name: str = ""
    scored: bool = False

    def run(self) -> dict[str, Any]:
        """Train; returns plain numbers."""
        space = open_workspace(self.run_path)
        net = models.rebuild(self._card(space), seed=self.seed)
        config = space.config.training(penalised=self.penalised, final=self.final, seed=self.seed)
        examples = space.examples(self.part, penalised=self.penalised)
        val = None if self.part == "all" else space.splits.val
        history = training.fit_examples(net, examples, val, config, device=space.device)
        if self.name:
            space.net_path(self.name).parent.mkdir(exist_ok=True)
            models.save(net, space.net_path(self.name), training=repr(config))
        size = models.cost(net, space.splits.train.shape)
        result = {"params": size.params, "macs": size.macs, **_summary(history)}
        return {**result, **score(net, space)} if self.scored else result

    def _card(self, space: Workspace) -> Card:
        mean, std = space.stats
        return Card(
            architecture=self.architecture,
            classes=space.splits.train.classes,
            input_shape=space.splits.train.shape,
            mean=mean,
            std=std,
        )


def _summary(history: training.History) -> dict[str, Any]:
    """The numbers of a training; its seconds are the ledger's, results must not vary."""
    records = [replace(record, seconds=0.0) for record in history.records]
    curves = {
        "train_loss": [record.train_loss for record in records],
        "val_acc": [record.val_acc for record in records],
        "penalty": [record.penalty for record in records],
    }
    return {
        "epochs": len(records),
        "train_acc": records[-1].train_acc,
        "masked": sum(record.masked for record in records),
        "curves": curves,
    }


def score(net: models.Classifier, space: Workspace) -> dict[str, Any]:
    """What a search sees of a net, all of it on val, nothing on test.

    `transfer` is the share of R's adversarials that the net gets wrong among the `transfer_n`
    images that both classify correctly when clean.
    """
    made = space.adversarials("R", "val", flipped=False)
    labels = space.splits.val.labels
    right = attacks.predict(net, space.splits.val.images).argmax(dim=1) == labels
    misled = attacks.predict(net, made.images).argmax(dim=1) != labels
    common = right & made.correct
    gradients = attacks.input_gradients(net, space.val_sample, space.config.grad_loss)
    found = attacks.alignment(gradients, space.reference_val_gradients)
    cosine = found.cosine[~found.cosine.isnan()]
    # A net right on nothing that R is right on has no transferability: it counts as the worst.
    return {
        "accuracy": float(right.double().mean()),
        "transfer": float(misled[common].double().mean()) if bool(common.any()) else 1.0,
        "transfer_n": int(common.sum()),
        "cos": float(cosine.mean()) if len(cosine) else 0.0,
        "cos_abs": float(cosine.abs().mean()) if len(cosine) else 0.0,
        "grad_norm": float(found.norm.mean()),
    }


@dataclass(frozen=True)
class PrepareReference:
    """Compute R's gradients on all views and its adversarials on val, for every later job."""

    run_path: str

    def run(self) -> dict[str, Any]:
        """Returns how many gradients have no direction, and R's accuracy on val."""
        space = open_workspace(self.run_path)
        gradients = space.reference_gradients
        made = space.adversarials("R", "val", flipped=False)
        return {
            "gradients": gradients.norms.numel(),
            "masked": gradients.masked,
            "accuracy": float(made.correct.double().mean()),
            "fooled": float(made.fooled.double().mean()),
        }


@dataclass(frozen=True)
class JudgeNet:
    """Judge the net `name` on test, against adversarials of R, of the surrogate and its own."""

    run_path: str
    name: str

    def run(self) -> dict[str, Any]:
        """Returns scalars; what happened to each image goes to `evaluation/`."""
        space = open_workspace(self.run_path)
        return judge(self.name, space)
