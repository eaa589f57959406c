"""From the settings of an evaluation to the robust accuracy of every net at every radius."""

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
from robustkit.cli.models import (
    Judged,
    batch_size_of,
    check_clean,
    load_judged,
    name_nets,
    training_images,
)
from robustkit.cli.parser import config_from
from robustkit.compute import resolve_device
from robustkit.compute.seeds import check_seed
from robustkit.data import ImageSet
from robustkit.errors import ConfigError
from robustkit.models import Classifier
from robustkit.report.sections import eps_text
from robustkit.settings import setting
from robustkit.stats import Rate


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
    norm: str = setting("linf", "of the ball: linf or l2")
    restarts: int = setting(1, "runs of every attack, each on the survivors of the last")
    bf16: bool = setting(False, "gradients of our own attacks in bfloat16; scores stay in float32")
    probe: int = setting(
        200, "images on which the checks are made that a figure is evidence; 0: none"
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
        """The radii, each once, ascending."""
        return tuple(sorted(set(self.eps)))

    def attacks(self) -> dict[float, list[Attack]]:
        """The attacks in order, at every radius."""
        return {eps: [self._make(spec, eps) for spec in self.attack] for eps in self.radii}

    def _make(self, spec: str, eps: float) -> Attack:
        return make_attack(spec, eps=eps, norm=self.norm, bf16=self.bf16)


Say = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """Everything an evaluation needs, loaded and checked."""

    config: AttackConfig
    judged: Judged
    device: torch.device
    batch_size: int | None
    train: Callable[[], ImageSet]

    @property
    def images(self) -> ImageSet:
        """The images that all nets are attacked on."""
        return self.judged.images


def prepare(settings: Mapping[str, Any]) -> Prepared:
    """Load images and nets; raises the house's errors for whatever does not fit."""
    config = config_from(AttackConfig, settings)
    device = resolve_device(settings["device"])
    named = name_nets(settings["model"])
    batch_size = batch_size_of(settings)
    judged = load_judged(settings, named)
    check_radius(config.radii[-1], config.norm, judged.images)
    train = partial(training_images, settings, judged)
    for listed in config.attacks().values():
        for attack in listed:  # whoever trains finds out now whether there is anything to train on
            trained_on(attack, train)
    return Prepared(config, judged, device, batch_size, train)


def attack_all(prepared: Prepared, say: Say) -> dict[str, Any]:
    """Attack every net; returns the summary. `say` is told what is being done, line by line."""
    began = time.perf_counter()
    checked = check_clean(prepared.judged, prepared.device, prepared.batch_size, say)
    judged = {}
    for name, net in prepared.judged.nets.items():
        judged[name] = {**_judge(name, net, prepared, say), **checked[name]}
    return {
        "n": len(prepared.images),
        "norm": prepared.config.norm,
        "eps": list(prepared.config.radii),
        "attacks": list(prepared.config.attack),
        "restarts": prepared.config.restarts,
        "pixel_space": prepared.judged.described(),
        "models": judged,
        "seconds": {"total": time.perf_counter() - began},
    }


def _judge(name: str, net: Classifier, prepared: Prepared, say: Say) -> dict[str, Any]:
    """One net's results at every radius, and what casts doubt on them."""
    config = prepared.config
    first = config.attacks()[config.radii[0]]
    result = evaluation.robust_accuracy(
        net,
        prepared.images,
        {
            spec: trained_on(attack, prepared.train)
            for spec, attack in zip(config.attack, first, strict=True)
        },
        eps=config.radii,
        restarts=config.restarts,
        probe=config.probe,
        seed=config.seed,
        batch_size=prepared.batch_size,
        device=prepared.device,
        on_attack=lambda attack: say(f"{name}: {attack.name} at {eps_text(attack.eps)}"),
        on_note=lambda note: say(f"{name}: {note}"),
    )
    curve = [
        {
            "eps": eps,
            **_accuracy(rate),
            "per_attack": {
                spec: _accuracy(after) for spec, after in result.per_attack[eps].items()
            },
            "seconds": result.seconds[eps],
        }
        for eps, rate in result.by_eps.items()
    ]
    return {
        "clean_acc": result.clean.value,
        "clean": result.clean.to_json(),
        **{key: curve[-1][key] for key in ("robust_acc", "n", "low", "high", "per_attack")},
        "curve": curve,
        "diagnostics": [each.to_dict() for each in result.diagnosis],
        "notes": list(result.notes),
    }


def _accuracy(rate: Rate) -> dict[str, Any]:
    return {"robust_acc": rate.value, "n": rate.n, "low": rate.low, "high": rate.high}
