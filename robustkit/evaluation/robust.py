"""Robust accuracy over radii: what survives a list of attacks, and whether that is evidence."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.attacks import Attack, Finding, Rate, diagnose, diagnosis, worst_case
from robustkit.compute import Note, derive_seed, on_device
from robustkit.data import ImageSet, as_image_set, stratified_sample
from robustkit.errors import AttackError, ConfigError
from robustkit.evaluation.accuracy import rate_of
from robustkit.reading import parse_json

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class RobustAccuracy:
    """Robust accuracy of one model at radii ascending, in units of images in [0,1].

    `clean` is its clean accuracy; `by_eps[eps]` the share of all images that are classified
    correctly after every attack at this radius and at smaller ones; `per_attack[eps][name]` that
    after this attack and those before it. `diagnosis` says what casts doubt on the figures,
    `seconds[eps]` how long each radius took, `notes` which batches did not fit into memory.
    """

    norm: str
    clean: Rate
    by_eps: Mapping[float, Rate]
    per_attack: Mapping[float, Mapping[str, Rate]]
    diagnosis: tuple[Finding, ...]
    seconds: Mapping[float, float]
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The result as JSON text, which `from_json` reads."""
        radii = [
            {
                "eps": eps,
                **rate.to_dict(),
                "per_attack": {name: one.to_dict() for name, one in self.per_attack[eps].items()},
                "seconds": self.seconds[eps],
            }
            for eps, rate in self.by_eps.items()
        ]
        written = {
            "format": FORMAT,
            "norm": self.norm,
            "clean": self.clean.to_dict(),
            "by_eps": radii,
            "diagnosis": [each.to_dict() for each in self.diagnosis],
            "notes": list(self.notes),
        }
        return json.dumps(written, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> RobustAccuracy:
        """The result that `to_json` wrote; raises `ConfigError` for anything else."""
        try:
            read = parse_json(text, "not a result of robust_accuracy as JSON", error=ConfigError)
            if read["format"] != FORMAT:
                raise ConfigError(
                    f"robust accuracy of format {read['format']}; this version reads {FORMAT}"
                )
            radii = {float(each["eps"]): each for each in read["by_eps"]}
            return cls(
                norm=str(read["norm"]),
                clean=_rate(read["clean"]),
                by_eps={eps: _rate(each) for eps, each in radii.items()},
                per_attack={
                    eps: {name: _rate(one) for name, one in each["per_attack"].items()}
                    for eps, each in radii.items()
                },
                diagnosis=tuple(Finding(**each) for each in read["diagnosis"]),
                seconds={eps: float(each["seconds"]) for eps, each in radii.items()},
                notes=tuple(read["notes"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigError(f"not a result of robust_accuracy as JSON ({reason})") from None


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
    takes. Attacks run cheap to expensive, each at every radius of `eps`, or at its own where that
    is None; in a mapping they have names. Each sees only what those before it have left, and what
    fell within a smaller ball has fallen within a larger one.

    `probe` images, classes kept even where each can have one, serve to check at the largest radius
    that the figures are evidence (`attacks.diagnose`); 0 leaves that out. `restarts`,
    `batch_size`, `device` and `on_attack` are as in `attacks.worst_case`; notes are kept in the
    result, too. Raises `ConfigError` for no attack or radius, `AttackError` for targeted attacks
    and attacks of several norms, and the errors of `worst_case`.
    """
    images = as_image_set(images)
    named = _named(attacks)
    norm = _norm_of(named)
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        if on_note is not None:
            on_note(text)

    findings: list[Finding] = []
    by_eps: dict[float, Rate] = {}
    per_attack: dict[float, dict[str, Rate]] = {}
    seconds: dict[float, float] = {}
    standing: Tensor | None = None
    clean = Rate(None, 0, None, None)
    with on_device(model, device):
        for radius, listed in _by_radius(named, eps).items():
            began = time.perf_counter()
            result = worst_case(
                model,
                images,
                list(listed.values()),
                restarts=restarts,
                seed=derive_seed(seed, "attack"),
                start=standing,
                on_attack=on_attack,
                batch_size=batch_size,
                on_note=note,
            )
            standing, clean = result.survivors, rate_of(result.correct)
            by_eps[radius] = rate_of(standing)
            per_attack[radius] = {
                name: rate_of(left) for name, left in zip(listed, result.standing, strict=True)
            }
            seconds[radius] = time.perf_counter() - began
            findings += diagnosis.read(result)
        accuracies = [rate.rate or 0.0 for rate in by_eps.values()]
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
        clean=clean,
        by_eps=by_eps,
        per_attack=per_attack,
        diagnosis=tuple(dict.fromkeys(findings)),
        seconds=seconds,
        notes=tuple(notes),
    )


def _named(attacks: Attack | Sequence[Attack] | Mapping[str, Attack]) -> dict[str, Attack]:
    """The attacks by their names; of several of one name the second is "NAME 2"."""
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
    """The attacks at every radius, ascending; where none is given, each at its own."""
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
    """`size` of the images; classes are kept even where each can have one."""
    if size >= len(images):
        return images
    drawn = derive_seed(seed, "probe")
    if size >= len(images.labels.bincount().nonzero()):
        return images.subset(stratified_sample(images.labels, size, drawn))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(drawn))
    return images.subset(order[:size].sort().values)


def _rate(written: Mapping[str, Any]) -> Rate:
    return Rate(written["rate"], written["n"], written["low"], written["high"])
