"""The work of an adaptation as jobs: one training of one recipe, judged on both domains."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from adaptation import detectors, shift
from adaptation.attacks import DetectionAttack
from adaptation.detectors import Detector
from adaptation.evaluation import detect, evaluate
from adaptation.training import train_detector
from experiments.adapt.result import Shift, Trained
from experiments.adapt.workspace import Workspace, open_workspace
from experiments.detections import robust_ap50
from robustkit.compute import resolve_device
from robustkit.errors import DataError

CURVE = 100  # points of a training's curve


@dataclass(frozen=True)
class TrainRecipe:
    """Train one detector by `recipe`, and judge it."""

    id: str
    path: str
    recipe: str
    number: int
    timeout: float | None = None

    kind: ClassVar[Any] = Trained

    def run(self) -> dict[str, Any]:
        """Figures on source and target, robust precision on both, and the curve of the loss."""
        space = open_workspace(self.path)
        config = space.config(self.recipe, self.number)
        parent = None  # a fresh one has what its card says
        if config.start == "source":
            model = space.trained("source", self.number)
            parent = detectors.digest(model)
        else:
            model = space.fresh(config.seed)
        model.to(resolve_device(space.device))
        losses: list[float] = []
        labelled = space.target.train if config.domain == "target" else space.source.train
        checkpoint = space.checkpoint(self.recipe, self.number)
        checkpoint.parent.mkdir(exist_ok=True)
        train_detector(
            model,
            labelled,
            config,
            target=space.target.train if config.needs_target else None,
            checkpoint=checkpoint,
            on_step=lambda record: losses.append(record.loss),
            on_resume=losses.extend,
        )
        file = space.file(self.recipe, self.number)
        detectors.save(model, file, parent=parent, recipe=self.recipe)
        return {"curve": curve_of(losses), "steps": config.steps, **judged(model, space)}


def curve_of(losses: list[float]) -> list[tuple[int, float]]:
    """Means over so many equal stretches of the steps, and where each ends."""
    every = max(1, len(losses) // CURVE)
    ends = range(every, len(losses) + 1, every)
    return [(end, sum(losses[end - every : end]) / every) for end in ends]


@dataclass(frozen=True)
class MeasureShift:
    """The distance of the target from the source, as the first source detector sees them."""

    id: str
    path: str
    timeout: float | None = None

    kind: ClassVar[Any] = Shift

    def run(self) -> dict[str, Any]:
        """Distances, ratio and advice, on images that nothing was trained on."""
        space = open_workspace(self.path)
        model = space.trained("source", 0)
        features = [
            shift.detector_features(model, each.test) for each in (space.source, space.target)
        ]
        try:
            return asdict(shift.measure_shift(*features, threshold=space.options.threshold))
        except DataError as error:  # too few images: no reason to lose the trainings
            nothing = dict.fromkeys(field.name for field in fields(shift.Shift))
            return {**nothing, "advice": f"not measured: {error}"}


def judged(model: Detector, space: Workspace) -> dict[str, Any]:
    """Every figure on the test images of both domains, and AP50 under attack."""
    options, classes = space.options, space.source.train.classes
    attack = DetectionAttack(eps=options.judge_eps, steps=options.judge_steps)
    result: dict[str, Any] = {}
    for name, domain in (("source", space.source), ("target", space.target)):
        result[name] = evaluate(detect(model, domain.test), domain.test.truths, classes)
        chosen = domain.test.subset(range(min(options.judge_images, len(domain.test))))
        result[f"robust_{name}_ap50"] = robust_ap50(model, chosen, attack, space.base.seed)
    return result
