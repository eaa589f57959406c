"""Evaluate the robust accuracy of every model at every radius, from settings to a summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from robustkit import evaluation
from robustkit.attacks import Attack
from robustkit.attacks.registry import check_radius, make_attack, trained_on
from robustkit.cli.inputs import (
    CleanAccuracy,
    LoadedModels,
    load_models,
    measure_clean_accuracy,
    training_images,
)
from robustkit.cli.models import batch_size_of, name_models
from robustkit.cli.parser import config_from
from robustkit.commands.attack.result import ModelResult, Point, RobustRate, Summary
from robustkit.compute import resolve_device
from robustkit.compute.seeds import check_seed
from robustkit.data import ImageSet
from robustkit.errors import ConfigError
from robustkit.jobs import Log
from robustkit.models import Classifier
from robustkit.report import eps_text
from robustkit.runs.summaries import Total
from robustkit.settings import setting


@dataclass(frozen=True, kw_only=True)
class AttackConfig:
    """Which attacks, at which radii, how often."""

    attack: tuple[str, ...] = setting(
        ("pgd",), "attacks, cheap to expensive: fgsm, pgd?steps=40, torchattacks:APGD?loss=dlr, …"
    )
    eps: tuple[float, ...] = setting(
        (8 / 255,),
        "radii in units of images in [0,1], such as 8/255, or several: 2/255,4/255,8/255",
    )
    norm: str = setting("linf", "of the ball: linf, l2, l1 or l0")
    restarts: int = setting(1, "runs of every attack, each on the survivors of the last")
    bf16: bool = setting(False, "gradients of our own attacks in bfloat16; scores stay in float32")
    probe: int = setting(
        200, "images on which attacks are checked for gradient masking and the like; 0: none"
    )
    seed: int = setting(0, "of random starts and of the choice of images")

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name, least in (("restarts", 1), ("probe", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not self.attack or not self.eps:
            raise ConfigError("at least one attack and one eps are needed")
        if len(set(self.attack)) < len(self.attack):
            raise ConfigError("the same attack twice: use --restarts to repeat it")
        self.attacks()

    @property
    def radii(self) -> tuple[float, ...]:
        """The radii in ascending order, without repetitions."""
        return tuple(sorted(set(self.eps)))

    def attacks(self) -> dict[float, list[Attack]]:
        """Return the attacks in order, at every radius."""
        return {eps: [self._make(spec, eps) for spec in self.attack] for eps in self.radii}

    def _make(self, spec: str, eps: float) -> Attack:
        return make_attack(spec, eps=eps, norm=self.norm, bf16=self.bf16)


@dataclass(frozen=True)
class Prepared:
    """Everything an evaluation needs, loaded and checked."""

    config: AttackConfig
    models: LoadedModels
    device: torch.device
    batch_size: int | None
    train: Callable[[], ImageSet]

    @property
    def images(self) -> ImageSet:
        """The images on which all models are attacked."""
        return self.models.images


def prepare(settings: Mapping[str, Any]) -> Prepared:
    """Load and check images and models; raises `RobustkitError` for whatever does not fit."""
    config = config_from(AttackConfig, settings)
    device = resolve_device(settings["device"])
    named = name_models(settings["model"])
    batch_size = batch_size_of(settings)
    models = load_models(settings, named)
    check_radius(config.radii[-1], config.norm, models.images)
    train = partial(training_images, settings, models)
    for listed in config.attacks().values():
        for attack in listed:
            trained_on(attack, train)  # raises where an attack that trains has no images for it
    return Prepared(config, models, device, batch_size, train)


def attack_all(prepared: Prepared, log: Log) -> Summary:
    """Attack every model and return the summary; `log` gets a line for every step."""
    began = time.perf_counter()
    config, models = prepared.config, prepared.models
    checked = measure_clean_accuracy(models, prepared.device, prepared.batch_size, log)
    return Summary(
        n=len(prepared.images),
        norm=config.norm,
        eps=list(config.radii),
        attacks=list(config.attack),
        restarts=config.restarts,
        pixel_space=models.pixel_space(),
        models={
            name: _attack(name, model, checked[name], prepared, log)
            for name, model in models.nets.items()
        },
        seconds=Total(total=time.perf_counter() - began),
    )


def _attack(
    name: str, model: Classifier, checked: CleanAccuracy, prepared: Prepared, log: Log
) -> ModelResult:
    """Return one model's results at every radius, and what casts doubt on them."""
    config = prepared.config
    attacks = zip(config.attack, config.attacks()[config.radii[0]], strict=True)
    result = evaluation.robust_accuracy(
        model,
        prepared.images,
        {spec: trained_on(attack, prepared.train) for spec, attack in attacks},
        eps=config.radii,
        restarts=config.restarts,
        probe=config.probe,
        seed=config.seed,
        batch_size=prepared.batch_size,
        device=prepared.device,
        on_attack=lambda attack: log(f"{name}: {attack.name} at {eps_text(attack.eps)}"),
        on_note=lambda note: log(f"{name}: {note}"),
    )
    curve = _curve(result)
    last = curve[-1]
    return ModelResult(
        value=last.value,
        n=last.n,
        low=last.low,
        high=last.high,
        per_attack=last.per_attack,
        clean_acc=checked.clean.value,
        clean=checked.clean,
        curve=curve,
        diagnostics=list(result.diagnosis),
        notes=list(result.notes),
        published=checked.published,
        warnings=checked.warnings,
    )


def _curve(result: evaluation.RobustAccuracy) -> list[Point]:
    """Return the robust accuracy at every radius, ascending."""
    return [
        Point.of(
            rate,
            eps=eps,
            per_attack={
                spec: RobustRate.of(after) for spec, after in result.per_attack[eps].items()
            },
            seconds=result.seconds[eps],
        )
        for eps, rate in result.by_eps.items()
    ]
