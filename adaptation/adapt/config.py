"""The settings of an adaptation, checked where they are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from adaptation.detectors.resolve import factory_of
from adaptation.recipes import PARTS, recipe
from adaptation.shift import THRESHOLD
from adaptation.training import DetectionConfig
from robustkit.errors import ConfigError
from robustkit.reading import parse_real
from robustkit.settings import check_choice, setting

RADII, WEIGHTS = ("eps", "mix"), ("local_weight", "global_weight")
"""What can be chosen: by what it costs on the source, by how near it brings the domains."""

SET_BY_RECIPES = ("start", "domain", "adversary", "align", "teacher", "adabn")
# Which recipes have a use for a setting that they do not set themselves.
Uses = Callable[[DetectionConfig], bool]
USED: Mapping[str, Uses] = {
    "replays": lambda config: config.adversary == "free",
    # Free training goes along the training's own gradient.
    **dict.fromkeys(("adv_steps", "alpha", "adv_loss"), lambda config: config.adversary == "pgd"),
    **dict.fromkeys(("eps", "mix", "eps_warmup"), lambda config: config.adversary is not None),
    **dict.fromkeys(("local_weight", "global_weight", "reversal"), lambda config: config.align),
    **dict.fromkeys(("ema", "sure", "pseudo", "burn_in"), lambda config: config.teacher),
}


@dataclass(frozen=True, kw_only=True)
class AdaptOptions:
    """The two domains and the recipes of an adaptation; see `HELPS` for each field."""

    source: str = setting(
        "shapes:photo",
        "labelled images: shapes:STYLE[:N], voc:FOLDER:SPLIT (voc:A+B:SPLIT joins folders) "
        "or coco:IMAGES:JSON",
    )
    target: str = setting(
        "shapes:clipart",
        "images of the other domain; labels serve the oracle and the evaluation alone",
    )
    source_test: str | None = setting(None, "what is evaluated on; none: the test part of --source")
    target_test: str | None = setting(None, "what is evaluated on; none: the test part of --target")
    detector: str = setting(
        "tiny_ssd",
        "tiny_ssd, tiny_fcos, tiny_fasterrcnn (?norm=batch&width=32&side=128) or "
        "torchvision:NAME (?weights=COCO_V1 or FILE; ?weights_backbone=IMAGENET1K_V1 or FILE)",
    )
    backbone: str | None = setting(
        None,
        "a classifier, as the backbone of a tiny detector: a model file, "
        "torchvision:NAME?weights=DEFAULT, timm:NAME?pretrained=true, package.module:factory, …",
    )
    taps: tuple[str, ...] = setting(
        (), "blocks of the backbone that the detector reads; none: the last of each stage"
    )
    weights: str | None = setting(None, "state dict that the source's training starts from")
    download: bool = setting(
        False, "allow torchvision's weights to be fetched into the cache of torch's hub"
    )
    trust: tuple[str, ...] = setting(
        (), "functions, package.module:factory, that a model file may have run"
    )
    recipe: tuple[str, ...] = setting(
        ("source", "longer", "adversarial"),
        f"between commas: {', '.join(PARTS)}; parts go together by a plus",
    )
    choose: tuple[str, ...] = setting(
        (),
        "settings to choose on images of the source that are set aside, as in eps=1/255,2/255 "
        "mix=0.5,1: the largest eps and mix that cost no more than --choose-tolerance; and of "
        "local_weight and global_weight those that bring the domains nearest",
    )
    choose_tolerance: float = setting(
        0.02, "AP50 on images set aside that what is chosen may cost, in [0,1]"
    )
    val_share: float = setting(
        0.2, "share of the source's images that is set aside for --choose, and trained on after it"
    )
    seeds: int = setting(3, "trainings of each recipe")
    judge_eps: float = setting(2 / 255, "radius of the attack that measures robust precision")
    judge_steps: int = setting(10, "its steps")
    judge_images: int = setting(200, "images it is made on")
    threshold: float = setting(
        THRESHOLD, "ratio of distances above which adversarial training is advised"
    )

    def __post_init__(self) -> None:
        for name in self.recipe:
            recipe(name)
        self._check_choices()
        if len({frozenset(name.split("+")) for name in self.recipe}) < len(self.recipe):
            raise ConfigError("--recipe: the same recipe twice")
        for name in ("seeds", "judge_steps", "judge_images"):
            if getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise ConfigError(f"--{flag} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.judge_eps <= 1:
            raise ConfigError(f"--judge-eps must be in [0,1], not {self.judge_eps:g}")
        if not self.threshold > 0:
            raise ConfigError(f"--threshold must be positive, not {self.threshold:g}")

    def _check_choices(self) -> None:
        for name, values in self.choices.items():
            for value in values:
                replace(DetectionConfig(), **{name: value})  # type: ignore[arg-type]
            if len(set(values)) < 2:
                raise ConfigError(f"--choose {name}: give two or more distinct values")
            used = "adversary" if name in RADII else "align"
            if not any(getattr(recipe(each), used) for each in self.recipe):
                part = "adversarial" if name in RADII else "aligned"
                raise ConfigError(f"--choose {name} is of the recipe {part}, which is not asked")
        if not 0 < self.val_share < 1:
            raise ConfigError(f"--val-share must be between 0 and 1, not {self.val_share:g}")
        if not 0 <= self.choose_tolerance <= 1:
            raise ConfigError(f"--choose-tolerance must be in [0,1], not {self.choose_tolerance:g}")

    @property
    def choices(self) -> dict[str, tuple[float, ...]]:
        """Return the values to choose from by setting, ascending; raises `ConfigError`."""
        found: dict[str, tuple[float, ...]] = {}
        for text in self.choose:
            name, equals, listed = text.partition("=")
            if not equals:
                raise ConfigError(f"--choose: expected NAME=VALUE,VALUE, not '{text}'")
            check_choice("setting to choose", name, (*RADII, *WEIGHTS))
            if name in found:
                raise ConfigError(f"--choose: '{name}' twice")
            try:
                found[name] = tuple(sorted(map(parse_real, listed.split(","))))
            except (ValueError, ZeroDivisionError):
                raise ConfigError(
                    f"--choose {name}: expected numbers between commas, not '{listed}'"
                ) from None
        return found

    @property
    def trusted(self) -> tuple[str, ...]:
        """Return the functions that may be run: those trusted by name, and the backbone's own."""
        named = factory_of(self.backbone)
        return (*self.trust, *([] if named is None else [named]))

    @property
    def recipes(self) -> tuple[str, ...]:
        """Return the recipes, that of the source, which others start from, first."""
        return ("source", *(name for name in self.recipe if name != "source"))


def check_recipes(options: AdaptOptions, base: DetectionConfig) -> None:
    """Raise `ConfigError` where the settings do not go with a recipe."""
    for name in options.recipes:
        recipe(name, base)
    for name, values in options.choices.items():
        for value in values:  # with the batch and all else that is asked for
            for part in ("adversarial", "aligned"):
                replace(recipe(part, base), **{name: value})  # type: ignore[arg-type]
    for option, used in USED.items():
        changed = getattr(base, option) != getattr(DetectionConfig(), option)
        if changed and option in options.choices:
            flag = option.replace("_", "-")
            raise ConfigError(f"--{flag} is to be chosen; leave it out, or take it from --choose")
        users = [
            name
            for name, part in PARTS.items()
            if option not in part.changes and used(recipe(name))
        ]
        if changed and not any(
            user in name.split("+") for name in options.recipes for user in users
        ):
            flag = option.replace("_", "-")
            raise ConfigError(f"--{flag} is of the recipe {' or '.join(users)}, which is not asked")
    if options.taps and options.backbone is None:
        raise ConfigError("--taps are blocks of --backbone, which is missing")
    if options.weights is not None and "weights" in options.detector.partition("?")[2]:
        raise ConfigError(
            f"--weights {options.weights}: --detector {options.detector} names its weights, too; "
            "leave one out"
        )
    if base.momentum != DetectionConfig().momentum and base.optimizer != "sgd":
        raise ConfigError("--momentum is of --optimizer sgd")


def check_named(options: AdaptOptions, given: Mapping[str, Any], folder: str) -> None:
    """Raise `ConfigError` where resuming `folder` would run code that only the folder names."""
    flags = {"backbone": options.backbone if factory_of(options.backbone) else None}
    flags["trust"] = ",".join(options.trust) or None
    for name, value in flags.items():
        if value is not None and name not in given:
            raise ConfigError(
                f"{folder} was made with --{name} {value}, whose code is run only where you name "
                f"it: give --{name} {value} again"
            )
