"""From the settings of an evaluation to the robust accuracy of every net at every radius."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.attack.config import AttackConfig
from experiments.attack_specs import check_radius, check_sample
from experiments.judged import load_judged_images, name_nets, resolve_judged
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
    images: ImageSet
    train: ImageSet
    nets: Mapping[str, Classifier]


def prepare(settings: Mapping[str, Any]) -> Prepared:
    """Load images and nets; raises the house's errors for whatever does not fit."""
    config = config_from(AttackConfig, settings)
    device = resolve_device(settings["device"])
    named = name_nets(settings["model"])
    splits = load_judged_images(settings)
    check_radius(config.radii[-1], config.norm, splits.test)
    check_sample("probe", config.probe, splits.test)
    nets = resolve_judged(named, splits, settings["weights"], device)
    return Prepared(config, splits.test, splits.train, nets)


def attack_all(prepared: Prepared, say: Say) -> dict[str, Any]:
    """Attack every net; returns the summary. `say` is told what is being done, line by line."""
    began = time.perf_counter()
    judged = {name: _judge(name, net, prepared, say) for name, net in prepared.nets.items()}
    return {
        "n": len(prepared.images),
        "norm": prepared.config.norm,
        "eps": list(prepared.config.radii),
        "attacks": list(prepared.config.attack),
        "restarts": prepared.config.restarts,
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
            spec: attack.trained_on(prepared.train)
            for spec, attack in zip(config.attack, first, strict=True)
        },
        eps=config.radii,
        restarts=config.restarts,
        probe=config.probe,
        seed=config.seed,
        on_attack=lambda attack: say(f"{name}: {attack.name} at {eps_text(attack.eps)}"),
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
        **({"notes": list(result.notes)} if result.notes else {}),
    }


def _accuracy(rate: Rate) -> dict[str, Any]:
    return {"robust_acc": rate.rate, "n": rate.n, "low": rate.low, "high": rate.high}
