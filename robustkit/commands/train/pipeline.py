"""From the settings of a training to a model file, a history and a summary."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from robustkit import attacks, data, evaluation, models, stats, training
from robustkit.cli.models import fit_to_images, resolve_net
from robustkit.cli.parser import config_from
from robustkit.commands.train.result import RobustRate, Summary
from robustkit.compute import resolve_device
from robustkit.data.sources.base import geometry_of, parse_spec
from robustkit.errors import ConfigError
from robustkit.evaluation import diagnosis
from robustkit.jobs import DivergedError
from robustkit.models.resolve import is_untrained, parse
from robustkit.runs import RunFolder
from robustkit.stats import KnownRate
from robustkit.training import EpochRecord, Examples, TrainConfig

# More steps than in training: robustness against the attack trained on proves little.
ROBUST_STEPS = 20
PROBE = 200  # test images on which the attack is diagnosed
Watcher = Callable[[EpochRecord], None]


@dataclass(frozen=True)
class Prepared:
    """Everything a training needs, loaded and checked."""

    config: TrainConfig
    splits: data.Splits
    model: models.Classifier
    examples: Examples
    device: torch.device


def check(settings: Mapping[str, Any]) -> TrainConfig:
    """Return the training's configuration; raises `ConfigError` for contradicting options."""
    config = config_from(TrainConfig, settings)
    against = settings["penalty_against"]
    if config.lam > 0 and not against:
        raise ConfigError(
            "--lam weighs a penalty against a model: name it, --penalty-against MODEL"
        )
    if against and config.lam == 0:
        raise ConfigError(
            "--penalty-against does nothing at --lam 0: give a weight, such as --lam 1"
        )
    for name, option in (
        ("penalty_every", config.penalty_every > 1),
        ("lam_ramp", config.lam_ramp),
    ):
        if option and config.lam == 0:
            raise ConfigError(
                f"--{name.replace('_', '-')} does nothing without a penalty: --penalty-against "
                "MODEL --lam 1"
            )
    if against and config.augment != "none" and config.views == 0:
        raise ConfigError("--penalty-against needs the same views in every epoch: give --views N")
    for spec in against:
        if is_untrained(spec):
            raise ConfigError(f"--penalty-against {spec}: untrained; give a trained model's file")
    return config


def prepare(settings: Mapping[str, Any]) -> Prepared:
    """Load data, model and references; raises `RobustkitError` for whatever does not fit."""
    config = check(settings)
    device = resolve_device(settings["device"])
    splits = data.load(
        settings["data"],
        root=settings["root"],
        download=settings["download"],
        train_size=settings["train_size"],
    )
    _ = splits.train, splits.val, splits.test  # raises where one is missing
    named = {"download": settings["download"], "trust": settings["trust"]}
    model = resolve_net(
        settings["model"], splits, seed=config.seed, weights=settings["weights"], **named
    )
    _note_geometry(model, settings["data"])
    examples = training.make_examples(splits.train, config)
    references = tuple(
        training.compute_reference(
            _load_against(spec, splits, config.seed, **named).to(device),
            examples.views,
            examples.labels,
            config.grad_loss,
        )
        for spec in settings["penalty_against"]
    )
    return Prepared(config, splits, model, replace(examples, references=references), device)


def train(prepared: Prepared, folder: RunFolder, watchers: Sequence[Watcher]) -> Summary:
    """Train, write `model.safetensors` and a checkpoint per epoch, and return the summary.

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


def check_tensorboard() -> None:
    """Raise `ConfigError` with the command that installs it where TensorBoard is missing."""
    try:
        importlib.import_module("tensorboard")
    except ImportError:
        raise ConfigError(
            "TensorBoard is not installed: pip install 'robustkit[tensorboard]'"
        ) from None


@contextmanager
def tensorboard(folder: Path) -> Iterator[Watcher]:
    """Give a watcher that writes every value of an epoch to event files in `folder`."""
    writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(folder)

    def watch(epoch: EpochRecord) -> None:
        for name, value in vars(epoch).items():
            if name != "epoch" and value is not None:
                writer.add_scalar(name, value, epoch.epoch)

    try:
        yield watch
    finally:
        writer.close()


def _load_against(spec: str, splits: data.Splits, seed: int, **named: Any) -> models.Classifier:
    """Return a trained model to be misaligned with, in the pixel space of the images.

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
    return fit_to_images(net, splits.train, spec, splits.name)


def _note_geometry(model: models.Classifier, source: str) -> None:
    """Note on the card how the images the model is trained on were made from files."""
    geometry = geometry_of(parse_spec(source))
    preprocessing = model.card.preprocessing
    if geometry is not None and preprocessing.geometry is None:
        preprocessing = replace(preprocessing, geometry=geometry)
        model.card = replace(model.card, preprocessing=preprocessing)


def _summary(prepared: Prepared, settings: Mapping[str, Any], history: training.History) -> Summary:
    test = prepared.splits.test
    seen = training.evaluate(prepared.model, test)
    price = models.cost(prepared.model, test.shape)
    return Summary(
        data=settings["data"],
        model=settings["model"],
        clean_acc=seen.accuracy,
        clean=KnownRate.from_rate(stats.wilson(seen.accuracy, seen.n)),
        robust=_robust(prepared),
        val_acc=history.best.val_acc,
        epochs=len(history.records),
        best_epoch=history.best.epoch,
        params=price.params,
        macs=price.macs,
        seconds=sum(record.seconds for record in history.records),
    )


def _robust(prepared: Prepared) -> RobustRate | None:
    """Return the white-box robust accuracy at the radius trained for, if there is one."""
    config, test = prepared.config, prepared.splits.test
    if config.adversarial is None:
        return None
    attack = attacks.PGD(eps=config.eps, steps=ROBUST_STEPS)
    result = evaluation.worst_case(prepared.model, test, [attack], seed=config.seed)
    rate = KnownRate.from_rate(stats.wilson(float(result.survivors.double().mean()), len(test)))
    probed = test
    if len(test) > PROBE >= test.num_classes:
        probed = test.subset(data.stratified_sample(test.labels, PROBE, config.seed))
    doubts = dict.fromkeys(
        [
            *diagnosis.read(result),
            *evaluation.diagnose(prepared.model, probed, eps=config.eps, seed=config.seed),
        ]
    )
    return RobustRate(
        value=rate.value,
        n=rate.n,
        low=rate.low,
        high=rate.high,
        attack=attack.to_dict(),
        diagnostics=list(doubts),
    )
