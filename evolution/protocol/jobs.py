"""The jobs of a run: train a net, prepare the reference, evaluate a net on test.

A job is a few plain values, the path of the run folder, and that of its scratch where it lies
elsewhere; its result depends on the former alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from evolution.inheritance import inherit
from evolution.protocol.roles import REFERENCE, SURROGATE, is_source
from evolution.protocol.workspace import Workspace, open_workspace
from robustkit import attacks, evaluation, models, training
from robustkit.compute.tensorfiles import Shapes, check_shapes, read_tensors, write_tensors
from robustkit.errors import ModelError, RunError
from robustkit.jobs import DivergedError, InvalidCandidateError
from robustkit.reading import Json

_SOURCE_NAMES = {REFERENCE: "under_R", SURROGATE: "under_surrogate"}  # of tensors in the file
_UNDER = "under_"
_SHAPES: Shapes = {
    **dict.fromkeys(
        ("correct", "under_R", "under_flipped", "under_surrogate", "under_own", "R_under_own"),
        (torch.bool, ("n",)),
    ),
    "cosine": (torch.float64, ("n",)),
    "norm": (torch.float64, ("n",)),
}


@dataclass(frozen=True, eq=False)
class NetEvaluation:
    """One net on the N test images; every entry (N,), bool but for the last two.

    `correct`: right on the clean image. `under`: right on the adversarial of each reference and
    surrogate, by its name (R, R.2, S, S.2, …). `under_flipped`, `under_own`: right on the
    adversarial of R's sign-flipped gradient, of itself. `R_under_own`: R is right on the net's own
    adversarial. `cosine` (float64, NaN where a gradient is zero) and `norm` are of the net's input
    gradient, the cosine against R's.
    """

    correct: Tensor
    under: Mapping[str, Tensor]
    under_flipped: Tensor
    under_own: Tensor
    R_under_own: Tensor
    cosine: Tensor
    norm: Tensor

    @property
    def under_R(self) -> Tensor:  # noqa: N802
        """Return whether the net is right on R's adversarials, bool (N,)."""
        return self.under[REFERENCE]


def evaluate_on_test(name: str, space: Workspace) -> dict[str, object]:
    """Evaluate the net `name` on test, keep the metrics; return its cost and accuracies."""
    net, reference, test = space.net(name), space.net(REFERENCE), space.splits.test
    own_adversarials = space.adversarials(name, "test", flipped=False)

    def right(model: models.Classifier, images: Tensor) -> Tensor:
        return attacks.predicted_classes(model, images) == test.labels

    loss = space.config.grad_loss
    gradients = evaluation.input_gradients(net, test, loss)
    aligned = evaluation.alignment(gradients, evaluation.input_gradients(reference, test, loss))
    sources = (*space.config.references, *space.config.surrogates)
    metrics = NetEvaluation(
        correct=own_adversarials.correct,
        under={
            source: right(net, space.adversarials(source, "test", flipped=False).images)
            for source in sources
        },
        under_flipped=right(net, space.adversarials(REFERENCE, "test", flipped=True).images),
        under_own=~own_adversarials.fooled,
        R_under_own=right(reference, own_adversarials.images),
        cosine=aligned.cosine,
        norm=aligned.norm,
    )
    save_evaluation(metrics, evaluation_path(space.folder.path, name))
    size = models.cost(net, test.shape)
    return {
        "params": size.params,
        "macs": size.macs,
        "clean_acc": float(metrics.correct.double().mean()),
        "whitebox_acc": float((metrics.correct & metrics.under_own).double().mean()),
    }


def evaluation_path(run: Path, name: str) -> Path:
    """Return where the metrics of the net `name` are kept."""
    return run / "evaluation" / f"{name}.safetensors"


def save_evaluation(metrics: NetEvaluation, path: Path) -> None:
    """Write the metrics of a net, whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    tensors = {
        field.name: getattr(metrics, field.name)
        for field in fields(metrics)
        if field.name != "under"
    }
    for source, right in metrics.under.items():
        tensors[_SOURCE_NAMES.get(source, _UNDER + source)] = right
    write_tensors(path, {name: value.contiguous() for name, value in tensors.items()})


def load_evaluation(path: Path, images: int | None = None) -> NetEvaluation:
    """Return the metrics written to `path`, on so many test `images` where that is known.

    Raises `RunError`, naming the file, if it is missing, damaged, or of other images.
    """
    tensors, _ = read_tensors(path, error=RunError, hint="; start the run anew")
    cosine = tensors.get("cosine")
    if cosine is not None and cosine.is_floating_point():  # NaN where there is none
        tensors["cosine"] = torch.where(cosine.isnan(), 0.0, cosine)
    sizes = {} if images is None else {"n": images}
    further: Shapes = {
        name: (torch.bool, ("n",))
        for name in tensors
        if name.startswith(_UNDER) and is_source(name.removeprefix(_UNDER))
    }
    check_shapes(tensors, {**_SHAPES, **further}, str(path), error=RunError, known=sizes)
    if cosine is not None:
        tensors["cosine"] = cosine
    under = {source: tensors.pop(name) for source, name in _SOURCE_NAMES.items()}
    under |= {name.removeprefix(_UNDER): tensors.pop(name) for name in further if name in tensors}
    return NetEvaluation(under=under, **tensors)


def mean_or_none(values: Tensor) -> float | None:
    """Return the mean of the entries that are numbers; None where there is none."""
    measured = values[~torch.isnan(values)]
    return float(measured.mean()) if len(measured) else None


@dataclass(frozen=True)
class EarlyStop:
    """A training ends `after` so many epochs if its accuracy on val, in [0,1], is `below` this."""

    after: int
    below: float

    def applies_to(self, record: training.EpochRecord) -> bool:
        """Return whether the training ends with this epoch."""
        return (
            record.epoch == self.after
            and record.val_acc is not None
            and record.val_acc < self.below
        )


@dataclass(frozen=True)
class TrainNet:
    """Train a fresh net of `architecture` (as on a card) and keep it under `name`.

    `part` is what it trains on (see `Workspace.examples`). With `scored`, the result has its
    accuracy, transfer and gradients on val. Without a `name` the net is not kept.

    `epochs` are those of the config unless given, and `lam` its weight of the penalty. `parents`
    name the kept weights it starts from, `kept_as` is the name under which its own are kept for its
    children. With a `preprocessing` it applies that to images instead of normalising by the data's
    statistics. With an `early_stop` the training ends after so many epochs if the accuracy on val
    is below its threshold.
    """

    run_path: str
    architecture: Json
    seed: int
    part: str
    penalised: bool
    final: bool
    name: str = ""
    scored: bool = False
    epochs: int | None = None
    parents: tuple[str, ...] = ()
    kept_as: str = ""
    preprocessing: models.Preprocessing | None = None
    scratch: str | None = None
    lam: float | None = None
    early_stop: EarlyStop | None = None

    def run(self) -> dict[str, object]:
        """Train the net; return plain, finite numbers.

        Raises `DivergedError` where the net or its gradients are not finite, and
        `InvalidCandidateError` where there is no such net for this data.
        """
        space = open_workspace(self.run_path, self.scratch)
        net = self._fresh_net(space)
        inherited = inherit(net, [space.inherited(parent) for parent in self.parents])
        config = space.config.training(
            penalised=self.penalised, final=self.final, seed=self.seed, lam=self.lam
        )
        if self.epochs is not None:
            config = replace(config, epochs=self.epochs)
        examples = space.examples(self.part, penalised=self.penalised)
        val = None if self.part == "all" else space.splits.val
        stop_after = None if self.early_stop is None else self.early_stop.applies_to
        history = training.fit_examples(
            net, examples, val, config, device=space.device, stop_after=stop_after
        )
        gradients = finite_gradients(net, space)
        if self.name:
            space.net_path(self.name).parent.mkdir(exist_ok=True)
            models.save(net, space.net_path(self.name), training=repr(config))
        if self.kept_as:
            space.keep_for_children(self.kept_as, net)
        size = models.cost(net, space.splits.train.shape)
        result = {"params": size.params, "macs": size.macs, **_summary(history)}
        if self.parents:
            result["inherited"] = inherited
        if len(history.records) < config.epochs:
            result["stopped_after"] = len(history.records)
        if not self.scored:
            return result
        measures = score(net, space, gradients, history.correct)
        return {**result, **measures, **_own(net, space)}

    def _fresh_net(self, space: Workspace) -> models.Classifier:
        train, (mean, std) = space.splits.train, space.stats
        if self.preprocessing is None:
            card = models.new_card(self.architecture, train.classes, train.shape, mean, std)
        else:
            card = models.Card(
                architecture=self.architecture,
                classes=train.classes,
                input_shape=train.shape,
                preprocessing=self.preprocessing,
            )
        try:
            return models.rebuild(card, seed=self.seed)
        except ModelError as error:
            raise InvalidCandidateError(str(error)) from error


def _summary(history: training.History) -> dict[str, object]:
    """Return the numbers of a training, without its seconds: results must not vary."""
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


def finite_gradients(net: models.Classifier, space: Workspace) -> Tensor:
    """Return input gradients of a trained net on `val_sample`, float32 (n,C,H,W).

    The last step of a training is followed by no loss that would show where it led, and attacks
    need gradients. Raises `DivergedError` unless all weights and gradients are finite.
    """
    gradients = evaluation.input_gradients(net, space.val_sample, space.config.grad_loss)
    for source, tensors in (("weights", net.state_dict().values()), ("gradients", [gradients])):
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            raise DivergedError(f"training diverged in its last step: {source} are not finite")
    return gradients


def score(
    net: models.Classifier, space: Workspace, gradients: Tensor, correct: Tensor | None = None
) -> dict[str, object]:
    """Return the measures of a net that a search sees: all on val, none on test.

    `gradients` are the net's input gradients on `val_sample`, `correct` bool (n,) says which images
    of val it gets right, where that is known. `transfer` is the share of R's
    adversarials that the net gets wrong among the `transfer_n` images that both classify correctly
    when clean. With several references, transfer and cosines are means over them, `transfer_n` the
    fewest, `transfer_worst` the highest transfer, and each one's are `transfer_R`, `transfer_R_n`,
    `transfer_R.2`, …
    """
    labels = space.splits.val.labels
    right = correct
    if right is None:
        right = attacks.predicted_classes(net, space.splits.val.images) == labels
    transfer: list[float] = []
    counts: list[int] = []
    for name in space.config.references:
        adversarials = space.adversarials(name, "val", flipped=False)
        fooled = attacks.predicted_classes(net, adversarials.images) != labels
        common = right & adversarials.correct
        # A net right on nothing that R is right on has no transferability: it counts as the worst.
        transfer.append(float(fooled[common].double().mean()) if bool(common.any()) else 1.0)
        counts.append(int(common.sum()))
    aligned = [evaluation.alignment(gradients, each) for each in space.reference_val_gradients]
    cosines = [each.cosine[~each.cosine.isnan()] for each in aligned]
    several: dict[str, float | int] = {}
    if len(transfer) > 1:
        several["transfer_worst"] = max(transfer)
        for name, share, count in zip(space.config.references, transfer, counts, strict=True):
            several |= {f"transfer_{name}": share, f"transfer_{name}_n": count}
    return {
        "accuracy": float(right.double().mean()),
        "transfer": fmean(transfer),
        "transfer_n": min(counts),
        **several,
        "cos": fmean([float(cosine.mean()) if len(cosine) else 0.0 for cosine in cosines]),
        "cos_abs": fmean(
            [float(cosine.abs().mean()) if len(cosine) else 0.0 for cosine in cosines]
        ),
        "grad_norm": float(aligned[0].norm.mean()),
    }


def _own(net: models.Classifier, space: Workspace) -> dict[str, float]:
    """Return the user's own objectives; raises `DivergedError` for one that is not finite."""
    values = {
        name: float(measure(net, space.splits.val))
        for name, measure in space.config.own_measures().items()
    }
    for name, value in values.items():
        if not math.isfinite(value):
            raise DivergedError(f"objective '{name}' is {value}")
    return values


@dataclass(frozen=True)
class PrepareReference:
    """Compute the references' gradients on all views and adversarials on val, for later jobs."""

    run_path: str
    scratch: str | None = None

    def run(self) -> dict[str, object]:
        """Return the gradients without a direction, R's accuracy on val, and the share of the
        images it gets right on which its own adversarials fool it.

        Under "others" there is the same of further references, by name.
        """
        space = open_workspace(self.run_path, self.scratch)
        first, *others = (
            _prepared(name, gradients, space)
            for name, gradients in zip(
                space.config.references, space.reference_gradients, strict=True
            )
        )
        if not others:
            return first
        return {**first, "others": dict(zip(space.config.references[1:], others, strict=True))}


def _prepared(
    name: str, gradients: training.ReferenceGradients, space: Workspace
) -> dict[str, object]:
    adversarials = space.adversarials(name, "val", flipped=False)
    return {
        "gradients": gradients.norms.numel(),
        "masked": gradients.masked,
        "accuracy": float(adversarials.correct.double().mean()),
        "fooled": float(adversarials.fooled[adversarials.correct].double().mean()),
    }


@dataclass(frozen=True)
class EvaluateNet:
    """Evaluate the net `name` on test, on adversarials of references, surrogates and its own."""

    run_path: str
    name: str
    scratch: str | None = None

    def run(self) -> dict[str, object]:
        """Return scalars; the results image by image go to `evaluation/`."""
        space = open_workspace(self.run_path, self.scratch)
        return evaluate_on_test(self.name, space)
