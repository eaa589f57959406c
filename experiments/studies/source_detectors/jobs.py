"""The jobs of the study: train by a recipe and evaluate; measure a distance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from adaptation import detectors, shift
from adaptation.attacks import DetectionAttack
from adaptation.evaluation import detect, evaluate
from adaptation.evaluation.evaluate import robust_ap50
from adaptation.recipes import recipe
from adaptation.training import DetectionConfig, train_detector
from experiments.studies.base import Json, StudyJob
from experiments.studies.source_detectors.result import Distances, TrainedOn
from robustkit.compute import derive_seed
from robustkit.data.detection import DetectionSet, load_detection
from robustkit.jobs import cached_per_process

SCORES = ("ap50_area", "coco_ap", "coco_ap50")
ATTACKED, ATTACK_STEPS = 100, 10


@dataclass(frozen=True, kw_only=True)
class World:
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

    world: World
    recipe: str
    target: str
    number: int

    kind = TrainedOn

    def run(self) -> Json:
        """Return, by domain, the means and AP50 by class, and AP50 on the attacked source."""
        of, config = self.world, self.world.config(self.recipe, self.number)
        photo = of.data("photo", "train")
        other = None if self.target == "all" else of.data(self.target, "train")
        if config.start == "source":
            model = detectors.load(of.file("source", "all", self.number))
        else:
            model = detectors.build(of.detector, photo.classes, seed=config.seed)
        labelled = photo if config.domain == "source" or other is None else other
        file = of.file(self.recipe, self.target, self.number)
        state = file.with_suffix(".state")
        train_detector(model, labelled, config, target=other, checkpoint=state)
        detectors.save(model, file, recipe=self.recipe)
        state.unlink(missing_ok=True)
        styles = ("photo", *(of.targets if self.target == "all" else (self.target,)))
        found: dict[str, Json] = {}
        for style in styles:
            test = of.data(style, "test")
            evaluation = evaluate(detect(model, test), test.truths, test.classes)
            found[style] = {name: getattr(evaluation, name) for name in SCORES}
            found[style]["classes"] = {
                name: each.ap50_area for name, each in evaluation.classes.items()
            }
        few = of.data("photo", "test").subset(range(min(ATTACKED, of.count)))
        attack = DetectionAttack(eps=of.eps, steps=ATTACK_STEPS)
        return {"domains": found, "robust": robust_ap50(model, few, attack, of.seed)}


@dataclass(frozen=True)
class Distance(StudyJob):
    """How far every target is from the photographs, as the source detector sees them."""

    world: World
    number: int

    kind = Distances

    def run(self) -> Json:
        """Return what `robustkit shift` measures of every target, and of `photo` itself."""
        of = self.world
        model = detectors.load(of.file("source", "all", self.number))
        source = shift.detector_features(model, of.data("photo", "test"))
        found = {}
        for style in ("photo", *of.targets):
            target = shift.detector_features(model, of.data(style, "test"))
            found[style] = asdict(shift.measure_shift(source, target, seed=of.seed))
        return found


@cached_per_process(12)
def _rendered(spec: str, part: str) -> DetectionSet:
    return load_detection(spec, part)
