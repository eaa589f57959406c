"""Clean and robust accuracy of any model on any images, and reasons to doubt either."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.attacks import Attack, predict
from robustkit.attacks.predictions import check_predictions
from robustkit.compute import Note, derive_seed, on_device
from robustkit.compute.batching import warn
from robustkit.data import ImageSet, as_image_set, stratified_sample
from robustkit.errors import AttackError, ConfigError
from robustkit.evaluation import diagnosis
from robustkit.evaluation.diagnosis import diagnose
from robustkit.evaluation.robustness import Robustness, worst_case
from robustkit.reading import check_kind, parse_json
from robustkit.runs.summaries import Finding, Radius, Result, Seconds
from robustkit.stats import Count, Rate, Share, wilson

FORMAT = 1
# How far below a published accuracy a model is no longer the one that was published.
MARGIN = 0.10
_ROUNDING = 1e-9  # 0.82 - 0.10 is a hair more than 0.72


def accuracy(
    model: nn.Module,
    images: Any,
    *,
    batch_size: int | None = None,
    device: torch.device | None = None,
    on_note: Note = warn,
) -> Rate:
    """Return the share of `images` that `model` classifies correctly, with its Wilson interval.

    `images` is whatever `data.as_image_set` takes; the rest is as in `attacks.predict`. Raises
    `DataError` where a label has no logit, `ModelError` for a model that gives no logits or NaN.
    """
    images = as_image_set(images)
    logits = predict(model, images.images, batch_size=batch_size, device=device, on_note=on_note)
    check_predictions(logits, model, images)
    return rate_of(logits.argmax(dim=1) == images.labels)


def rate_of(correct: Tensor) -> Rate:
    """Return the share of true entries of bool (N,), with its Wilson interval."""
    return wilson(float(correct.double().mean()), len(correct))


def check_clean(
    accuracy: Rate, *, num_classes: int, published: float | None = None
) -> tuple[Finding, ...]:
    """Return findings about a clean accuracy at chance or far below the published one.

    At chance: the Wilson interval reaches down to 1/K, K classes. Far below: ten points or more.
    Both are rates in [0,1]; without a published one, None, the latter is not checked. The `line` of
    a finding is one sentence.

    >>> for finding in check_clean(wilson(0.16, 200), num_classes=1000, published=0.92):
    ...     print(finding.seen)
    clean accuracy 16.0 % [11.6 %, 21.7 %] (n = 200) is 76 points below the published 92.0 %
    """
    if accuracy.value is None or accuracy.low is None or accuracy.high is None:
        return ()
    shown = (
        f"clean accuracy {_percent(accuracy.value)} "
        f"[{_percent(accuracy.low)}, {_percent(accuracy.high)}] (n = {accuracy.n})"
    )
    findings = []
    if accuracy.low <= 1 / num_classes:
        findings.append(
            Finding(
                "clean accuracy at chance",
                f"{shown} is not above chance, {_percent(1 / num_classes)} of {num_classes} "
                "classes",
                "is it trained, and do its weights, classes and preprocessing belong together?",
            )
        )
    if published is not None and accuracy.value <= published - MARGIN + _ROUNDING:
        points = 100 * (published - accuracy.value)
        findings.append(
            Finding(
                "clean accuracy below the published one",
                f"{shown} is {points:.0f} points below the published {_percent(published)}",
                "is it fed as it was trained?",
            )
        )
    return tuple(findings)


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


class _Radius(Result, frozen=True, kw_only=True):
    """The JSON of one radius."""

    eps: Radius
    rate: Share | None
    n: Count
    low: Share | None
    high: Share | None
    per_attack: dict[str, Rate]
    seconds: Seconds


class _Written(Result, frozen=True, kw_only=True):
    """The JSON of a `RobustAccuracy`."""

    format: int = FORMAT
    norm: str
    clean: Rate
    by_eps: list[_Radius]
    diagnosis: list[Finding]
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class RobustAccuracy:
    """Robust accuracy of one model at radii ascending, in units of images in [0,1].

    `clean` is its clean accuracy; `by_eps[eps]` the share of all images that are classified
    correctly after every attack at this radius and at smaller ones; `per_attack[eps][name]` that
    after this attack and those before it. `diagnosis` holds the findings that cast doubt on these
    values, `seconds[eps]` the time each radius took, `notes` the batches that did not fit into
    memory.
    """

    norm: str
    clean: Rate
    by_eps: Mapping[float, Rate]
    per_attack: Mapping[float, Mapping[str, Rate]]
    diagnosis: tuple[Finding, ...]
    seconds: Mapping[float, float]
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the result as JSON text, which `from_json` reads."""
        radii = [
            _Radius(
                eps=eps,
                rate=rate.value,
                n=rate.n,
                low=rate.low,
                high=rate.high,
                per_attack=dict(self.per_attack[eps]),
                seconds=self.seconds[eps],
            )
            for eps, rate in self.by_eps.items()
        ]
        written = _Written(
            norm=self.norm,
            clean=self.clean,
            by_eps=radii,
            diagnosis=list(self.diagnosis),
            notes=list(self.notes),
        )
        return json.dumps(written.to_json(), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> RobustAccuracy:
        """Return the result that `to_json` wrote; raises `ConfigError` for anything else."""
        where = "not a result of robust_accuracy as JSON"
        plain = parse_json(text, where, error=ConfigError)
        version = plain.get("format") if isinstance(plain, dict) else None
        if isinstance(version, int) and version != FORMAT:
            raise ConfigError(f"robust accuracy of format {version}; this version reads {FORMAT}")
        read = check_kind(plain, _Written, where, error=ConfigError)
        return cls(
            norm=read.norm,
            clean=read.clean,
            by_eps={
                item.eps: Rate(value=item.rate, n=item.n, low=item.low, high=item.high)
                for item in read.by_eps
            },
            per_attack={item.eps: item.per_attack for item in read.by_eps},
            diagnosis=tuple(read.diagnosis),
            seconds={item.eps: item.seconds for item in read.by_eps},
            notes=tuple(read.notes),
        )


def robust_accuracy(
    model: nn.Module,
    images: Any,
    attacks: Attack | Sequence[Attack] | Mapping[str, Attack],
    *,
    eps: Sequence[float] | None = None,
    restarts: int = 1,
    probe: int = 200,
    seed: int = 0,
    batch_size: int | None = None,
    device: torch.device | None = None,
    on_attack: Callable[[Attack], None] = lambda attack: None,
    on_note: Note | None = None,
) -> RobustAccuracy:
    """Attack `model` on `images` with every attack in turn, at every radius, and diagnose itself.

    `model` is any module from images in [0,1] to logits; `images` whatever `data.as_image_set`
    takes. Attacks run in the given order, each at every radius of `eps`, or at its own where that
    is None; in a mapping they have names. Each attacks only the images that are still robust, and
    an image fooled within a smaller ball counts as fooled within a larger one.

    `probe` images, stratified by class where possible, serve to check at the largest radius that
    the values are evidence (`diagnose`); 0 leaves that out. `restarts`, `batch_size`, `device` and
    `on_attack` are as in `worst_case`; notes are kept in the result, too. Raises `ConfigError` for
    no attack or radius, `AttackError` for targeted attacks and attacks of several norms, and the
    errors of `worst_case`.
    """
    images = as_image_set(images)
    named = _named(attacks)
    norm = _norm_of(named)
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        if on_note is not None:
            on_note(text)

    results: dict[float, Robustness] = {}
    seconds: dict[float, float] = {}
    robust: Tensor | None = None
    by_radius = _by_radius(named, eps)
    with on_device(model, device):
        for radius, listed in by_radius.items():
            began = time.perf_counter()
            results[radius] = worst_case(
                model,
                images,
                list(listed.values()),
                restarts=restarts,
                seed=derive_seed(seed, "attack"),
                start=robust,
                on_attack=on_attack,
                batch_size=batch_size,
                on_note=note,
            )
            robust = results[radius].survivors
            seconds[radius] = time.perf_counter() - began
        by_eps = {radius: rate_of(result.survivors) for radius, result in results.items()}
        findings = [finding for result in results.values() for finding in diagnosis.read(result)]
        accuracies = [rate.value or 0.0 for rate in by_eps.values()]
        findings += diagnosis.read_curve(tuple(by_eps), accuracies, norm)
        if probe > 0:
            findings += diagnose(
                model,
                _sample(images, probe, seed),
                eps=max(by_eps),
                norm=norm,
                seed=seed,
                batch_size=batch_size,
                on_note=note,
            )
    return RobustAccuracy(
        norm=norm,
        clean=rate_of(results[max(results)].correct),
        by_eps=by_eps,
        per_attack={
            radius: dict(zip(by_radius[radius], map(rate_of, result.robust), strict=True))
            for radius, result in results.items()
        },
        diagnosis=tuple(dict.fromkeys(findings)),
        seconds=seconds,
        notes=tuple(notes),
    )


def _named(attacks: Attack | Sequence[Attack] | Mapping[str, Attack]) -> dict[str, Attack]:
    """Return the attacks by name; the second of one name is called "NAME 2"."""
    if isinstance(attacks, Attack):
        attacks = [attacks]
    if not attacks:
        raise ConfigError("robust accuracy: at least one attack is needed")
    listed = attacks.values() if isinstance(attacks, Mapping) else attacks
    for attack in listed:
        if not isinstance(attack, Attack):
            raise AttackError(
                f"robust accuracy: {attack!r} is no attack; attacks.make makes one of its name"
            )
    if isinstance(attacks, Mapping):
        return dict(attacks)
    named: dict[str, Attack] = {}
    for attack in attacks:
        name, number = attack.name, 2
        while name in named:
            name, number = f"{attack.name} {number}", number + 1
        named[name] = attack
    return named


def _norm_of(named: Mapping[str, Attack]) -> str:
    norms = sorted({attack.norm for attack in named.values()})
    if len(norms) > 1:
        raise AttackError(
            f"robust accuracy: attacks in {' and '.join(norms)}, whose radii cannot be compared: "
            "evaluate one norm at a time"
        )
    if targeted := [name for name, attack in named.items() if attack.targeted]:
        raise AttackError(
            f"robust accuracy: {targeted[0]} is targeted; it is of untargeted attacks"
        )
    return norms[0]


def _by_radius(
    named: Mapping[str, Attack], eps: Sequence[float] | None
) -> dict[float, dict[str, Attack]]:
    """Return the attacks by radius, ascending; without `eps`, each at its own."""
    if eps is None:
        radii = sorted({attack.eps for attack in named.values()})
        return {
            radius: {name: attack for name, attack in named.items() if attack.eps == radius}
            for radius in radii
        }
    if not eps:
        raise ConfigError("robust accuracy: at least one radius is needed in eps")
    return {
        radius: {name: replace(attack, eps=radius) for name, attack in named.items()}
        for radius in sorted(set(eps))
    }


def _sample(images: ImageSet, size: int, seed: int) -> ImageSet:
    """Return `size` of the images, stratified where every class can have one."""
    if size >= len(images):
        return images
    drawn = derive_seed(seed, "probe")
    if size >= len(images.labels.bincount().nonzero()):
        return images.subset(stratified_sample(images.labels, size, drawn))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(drawn))
    return images.subset(order[:size].sort().values)
