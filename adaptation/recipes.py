"""Recipes for a new domain, by name; parts go together by a plus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from adaptation.training.config import DetectionConfig
from robustkit.errors import ConfigError, did_you_mean

# What each part changes of plain training from scratch on the labelled source.
PARTS: Mapping[str, Mapping[str, Any]] = {
    "source": {},
    # The control of every recipe below: as many steps more, and nothing else.
    "longer": {"start": "source"},
    "adversarial": {"start": "source", "adversary": "pgd"},
    "fast": {"start": "source", "adversary": "pgd", "adv_steps": 1},
    "free": {"start": "source", "adversary": "free"},
    "aligned": {"start": "source", "align": True},
    "teacher": {"start": "source", "teacher": True},
    "adabn": {"start": "source", "adabn": True},
    "oracle": {"domain": "target"},
}
ALONE = ("source", "longer", "oracle")
SAYS = {
    "source": "plain training on the labelled source",
    "longer": "source, and as many steps more",
    "adversarial": "source, then adversarial images",
    "fast": "source, then adversarial images of one step",
    "free": "source, then adversarial images whose gradient costs nothing",
    "aligned": "source, then features aligned with unlabelled target images",
    "teacher": "source, then boxes that a mean of the weights finds in target images",
    "adabn": "source, batch norm's statistics of the target",
    "oracle": "plain training on the labelled target",
}


def recipe(name: str, base: DetectionConfig | None = None) -> DetectionConfig:
    """The settings of the recipe `name`, such as "adversarial+aligned", on top of `base`.

    "adabn" alone trains nothing. Raises `ConfigError` for an unknown part, for parts that exclude
    each other and for a part given twice.
    """
    parts = name.split("+")
    changed: dict[str, Any] = {}
    for part in parts:
        if part not in PARTS:
            raise ConfigError(f"unknown recipe '{part}'{did_you_mean(part, PARTS)}")
        if len(parts) > 1 and part in ALONE:
            raise ConfigError(f"recipe '{name}': '{part}' goes with no other")
        clash = [key for key in PARTS[part] if key != "start" and key in changed]
        if clash or parts.count(part) > 1:
            raise ConfigError(f"recipe '{name}': its parts exclude each other")
        changed |= PARTS[part]
    if parts == ["adabn"]:
        changed["steps"] = 0
    return replace(base or DetectionConfig(), **changed)


def own_settings(name: str) -> dict[str, Any]:
    """What the recipe sets itself."""
    plain, chosen = DetectionConfig(), recipe(name)
    return {
        field.name: getattr(chosen, field.name)
        for field in fields(DetectionConfig)
        if getattr(chosen, field.name) != getattr(plain, field.name)
    }
