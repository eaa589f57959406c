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
from experiments.judged import Judged, batch_size_of, load_judged, name_nets, training_images
from experiments.options import config_from
from experiments.pages import eps_text
from robustkit import attacks
from robustkit.attacks import Attack, Finding, Robustness, diagnosis
from robustkit.compute import derive_seed, resolve_device
from robustkit.data import ImageSet, stratified_sample
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
    """One net's figures at every radius, and what casts doubt on them."""
    config, images = prepared.config, prepared.images
    curve: list[dict[str, Any]] = []
    findings: list[Finding] = []
    standing = None
    correct = None
    for eps, listed in config.attacks().items():
        began = time.perf_counter()

        def tell(attack: Attack, eps: float = eps) -> None:
            say(f"{name}: {attack.name} at {eps_text(eps)}")

        result = attacks.worst_case(
            net,
            images,
            [attack.trained_on(prepared.train) for attack in listed],
            restarts=config.restarts,
            seed=derive_seed(config.seed, "attack"),
            start=standing,
            on_attack=tell,
        )
        standing, correct = result.survivors, result.correct
        curve.append(_point(eps, config, result, time.perf_counter() - began))
        findings += diagnosis.read(result)
    assert correct is not None  # a config has at least one radius
    accuracies = [point["robust_acc"] for point in curve]
    findings += diagnosis.read_curve(config.radii, accuracies, config.norm)
    findings += _probe(net, prepared)
    return {
        "clean_acc": float(correct.double().mean()),
        "clean": attacks.wilson(float(correct.double().mean()), len(images)).to_dict(),
        **{key: curve[-1][key] for key in ("robust_acc", "n", "low", "high", "per_attack")},
        "curve": curve,
        "diagnostics": [each.to_dict() for each in _once(findings)],
    }


def _point(eps: float, config: AttackConfig, result: Robustness, seconds: float) -> dict[str, Any]:
    """Robust accuracy at one radius: after each attack, those before it included, and after all."""
    per_attack = {
        spec: _accuracy(standing)
        for spec, standing in zip(config.attack, result.standing, strict=True)
    }
    return {"eps": eps, **_accuracy(result.survivors), "per_attack": per_attack, "seconds": seconds}


def _accuracy(standing: torch.Tensor) -> dict[str, Any]:
    rate = attacks.wilson(float(standing.double().mean()), len(standing))
    return {"robust_acc": rate.rate, "n": rate.n, "low": rate.low, "high": rate.high}


def _probe(net: Classifier, prepared: Prepared) -> tuple[Finding, ...]:
    """The checks at the largest radius, on a few images with classes kept even."""
    config, images = prepared.config, prepared.images
    if config.probe == 0:
        return ()
    if config.probe < len(images):
        chosen = stratified_sample(images.labels, config.probe, derive_seed(config.seed, "probe"))
        images = images.subset(chosen)
    return attacks.diagnose(net, images, eps=config.radii[-1], norm=config.norm, seed=config.seed)


def _once(findings: list[Finding]) -> list[Finding]:
    return list(dict.fromkeys(findings))
