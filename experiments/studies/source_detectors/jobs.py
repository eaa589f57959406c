"""The jobs of the study: train by a recipe and evaluate; measure distances; their results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from msgspec import UNSET, UnsetType, field

from adaptation import detectors, shift
from adaptation.adapt.result import Summary as Adaptation
from adaptation.attacks import DetectionAttack
from adaptation.evaluation import detect, evaluate
from adaptation.evaluation.evaluate import robust_ap50
from adaptation.recipes import recipe
from adaptation.shift import Shift
from adaptation.training import DetectionConfig, train_detector
from experiments.studies.base import StudyJob, StudySummary
from robustkit.compute import derive_seed
from robustkit.data.detection import DetectionSet, load_detection
from robustkit.errors import RunError
from robustkit.jobs import cached_per_process
from robustkit.runs.summaries import Count, MeanShare, Result, check_has, shown

ATTACKED, ATTACK_STEPS = 100, 10


class Precisions(Result, frozen=True, kw_only=True):
    """Of one training on one domain; AP50 by area also class by class."""

    ap50_area: MeanShare
    coco_ap: MeanShare | UnsetType | None = UNSET
    coco_ap50: MeanShare | UnsetType | None = UNSET
    classes: dict[str, MeanShare | None] | UnsetType = UNSET


Seeds = dict[str, Precisions]


class Runs(Result, frozen=True, kw_only=True, omit_defaults=True):
    """Of one recipe, by domain and seed; `robust` is AP50 on attacked photographs."""

    photo: Seeds = field(default_factory=dict)
    fog: Seeds = field(default_factory=dict)
    watercolor: Seeds = field(default_factory=dict)
    comic: Seeds = field(default_factory=dict)
    clipart: Seeds = field(default_factory=dict)
    robust: dict[str, MeanShare | None] = field(default_factory=dict)

    def on(self, domain: str) -> Seeds:
        """Return the trainings by seed on one domain."""
        seeds: Seeds = getattr(self, domain)
        return seeds


Distances = dict[str, Shift]
"""Of all targets, as one training sees them."""


class World(Result, frozen=True, kw_only=True):
    """One setting of the study: trainings by recipe, distances by seed."""

    recipes: dict[str, Runs]
    distances: dict[str, Distances]


Worlds = dict[str, World]
"""By name."""


class Pair(Adaptation, frozen=True, kw_only=True):
    """A run of `adapt` on the published pair of domains: its whole summary."""

    format: Count | UnsetType = UNSET
    verb: str | UnsetType = UNSET


class Summary(StudySummary, frozen=True, kw_only=True):
    """Rendered worlds, or the published pair."""

    worlds: Worlds | UnsetType = UNSET
    pair: Pair | UnsetType = UNSET

    @property
    def rendered(self) -> Worlds:
        """The rendered worlds, none where the published pair was run."""
        return {} if isinstance(self.worlds, UnsetType) else self.worlds


class TrainedOn(Result, frozen=True, kw_only=True):
    """The result of a training."""

    domains: dict[str, Precisions]
    robust: MeanShare | None


def check(
    summary: Summary,
    where: str,
    worlds: tuple[str, ...],
    recipes: tuple[str, ...],
    targets: tuple[str, ...],
) -> None:
    """Raise `RunError` without any result, for a world that is none of `worlds`, of which the first
    and the last are needed, and where the base or the distance of a training is missing."""
    if summary.pair is not UNSET:
        return
    if not summary.rendered:
        raise RunError(f"{where}: 'worlds' is missing")
    check_has(summary.rendered, (worlds[0], worlds[-1]), f"{where}: worlds")
    for name, world in summary.rendered.items():
        if name not in worlds:
            raise RunError(f"{where}: worlds: {shown(name)} is none of {', '.join(worlds)}")
        for seed, distances in world.distances.items():
            entry = f"{where}: worlds.{name}.distances.{seed}"
            check_has(distances, ("photo", *targets), entry)
    textured = summary.rendered["texture"]
    for name in recipes:
        for target in targets:
            adapted, base = _seeds(textured, name, target), _seeds(textured, "longer", target)
            for seed in adapted:
                if seed not in base or seed not in textured.distances:
                    raise RunError(
                        f"{where}: worlds.texture: the seed {shown(seed)} of {name} on {target} "
                        "has no training 'longer', or no distance"
                    )


def _seeds(world: World, recipe: str, target: str) -> Seeds:
    return world.recipes[recipe].on(target) if recipe in world.recipes else {}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of the study: a detector, a texture, and how long trainings are."""

    path: str
    name: str
    detector: str
    texture: float
    count: int
    side: int
    steps: int
    eps: float
    mix: float
    targets: tuple[str, ...]
    seed: int

    def data(self, style: str, part: str) -> DetectionSet:
        """Return rendered images, kept for the next job of this process."""
        query = f"texture={self.texture}&side={self.side}"
        return _rendered(f"shapes:{style}:{self.count}?{query}", part)

    def file(self, name: str, target: str, number: int) -> Path:
        """Return the trained detector."""
        return Path(self.path) / f"{self.name}-{name}-{target}-{number}.safetensors"

    def config(self, name: str, number: int) -> DetectionConfig:
        """Return the settings of a training."""
        seed = derive_seed("domains", self.seed, self.name, number)
        base = DetectionConfig(steps=self.steps, eps=self.eps, mix=self.mix, seed=seed)
        return recipe(name, base)


@dataclass(frozen=True)
class TrainOn(StudyJob):
    """Train by `recipe`, with unlabelled images of `target` where it uses any, and evaluate.

    `target` "all" stands for recipes that never see it: they are evaluated on every target.
    """

    world: Setting
    recipe: str
    target: str
    number: int

    kind = TrainedOn

    def run(self) -> TrainedOn:
        """Return, by domain, the means and AP50 by class, and AP50 on the attacked source."""
        setting, config = self.world, self.world.config(self.recipe, self.number)
        photo = setting.data("photo", "train")
        target_images = None if self.target == "all" else setting.data(self.target, "train")
        if config.start == "source":
            model = detectors.load(setting.file("source", "all", self.number))
        else:
            model = detectors.build(setting.detector, photo.classes, seed=config.seed)
        labelled = photo if config.domain == "source" or target_images is None else target_images
        file = setting.file(self.recipe, self.target, self.number)
        state = file.with_suffix(".state")
        train_detector(model, labelled, config, target=target_images, checkpoint=state)
        detectors.save(model, file, recipe=self.recipe)
        state.unlink(missing_ok=True)
        styles = ("photo", *(setting.targets if self.target == "all" else (self.target,)))
        domains: dict[str, Precisions] = {}
        for style in styles:
            test = setting.data(style, "test")
            evaluation = evaluate(detect(model, test), test.truths, test.classes)
            assert evaluation.ap50_area is not None  # every style has objects
            domains[style] = Precisions(
                ap50_area=evaluation.ap50_area,
                coco_ap=evaluation.coco_ap,
                coco_ap50=evaluation.coco_ap50,
                classes={name: scores.ap50_area for name, scores in evaluation.classes.items()},
            )
        few = setting.data("photo", "test").subset(range(min(ATTACKED, setting.count)))
        attack = DetectionAttack(eps=setting.eps, steps=ATTACK_STEPS)
        return TrainedOn(domains=domains, robust=robust_ap50(model, few, attack, setting.seed))


@dataclass(frozen=True)
class MeasureDistances(StudyJob):
    """Measure the distance of every target from the photographs, by the source detector's maps."""

    world: Setting
    number: int

    kind = Distances

    def run(self) -> Distances:
        """Return what `robustkit shift` measures of every target, and of `photo` itself."""
        setting = self.world
        model = detectors.load(setting.file("source", "all", self.number))
        source = shift.detector_features(model, setting.data("photo", "test"))
        distances = {}
        for style in ("photo", *setting.targets):
            target = shift.detector_features(model, setting.data(style, "test"))
            distances[style] = shift.measure_shift(source, target, seed=setting.seed)
        return distances


@cached_per_process(12)
def _rendered(spec: str, part: str) -> DetectionSet:
    return load_detection(spec, part)
