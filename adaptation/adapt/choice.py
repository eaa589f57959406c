"""Settings chosen by a rule on images of the source alone.

A part of the source's images is set aside; a detector trained on the others goes on with every
combination of the settings asked for. Radius and share of adversarial images: the largest radius,
then the largest share, that cost no more precision there than the tolerance, compared with as many
plain steps. Weights of alignment: those whose features have the least Fréchet distance between
the domains, of those that cost no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar, TypeVar

import torch

from adaptation import detectors, shift
from adaptation.adapt.config import RADII, WEIGHTS, AdaptOptions
from adaptation.adapt.result import Candidate, Choice, Tried
from adaptation.adapt.workspace import Workspace, open_workspace
from adaptation.evaluation import detect, evaluate
from adaptation.recipes import PARTS
from adaptation.training import DetectionConfig, train_detector
from robustkit.compute import resolve_device, torch_generator
from robustkit.data.detection import DetectionSet
from robustkit.errors import DataError
from robustkit.runs import Ledger

Settings = TypeVar("Settings")

STAGE = "choose"
PLAIN = ("source", "longer")
ALIGN, ALIGNED = "align", "aligned"


@dataclass(frozen=True)
class TrainCandidate:
    """Train on the rest of the source by `recipe` with other `settings`; judge on what is aside."""

    id: str
    path: str
    recipe: str
    settings: tuple[tuple[str, float], ...] = ()
    timeout: float | None = None

    kind: ClassVar[Any] = Candidate

    def run(self) -> Candidate:
        """Return precision on the source, and with alignment the distance of the target."""
        space = open_workspace(self.path)
        rest, aside = set_aside(space)
        settings: dict[str, Any] = dict(self.settings)
        config = replace(space.given_config(self.recipe, 0), **settings)
        first = space.path / f"{STAGE}-source.safetensors"
        if config.start == "source":
            model = detectors.load(first, trust=space.options.trusted)
        else:
            model = space.fresh(config.seed)
        model.to(resolve_device(space.device))
        checkpoint = space.path / "checkpoint" / f"{self.id.replace('/', '-')}.safetensors"
        checkpoint.parent.mkdir(exist_ok=True)
        target = space.target.train if config.needs_target else None
        train_detector(model, rest, config, target=target, checkpoint=checkpoint)
        if self.recipe == "source":
            detectors.save(model, first, recipe=self.recipe)
        found = evaluate(detect(model, aside), aside.truths, aside.classes)
        distance = None
        if target is not None:
            features = [shift.detector_features(model, images) for images in (aside, target)]
            try:
                distance = shift.measure_shift(*features, draws=1).ratio
            except DataError:
                distance = None
        return Candidate(ap50=found.ap50_area, distance=distance)


def set_aside(space: Workspace) -> tuple[DetectionSet, DetectionSet]:
    """Return the source's training images without a random part of them, and that part."""
    images, share = space.source.train, space.options.val_share
    order = torch.randperm(len(images), generator=torch_generator("aside", space.base.seed))
    count = max(1, round(share * len(images)))
    if count >= len(images):
        raise DataError(f"{images.name}: {len(images)} images, too few to set some aside")
    aside, rest = sorted(order[:count].tolist()), sorted(order[count:].tolist())
    check_objects(images.subset(aside))
    return images.subset(rest), images.subset(aside)


def check_objects(aside: DetectionSet) -> None:
    """Raise `DataError` where nothing that counts is in images that settings are chosen on."""
    if not any(bool((~each.difficult & ~each.crowd).any()) for each in aside.truths):
        raise DataError(
            f"{aside.name}: no object in the {len(aside)} images that are set aside; set more aside"
        )


def candidates(options: AdaptOptions, path: str) -> list[list[TrainCandidate]]:
    """Return the trainings by which settings are chosen, in two phases; none without a choice."""
    if not options.choose:
        return []
    plain, longer = (TrainCandidate(f"{STAGE}/{name}", path, name) for name in PLAIN)
    tried = [longer]
    for name, grid in grids(options).items():
        for values in product(*grid.values()):
            settings = tuple(zip(grid, values, strict=True))
            called = ",".join(f"{key}={value:.6g}" for key, value in settings)
            tried.append(TrainCandidate(f"{STAGE}/{name}/{called}", path, name, settings))
    return [[plain], tried]


def grids(options: AdaptOptions) -> dict[str, dict[str, tuple[float, ...]]]:
    """Return what is to be chosen, by the recipe that tries it."""
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    for keys, used in ((RADII, "adversary"), (WEIGHTS, ALIGN)):
        grid = {name: options.choices[name] for name in keys if name in options.choices}
        if grid:
            # By the part alone: what it comes with would cost precision and move features, too.
            parts = {part for name in options.recipes for part in name.split("+")}
            users = [name for name in parts if PARTS.find(name).changes.get(used)]
            # The costliest adversary, where there are several, in the order of the recipes' table.
            found[min(users, key=list(PARTS).index)] = grid
    return found


def choice_of(ledger: Ledger, options: AdaptOptions, images: int) -> Choice:
    """Return the choice that the finished candidates make."""
    entries = {entry.id: entry for entry in ledger.trials() if entry.id.startswith(f"{STAGE}/")}
    results = {
        name: Candidate.from_json(entry.result, name)
        for name, entry in entries.items()
        if entry.result is not None
    }
    plain = results[f"{STAGE}/longer"].ap50
    tried: list[Tried] = []
    within = True
    for name, grid in grids(options).items():
        of_recipe = [
            (dict(zip(grid, values, strict=True)), results[job.id])
            for values, job in zip(
                product(*grid.values()), candidates_of(options, name), strict=True
            )
        ]
        best, kept = taken(of_recipe, plain, options.choose_tolerance, nearest=name == ALIGNED)
        within = within and kept
        tried += [
            Tried(
                recipe=name,
                settings=settings,
                ap50=found.ap50,
                distance=found.distance,
                chosen=settings == best,
            )
            for settings, found in of_recipe
        ]
    return Choice(
        plain=plain, tolerance=options.choose_tolerance, images=images, tried=tried, within=within
    )


def candidates_of(options: AdaptOptions, name: str) -> list[TrainCandidate]:
    """Return the candidates of one recipe, the smallest settings first."""
    return [job for job in candidates(options, "")[1] if job.recipe == name and job.settings]


def taken(
    tried: Sequence[tuple[Settings, Candidate]],
    plain: float | None,
    tolerance: float,
    *,
    nearest: bool,
) -> tuple[Settings, bool]:
    """Return what the rule takes of what was `tried`, ascending, and whether it is within it.

    Of those whose AP50 is at most `tolerance` below that of `plain` training the last or, where the
    `nearest` is wanted, the one with the least distance. The first of all, and not within it, where
    there is none: also where plain training is worth no more than the tolerance, or nothing has a
    distance.
    """
    level = -1.0 if plain is None else plain - tolerance
    kept = [pair for pair in tried if pair[1].ap50 is not None and pair[1].ap50 >= level]
    if nearest:
        known = [pair for pair in kept if pair[1].distance is not None]
        kept = sorted(known, key=lambda pair: pair[1].distance or 0.0)[:1]
    if level <= 0 or not kept:
        return tried[0][0], False
    return kept[-1][0], True


def chosen_settings(choice: Choice, config: DetectionConfig) -> DetectionConfig:
    """Return a recipe's settings with what was chosen of those that it uses."""
    for tried in choice.tried:
        if tried.chosen and (config.align if tried.recipe == ALIGNED else config.adversary):
            settings: dict[str, Any] = dict(tried.settings)
            config = replace(config, **settings)
    return config
