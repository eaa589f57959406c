"""From the settings of an evaluation to the robust accuracy of every net at every radius."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from experiments.attack.config import AttackConfig
from experiments.attack_specs import check_radius, trained_on
from experiments.judged import (
    Judged,
    batch_size_of,
    check_clean,
    load_judged,
    name_nets,
    training_images,
)
from experiments.options import config_from
from experiments.pages import eps_text
from robustkit import evaluation
from robustkit.attacks import Rate
from robustkit.compute import resolve_device
from robustkit.data import ImageSet
from robustkit.models import Classifier

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
        "clean_acc": result.clean.rate,
        "clean": result.clean.to_dict(),
        **{key: curve[-1][key] for key in ("robust_acc", "n", "low", "high", "per_attack")},
        "curve": curve,
        "diagnostics": [each.to_dict() for each in result.diagnosis],
        "notes": list(result.notes),
    }


def _accuracy(rate: Rate) -> dict[str, Any]:
    return {"robust_acc": rate.rate, "n": rate.n, "low": rate.low, "high": rate.high}
