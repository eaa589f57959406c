"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit import models
from robustkit.attacks import Attack, make, predict
from robustkit.compute import isolated_rng, torch_generator
from robustkit.data import ImageSet, Splits, as_image_set, batches
from robustkit.errors import ConfigError, DataError
from robustkit.jobs import DivergedError
from robustkit.training.config import TrainConfig
from robustkit.training.examples import Examples, make_examples
from robustkit.training.references import ReferenceGradients
from robustkit.training.step import in_layout, step_loss


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch, counted from 1.

    Accuracies are fractions in [0,1]; losses are cross-entropies in nats; `penalty` is the mean
    misalignment in the steps that had a penalty (None where none had), `masked` counts the rows it
    had to leave out; `val_…` are None where nothing was watched; `lr` is the last step's.
    """

    epoch: int
    train_loss: float
    train_acc: float
    val_loss: float | None
    val_acc: float | None
    penalty: float | None
    masked: int
    lr: float
    seconds: float


@dataclass(frozen=True)
class History:
    """Every epoch's record, in order; `best` is the one whose weights the model was left with.

    `correct` bool (n,) says which of the watched images the model gets right as it was left; None
    where nothing was watched, and where its weights or their layout changed after the last epoch.
    """

    records: tuple[EpochRecord, ...]
    best: EpochRecord
    correct: Tensor | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Evaluation:
    """`accuracy` in [0,1], mean cross-entropy `loss` in nats, `n` images, `correct` bool (n,)."""

    accuracy: float
    loss: float
    n: int
    correct: Tensor


def evaluate(model: nn.Module, images: Any) -> Evaluation:
    """Return accuracy and loss of `model` on `images`, whatever `data.as_image_set` takes.

    The state of the model is preserved.
    """
    images = as_image_set(images)
    logits = predict(model, images.images)
    correct = logits.argmax(dim=1) == images.labels
    loss = F.cross_entropy(logits.double(), images.labels).item()
    return Evaluation(float(correct.double().mean()), loss, len(images), correct)


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return SGD or Adam over all parameters, with (for Adam decoupled) weight decay on all."""
    if config.optimizer == "adam":
        return torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
    )


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Return the rate of step `step` (from 0): linear warm-up, then the schedule over the rest."""
    total = config.epochs * steps_per_epoch
    warmup = min(round(config.warmup * steps_per_epoch), total // 2)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    done = (step - warmup) / max(total - warmup, 1)
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * done))
    if config.schedule == "step":
        return config.lr * 0.1 ** ((done >= 0.5) + (done >= 0.75))
    return config.lr


def penalty_weight(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Return the penalty's weight in step `step` (from 0), 0 where the step goes without it.

    λ grows linearly from 0 over `lam_ramp` epochs; of every k = `penalty_every` steps the first
    has k times its λ (lazy regularisation, Karras et al. 2020, section 3.1).
    """
    if step % config.penalty_every:
        return 0.0
    ramp = config.lam_ramp * steps_per_epoch
    share = min(1.0, step / ramp) if ramp else 1.0
    return config.lam * share * config.penalty_every


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the rate `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate


OnEpoch = Callable[[EpochRecord], None]
StopAfter = Callable[[EpochRecord], bool]


def fit(
    model: nn.Module,
    splits: Splits | tuple[Any, Any],
    config: TrainConfig,
    *,
    references: Sequence[ReferenceGradients] = (),
    device: torch.device | None = None,
    on_epoch: OnEpoch | None = None,
    checkpoint_dir: Path | None = None,
) -> History:
    """Train `model` in place on `splits.train`, watching `splits.val`; returns what happened.

    `model` is any module from images in [0,1] to logits; `splits` may also be a pair of sets to
    train on and to watch, each whatever `data.as_image_set` takes. `references` are gradients on
    the very views that `config` stores. Raises `DivergedError` as soon as an epoch ends with a loss
    or with weights that are not finite.
    """
    train, val = _sets(splits)
    examples = make_examples(train, config, references)
    return fit_examples(
        model,
        examples,
        val,
        config,
        device=device,
        on_epoch=on_epoch,
        checkpoint_dir=checkpoint_dir,
    )


def fit_examples(
    model: nn.Module,
    examples: Examples,
    val: ImageSet | None,
    config: TrainConfig,
    *,
    device: torch.device | None = None,
    on_epoch: OnEpoch | None = None,
    stop_after: StopAfter | None = None,
    checkpoint_dir: Path | None = None,
) -> History:
    """As `fit`, on `examples` that several trainings may share; without `val` nothing is watched.

    The model ends in evaluation mode, with the last epoch's weights or, with `patience`, the best
    epoch's. After an epoch of which `stop_after` is true the training ends; up to there it is the
    same without. `checkpoint_dir` gets `epoch_0001.safetensors` and so on. Global random states
    stay as they were. Raises `ConfigError` for `patience` without `val`, `DivergedError` as `fit`
    does.
    """
    if val is None and config.patience is not None:
        raise ConfigError("patience needs validation images to watch")
    if checkpoint_dir is not None and not isinstance(model, models.Classifier):
        raise ConfigError(
            "checkpoint_dir needs a model that can be saved: wrap the module, models.wrap(module)"
        )
    home = device or torch.device("cpu")
    model.to(home)
    with in_layout(model, config.channels_last):
        return _fitted(model, examples.to(home), val, config, on_epoch, stop_after, checkpoint_dir)


def _fitted(
    model: nn.Module,
    examples: Examples,
    val: ImageSet | None,
    config: TrainConfig,
    on_epoch: OnEpoch | None,
    stop_after: StopAfter | None,
    checkpoint_dir: Path | None,
) -> History:
    """As `fit_examples`, with everything in its place."""
    training = _Training(model, examples, config)
    records: list[EpochRecord] = []
    best: EpochRecord | None = None
    best_weights: dict[str, Tensor] = {}
    with isolated_rng(config.seed):
        for epoch in range(1, config.epochs + 1):
            record = training.epoch(epoch, val)
            records.append(record)
            if checkpoint_dir is not None:
                assert isinstance(model, models.Classifier)  # see `fit_examples`
                models.save(model, checkpoint_dir / f"epoch_{epoch:04d}.safetensors", epoch=epoch)
            if on_epoch is not None:
                on_epoch(record)
            if config.patience is None or best is None or _better(record, best):
                best = record
                if config.patience is not None:
                    best_weights = {k: v.clone() for k, v in model.state_dict().items()}
            elif epoch - best.epoch >= config.patience:
                break
            if stop_after is not None and stop_after(record):
                break
    if best_weights:
        model.load_state_dict(best_weights)
    model.eval()
    assert best is not None
    # Another layout rounds differently, and the model leaves it here.
    as_left = not best_weights and not config.channels_last
    return History(tuple(records), best, training.correct if as_left else None)


def _sets(splits: Splits | tuple[Any, Any]) -> tuple[ImageSet, ImageSet]:
    """Return what to train on and what to watch."""
    if isinstance(splits, Splits):
        return splits.train, splits.val
    if not isinstance(splits, tuple) or len(splits) != 2 or isinstance(splits[0], torch.Tensor):
        raise DataError("training needs Splits, or a pair (set to train on, set to watch)")
    train, val = as_image_set(splits[0]), as_image_set(splits[1])
    if train.classes != val.classes and _named(train) and _named(val):
        raise DataError(
            f"the set to watch has the classes {', '.join(val.classes[:4])}, the set to train on "
            f"{', '.join(train.classes[:4])}: they must be the same, in the same order"
        )
    return train, as_image_set(val, classes=train.classes)


def _named(images: ImageSet) -> bool:
    return not all(name.isdecimal() for name in images.classes)


def _better(record: EpochRecord, best: EpochRecord) -> bool:
    return (record.val_acc or 0.0) > (best.val_acc or 0.0)


@dataclass
class _Totals:
    """Sums over the images of an epoch."""

    images: int = 0
    loss: float = 0.0
    correct: int = 0
    penalty: float = 0.0
    penalised: int = 0
    masked: int = 0


class _Training:
    """The state that goes from step to step: optimiser, step count, random generator."""

    def __init__(self, model: nn.Module, examples: Examples, config: TrainConfig) -> None:
        self.model, self.examples, self.config = model, examples, config
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = make_optimizer(model, config)
        self.generator = torch_generator("training", config.seed)
        self.attack = _adversary(config)
        self.batch_size = min(config.batch_size, len(examples))
        self.steps_per_epoch = len(examples) // self.batch_size
        self.step = 0
        self.correct: Tensor | None = None  # of the last evaluation

    def epoch(self, number: int, val: ImageSet | None) -> EpochRecord:
        """Train one epoch and evaluate; raises `DivergedError` on a loss that is not finite."""
        start = time.perf_counter()
        self.model.train()
        totals = _Totals()
        view = self.examples.draw_views(self.generator)
        # The last, smaller batch is left out: batch norm cannot work on a single image.
        for indices in batches(
            len(self.examples), self.batch_size, generator=self.generator, drop_last=True
        ):
            self._step(indices, view[indices], totals)
        seen = None if val is None else evaluate(self.model, val)
        self.correct = None if seen is None else seen.correct
        loss = totals.loss / totals.images
        if not (math.isfinite(loss) and (seen is None or math.isfinite(seen.loss))):
            raise DivergedError(f"training diverged in epoch {number}: the loss is not finite")
        # The last step's damage shows in no training loss, and without `val` nowhere else either.
        if not all(bool(weights.isfinite().all()) for weights in self.model.state_dict().values()):
            raise DivergedError(f"training diverged in epoch {number}: weights are not finite")
        return EpochRecord(
            epoch=number,
            train_loss=loss,
            train_acc=totals.correct / totals.images,
            val_loss=None if seen is None else seen.loss,
            val_acc=None if seen is None else seen.accuracy,
            penalty=totals.penalty / max(totals.penalised, 1) if totals.penalised else None,
            masked=totals.masked,
            lr=float(self.optimizer.param_groups[0]["lr"]),
            seconds=time.perf_counter() - start,
        )

    def _step(self, indices: Tensor, view: Tensor, totals: _Totals) -> None:
        rate = learning_rate(self.config, self.step, self.steps_per_epoch)
        set_learning_rate(self.optimizer, rate)
        lam = penalty_weight(self.config, self.step, self.steps_per_epoch)
        batch = self.examples.batch(indices, view, self.generator, penalised=lam > 0)
        losses = step_loss(self.model, batch, self.config, self.attack, self.generator, lam=lam)
        self.optimizer.zero_grad(set_to_none=True)
        # Of the parameters only: the images' own second derivatives are nobody's concern.
        torch.autograd.backward(losses.total, inputs=self.parameters)
        self.optimizer.step()
        self.step += 1
        totals.images += len(indices)
        totals.loss += float(losses.cross_entropy.detach()) * len(indices)
        totals.correct += int((losses.logits.detach().argmax(dim=1) == batch.labels).sum())
        if losses.misalignment is not None:
            measured = losses.misalignment
            totals.penalty += float(measured.penalty.detach()) * (measured.rows - measured.masked)
            totals.penalised += measured.rows - measured.masked
            totals.masked += measured.masked


def _adversary(config: TrainConfig) -> Attack | None:
    if config.adversarial is None:
        return None
    steps = {} if config.adversarial == "fgsm" else {"steps": config.attack_steps}
    return make(config.adversarial, eps=config.eps, **steps)
