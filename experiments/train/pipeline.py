"""From the settings of a training to a model file, a history and a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from experiments.nets import fitted, resolve_net
from experiments.train.config import check
from experiments.train.tracking import Watcher
from robustkit import attacks, data, models, training
from robustkit.compute import DivergedError, resolve_device
from robustkit.data.specs import geometry_of, parse_spec
from robustkit.errors import ConfigError
from robustkit.models.specs import parse
from robustkit.runs import RunFolder
from robustkit.training import EpochRecord, Examples, TrainConfig

# More steps than one trains with: robustness against the very attack trained on proves little.
ROBUST_STEPS = 20
PROBE = 200  # test images on which it is checked that the figure is evidence


@dataclass(frozen=True)
class Prepared:
    """Everything a training needs, loaded and checked: whatever was misspelt has been said."""

    config: TrainConfig
    splits: data.Splits
    model: models.Classifier
    examples: Examples
    device: torch.device


def prepare(settings: Mapping[str, Any]) -> Prepared:
    """Load data, model and references; raises the house's errors for whatever does not fit."""
    config = check(settings)
    device = resolve_device(settings["device"])
    splits = data.load(
        settings["data"],
        root=settings["root"],
        download=settings["download"],
        train_size=settings["train_size"],
    )
    _ = splits.train, splits.val, splits.test  # whichever is missing is said now
    named = {"download": settings["download"], "trust": settings["trust"]}
    model = resolve_net(
        settings["model"], splits, seed=config.seed, weights=settings["weights"], **named
    )
    _advise(model, settings["data"])
    examples = training.make_examples(splits.train, config)
    references = tuple(
        training.compute_reference(
            against(spec, splits, config.seed, **named).to(device),
            examples.views,
            examples.labels,
            config.grad_loss,
        )
        for spec in settings["penalty_against"]
    )
    return Prepared(config, splits, model, replace(examples, references=references), device)


def _advise(model: models.Classifier, source: str) -> None:
    """Note on the card how pictures were made that the model is trained on, where files were."""
    geometry = geometry_of(parse_spec(source))
    own = model.card.preprocessing
    if geometry is not None and own.geometry is None:
        model.card = replace(model.card, preprocessing=replace(own, geometry=geometry))


def against(spec: str, splits: data.Splits, seed: int, **named: Any) -> models.Classifier:
    """A trained model to be misaligned with, in the pixel space of the images.

    Raises `ModelError` where its classes are not the data's.
    """
    parsed = parse(spec)
    shape = splits.train.shape
    if parsed.scheme == "zoo":
        net = resolve_net(spec, splits, seed=seed, **named)
    elif parsed.scheme == "file":
        net = models.load(spec, trust=named["trust"])
    else:
        net = models.load(spec, classes=splits.train.classes, input_shape=shape, **named)
    return fitted(net, splits.train, spec, splits.name)


def train(prepared: Prepared, folder: RunFolder, watchers: Sequence[Watcher]) -> dict[str, Any]:
    """Train, write `model.safetensors` and a checkpoint per epoch; returns the summary.

    Every epoch goes to `metrics.jsonl`, then to each of the `watchers`. Raises `ConfigError` when
    the training diverges.
    """

    def record(epoch: EpochRecord) -> None:
        folder.append_metrics(vars(epoch))
        for watch in watchers:
            watch(epoch)

    history_folder = folder.file("history")
    history_folder.mkdir()
    try:
        history = training.fit_examples(
            prepared.model,
            prepared.examples,
            prepared.splits.val,
            prepared.config,
            device=prepared.device,
            on_epoch=record,
            checkpoint_dir=history_folder,
        )
    except DivergedError as error:
        raise ConfigError(f"{error}; try a lower --lr") from None
    models.save(prepared.model, folder.file("model.safetensors"), run=folder.config)
    return _summary(prepared, folder.config, history)


def _summary(
    prepared: Prepared, settings: Mapping[str, Any], history: training.History
) -> dict[str, Any]:
    test = prepared.splits.test
    seen = training.evaluate(prepared.model, test)
    price = models.cost(prepared.model, test.shape)
    return {
        "data": settings["data"],
        "model": settings["model"],
        "clean_acc": seen.accuracy,
        "clean": attacks.wilson(seen.accuracy, seen.n).to_dict(),
        "robust": _robust(prepared),
        "val_acc": history.best.val_acc,
        "epochs": len(history.records),
        "best_epoch": history.best.epoch,
        "params": price.params,
        "macs": price.macs,
        "seconds": sum(record.seconds for record in history.records),
    }


def _robust(prepared: Prepared) -> dict[str, Any] | None:
    """White-box robust accuracy at the radius trained for; None without adversarial training."""
    config, test = prepared.config, prepared.splits.test
    if config.adversarial is None:
        return None
    attack = attacks.PGD(eps=config.eps, steps=ROBUST_STEPS)
    found = attacks.worst_case(prepared.model, test, [attack], seed=config.seed)
    rate = attacks.wilson(float(found.survivors.double().mean()), len(test))
    some = test
    if len(test) > PROBE >= test.num_classes:
        some = test.subset(data.stratified_sample(test.labels, PROBE, config.seed))
    doubts = dict.fromkeys(
        [
            *attacks.diagnosis.read(found),
            *attacks.diagnose(prepared.model, some, eps=config.eps, seed=config.seed),
        ]
    )
    return {
        **rate.to_dict(),
        "attack": attack.to_dict(),
        "diagnostics": [each.to_dict() for each in doubts],
    }
