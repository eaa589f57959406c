"""All trainings of an adaptation, the source's first, then what starts from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from msgspec import UNSET, structs

from adaptation import detectors, shift
from adaptation.adapt.config import AdaptOptions
from adaptation.adapt.result import (
    BothDomains,
    ClassMean,
    Gain,
    OnDomain,
    Recipe,
    ScoreMeans,
    ShiftResult,
    Summary,
    Trained,
)
from adaptation.adapt.workspace import Workspace, open_workspace
from adaptation.attacks import DetectionAttack
from adaptation.detectors import Detector
from adaptation.evaluation import DetectorEvaluation, detect, evaluate, robust_ap50
from adaptation.evaluation.evaluate import Scores
from adaptation.recipes import recipe
from adaptation.training import train_detector
from robustkit import models
from robustkit.cli.parser import config_from
from robustkit.compute import resolve_device
from robustkit.errors import DataError
from robustkit.jobs import Log, RecordedJob, run_phases
from robustkit.runs import Entry, RunFolder
from robustkit.stats import Mean, mean_over_trainings

CURVE = 100  # points of a training's curve
SHIFT = "shift"  # the id of the job that measures it


@dataclass(frozen=True)
class TrainRecipe:
    """Train one detector by `recipe`, and evaluate it."""

    id: str
    path: str
    recipe: str
    number: int
    timeout: float | None = None

    kind: ClassVar[Any] = Trained

    def run(self) -> Trained:
        """Return precision on source and target, plainly and attacked, and the loss's curve."""
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
        return evaluated(model, space, curve_of(losses), config.steps)


def curve_of(losses: list[float]) -> list[tuple[int, float]]:
    """Return (last step, mean loss) for at most `CURVE` equal stretches of the steps."""
    every = max(1, len(losses) // CURVE)
    ends = range(every, len(losses) + 1, every)
    return [(end, sum(losses[end - every : end]) / every) for end in ends]


@dataclass(frozen=True)
class MeasureShift:
    """The distance of the target from the source, as the first source detector sees them."""

    id: str
    path: str
    timeout: float | None = None

    kind: ClassVar[Any] = ShiftResult

    def run(self) -> ShiftResult:
        """Return distances, ratio and advice, on images that nothing was trained on."""
        space = open_workspace(self.path)
        model = space.trained("source", 0)
        features = [
            shift.detector_features(model, domain.test) for domain in (space.source, space.target)
        ]
        try:
            measured = shift.measure_shift(*features, threshold=space.options.threshold)
            return ShiftResult(**structs.asdict(measured))
        except DataError as error:  # too few images: no reason to lose the trainings
            return ShiftResult(advice=f"not measured: {error}")


def evaluated(
    model: Detector, space: Workspace, curve: list[tuple[int, float]], steps: int
) -> Trained:
    """Evaluate a trained detector on the test images of both domains, plainly and under attack."""
    options, classes = space.options, space.source.train.classes
    attack = DetectionAttack(eps=options.judge_eps, steps=options.judge_steps)
    evaluations: list[DetectorEvaluation] = []
    robust: list[float | None] = []
    for domain in (space.source, space.target):
        evaluations.append(evaluate(detect(model, domain.test), domain.test.truths, classes))
        attacked = domain.test.subset(range(min(options.judge_images, len(domain.test))))
        robust.append(robust_ap50(model, attacked, attack, space.base.seed))
    return Trained(
        curve=curve,
        steps=steps,
        source=evaluations[0],
        robust_source_ap50=robust[0],
        target=evaluations[1],
        robust_target_ap50=robust[1],
    )


def summarise(entries: Sequence[Entry], config: Mapping[str, Any], notes: Sequence[str]) -> Summary:
    """Return means over trainings by recipe, their gains, and the measured shift."""
    results: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.id != SHIFT:
            results.setdefault(entry.payload["recipe"], []).append(entry)
    recipes = {
        name: _recipe(sorted(results[name], key=lambda entry: entry.payload["number"]))
        for name in dict.fromkeys(("source", *config["recipe"]))
    }
    gains = {name: _gain(name, recipes) for name in recipes if name != "source"}
    return Summary(
        recipes={
            name: structs.replace(trained, gain=gains.get(name, UNSET))
            for name, trained in recipes.items()
        },
        shift=next(
            ShiftResult.from_json(entry.result, SHIFT) for entry in entries if entry.id == SHIFT
        ),
        data={name: config[name] for name in ("source", "target", "source_test", "target_test")},
        notes=list(notes),
    )


def _recipe(entries: Sequence[Entry]) -> Recipe:
    runs = [Trained.from_json(entry.result, entry.id) for entry in entries]
    robust_source = mean_over_trainings([run.robust_source_ap50 for run in runs])
    robust_target = mean_over_trainings([run.robust_target_ap50 for run in runs])
    return Recipe(
        source=_on_domain([run.source for run in runs]),
        target=_on_domain([run.target for run in runs]),
        robust_source_ap50=robust_source.value,
        robust_source_interval=robust_source,
        robust_target_ap50=robust_target.value,
        robust_target_interval=robust_target,
        by_seed=[
            BothDomains(source=_scores(run.source), target=_scores(run.target)) for run in runs
        ],
        seeds=len(runs),
        steps=runs[0].steps,
        seconds=sum(entry.seconds for entry in entries) / len(entries),
        curves=[run.curve for run in runs],
    )


def _on_domain(runs: Sequence[DetectorEvaluation]) -> OnDomain:
    means = {
        name: mean_over_trainings([getattr(run, name) for run in runs])
        for name in Scores.__struct_fields__
    }
    return OnDomain(
        **{name: mean.value for name, mean in means.items()},
        intervals=ScoreMeans(**means),
        classes={
            name: ClassMean(
                ap50_area=mean_over_trainings([run.classes[name].ap50_area for run in runs]),
                objects=of_class.objects,
            )
            for name, of_class in runs[0].classes.items()
        },
        sizes=runs[0].sizes,
        images=runs[0].images,
        objects=runs[0].objects,
    )


def _scores(run: DetectorEvaluation) -> Scores:
    return Scores(**{name: getattr(run, name) for name in Scores.__struct_fields__})


def _gain(name: str, recipes: Mapping[str, Recipe]) -> Gain:
    """Return the gain over the source's training of the same seed, or over as long a plain one."""
    # What starts from the source's weights is trained longer: as long a plain training is fair.
    longer = recipe(name).start == "source" and recipe(name).steps > 0 and name != "longer"
    over = "longer" if longer and "longer" in recipes else "source"
    pairs = list(zip(recipes[name].by_seed, recipes[over].by_seed, strict=True))
    return Gain(
        over=over,
        source=_mean_difference([(trained.source, plain.source) for trained, plain in pairs]),
        target=_mean_difference([(trained.target, plain.target) for trained, plain in pairs]),
    )


def _mean_difference(pairs: Sequence[tuple[Scores, Scores]]) -> Mean:
    return mean_over_trainings(
        [
            None
            if trained.ap50_area is None or plain.ap50_area is None
            else trained.ap50_area - plain.ap50_area
            for trained, plain in pairs
        ]
    )


def run_adapt(folder: RunFolder, log: Log) -> Summary:
    """Run what is not yet done; return the summary. Raises `RunError` where a training fails."""
    config = folder.config
    options = config_from(AdaptOptions, config)
    path = str(folder.path.resolve())
    first, *others = options.recipes
    sources: list[RecordedJob] = [
        TrainRecipe(f"{first}/{number}", path, first, number) for number in range(options.seeds)
    ]
    rest: list[RecordedJob] = [MeasureShift(SHIFT, path)]
    rest += [
        TrainRecipe(f"{name}/{number}", path, name, number)
        for number in range(options.seeds)
        for name in others
    ]
    trials = run_phases([sources, rest], folder, stage="adapt", log=log)
    card = models.read_card(open_workspace(path).file(first, 0))
    return summarise(trials, config, card.provenance.get("notes", []))
