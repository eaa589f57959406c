"""Recipes for a new domain, by name; parts go together by a plus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from adaptation.training.config import DetectionConfig
from robustkit.errors import ConfigError, did_you_mean
from robustkit.registry import Registry

SETTINGS = tuple(field.name for field in fields(DetectionConfig))


@dataclass(frozen=True)
class Part:
    """A part of a recipe: what it changes of plain training from scratch on the labelled source.

    `changes` are settings of `DetectionConfig` by name, `says` what they amount to, in a few words
    for a report. A part that is `alone` goes with no other. Raises `ConfigError` for a name that is
    no setting's.

    >>> Part({"adversery": "pgd"}, "adversarial images")
    Traceback (most recent call last):
    robustkit.errors.ConfigError: recipe: no setting 'adversery'; did you mean 'adversary'?
    """

    changes: Mapping[str, Any]
    says: str
    alone: bool = False

    def __post_init__(self) -> None:
        for name in self.changes:
            if name not in SETTINGS:
                hint = did_you_mean(name, SETTINGS).partition(" (known:")[0]
                raise ConfigError(f"recipe: no setting '{name}'{hint}")


PARTS: Registry[Part] = Registry(
    "recipe",
    ConfigError,
    {
        "source": Part({}, "plain training on the labelled source", alone=True),
        # The control of every recipe below: as many steps more, and nothing else.
        "longer": Part({"start": "source"}, "source, and as many steps more", alone=True),
        "adversarial": Part(
            {"start": "source", "adversary": "pgd"}, "source, then adversarial images"
        ),
        "fast": Part(
            {"start": "source", "adversary": "pgd", "adv_steps": 1},
            "source, then adversarial images of one step",
        ),
        "free": Part(
            {"start": "source", "adversary": "free"},
            "source, then adversarial images whose gradient costs nothing",
        ),
        "aligned": Part(
            {"start": "source", "align": True},
            "source, then features aligned with unlabelled target images",
        ),
        "teacher": Part(
            {"start": "source", "teacher": True},
            "source, then boxes that a mean of the weights finds in target images",
        ),
        "adabn": Part(
            {"start": "source", "adabn": True}, "source, batch norm's statistics of the target"
        ),
        # The bound: as many steps, from the same weights, with the labels that others lack.
        "oracle": Part(
            {"start": "source", "domain": "target"},
            "source, then plain training on the labelled target",
            alone=True,
        ),
    },
)


def recipe(name: str, base: DetectionConfig | None = None) -> DetectionConfig:
    """Return the settings of the recipe `name`, such as "adversarial+aligned", on top of `base`.

    "adabn" alone trains nothing. Raises `ConfigError` for an unknown part, for parts that exclude
    each other and for a part given twice.

    >>> recipe("adversarial+aligned").align
    True
    >>> recipe("fast+free")
    Traceback (most recent call last):
    robustkit.errors.ConfigError: recipe 'fast+free': its parts exclude each other
    """
    parts = name.split("+")
    changed: dict[str, Any] = {}
    for part in parts:
        unknown = PARTS.find(part)
        if len(parts) > 1 and unknown.alone:
            raise ConfigError(f"recipe '{name}': '{part}' goes with no other")
        clash = [key for key in unknown.changes if key != "start" and key in changed]
        if clash or parts.count(part) > 1:
            raise ConfigError(f"recipe '{name}': its parts exclude each other")
        changed |= unknown.changes
    if parts == ["adabn"]:
        changed["steps"] = 0
    return replace(base or DetectionConfig(), **changed)
