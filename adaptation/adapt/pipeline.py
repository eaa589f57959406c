"""All trainings of an adaptation, the source's first, then what starts from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from msgspec import UNSET, UnsetType, structs

from adaptation import detectors, shift
from adaptation.adapt.choice import (
    STAGE,
    candidates,
    choice_of,
    chosen_settings,
    set_aside,
)
from adaptation.adapt.config import AdaptOptions
from adaptation.adapt.result import (
    BothDomains,
    Choice,
    ClassMean,
    Gain,
    OnDomain,
    Recipe,
    ScoreMeans,
    ShiftResult,
    Summary,
    Told,
    Trained,
)
from adaptation.adapt.workspace import Workspace, open_workspace
from adaptation.attacks import DetectionAttack
from adaptation.detectors import Detector
from adaptation.detectors.resolve import load_backbone
from adaptation.evaluation import (
    DetectorEvaluation,
    detect,
    evaluate,
    redrawn_ap50,
    robust_ap50,
)
from adaptation.evaluation.evaluate import Scores
from adaptation.recipes import recipe
from adaptation.training import DetectionConfig, StepRecord, train_detector
from robustkit import models
from robustkit.cli.parser import config_from
from robustkit.compute import resolve_device
from robustkit.errors import DataError, ModelError
from robustkit.jobs import Log, RecordedJob, run_phases
from robustkit.models import Classifier
from robustkit.models.resolve import is_untrained
from robustkit.runs import Entry, Ledger, RunFolder
from robustkit.stats import Mean, mean_over_pictures_too, mean_over_trainings

LEDGER = "ledger.sqlite"
CURVE = 100  # points of a training's curve
SHIFT = "shift"  # the id of the job that measures it
BY_DETECTOR = "the coarsest maps of the first source detector"
BY_CLASSIFIER = "the backbone's classifier, before any training"


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
        config = config_of(space, self.recipe, self.number)
        parent = None  # a fresh one has what its card says
        if config.start == "source":
            model = space.trained("source", self.number)
            parent = detectors.digest(model)
        else:
            model = space.fresh(config.seed)
        model.to(resolve_device(space.device))
        losses: list[float] = []
        right: list[tuple[float, ...]] = []

        def keep(record: StepRecord) -> None:
            losses.append(record.loss)
            right.extend([record.right] if record.right else [])

        def resume(losses_before: list[float], right_before: list[tuple[float, ...]]) -> None:
            losses.extend(losses_before)
            right.extend(right_before)

        labelled = space.target.train if config.domain == "target" else space.source.train
        checkpoint = space.checkpoint(self.recipe, self.number)
        checkpoint.parent.mkdir(exist_ok=True)
        train_detector(
            model,
            labelled,
            config,
            target=space.target.train if config.needs_target else None,
            checkpoint=checkpoint,
            on_step=keep,
            on_resume=resume,
        )
        file = space.file(self.recipe, self.number)
        detectors.save(model, file, parent=parent, recipe=self.recipe)
        trained = evaluated(model, space, curve_of(losses), config)
        return structs.replace(trained, told=_told(right))


def config_of(space: Workspace, name: str, number: int) -> DetectionConfig:
    """Return the settings of one training of a recipe, with those that were chosen."""
    config = space.given_config(name, number)
    if not space.options.choose:
        return config
    return chosen_settings(_choice(space), config)


def _choice(space: Workspace) -> Choice:
    _, aside = set_aside(space)
    with Ledger.read(space.path / LEDGER) as ledger:
        return choice_of(ledger, space.options, len(aside))


def _told(right: Sequence[tuple[float, ...]]) -> Told | None:
    """Return the means over the last tenth of the steps, None without alignment."""
    last = right[-math.ceil(len(right) / 10) :] if right else []
    if not last:
        return None
    local, whole = (sum(of_kind) / len(last) for of_kind in zip(*last, strict=True))
    return Told(local=local, whole=whole)


def curve_of(losses: list[float]) -> list[tuple[int, float]]:
    """Return (last step, mean loss) for at most `CURVE` equal stretches of the steps."""
    every = max(1, len(losses) // CURVE)
    ends = range(every, len(losses) + 1, every)
    return [(end, sum(losses[end - every : end]) / every) for end in ends]


@dataclass(frozen=True)
class MeasureShift:
    """The distance of the target from the source.

    By the features of the classifier that is the backbone, before anything was trained; without
    one, or where it is untrained, by those of the first source detector.
    """

    id: str
    path: str
    timeout: float | None = None

    kind: ClassVar[Any] = ShiftResult

    def run(self) -> ShiftResult:
        """Return distances, ratio and advice, on images that nothing was trained on."""
        space = open_workspace(self.path)
        options, device = space.options, resolve_device(space.device)
        if options.backbone is None or is_untrained(options.backbone):
            return _shift(space.trained("source", 0).to(device), space)
        classifier, _ = load_backbone(
            options.backbone, download=options.download, trust=options.trusted
        )
        try:
            return _shift(classifier.to(device), space, by=BY_CLASSIFIER)
        except ModelError:  # one without a last linear layer
            return _shift(space.trained("source", 0).to(device), space)


def _shift(
    model: Detector | Classifier,
    space: Workspace,
    by: str = BY_DETECTOR,
    draws: int = shift.DRAWS,
) -> ShiftResult:
    """Return how far apart the domains are as a net sees their test images."""
    tests = [domain.test for domain in (space.source, space.target)]
    features = [
        shift.detector_features(model, test)
        if isinstance(model, Detector)
        else shift.classifier_features(model, test)
        for test in tests
    ]
    first, second = (test.paths or test.ids for test in tests)
    try:
        measured = shift.measure_shift(
            *features,
            names=(first, second),
            threshold=space.options.threshold,
            draws=draws,
        )
        return ShiftResult(**structs.asdict(measured), by=by)
    except DataError as error:  # too few images: no reason to lose the trainings
        return ShiftResult(advice=f"not measured: {error}", by=by)


def evaluated(
    model: Detector, space: Workspace, curve: list[tuple[int, float]], config: DetectionConfig
) -> Trained:
    """Evaluate a trained detector on the test images of both domains, plainly and under attack."""
    options, classes = space.options, space.source.train.classes
    attack = DetectionAttack(eps=options.judge_eps, steps=options.judge_steps)
    evaluations: list[DetectorEvaluation] = []
    robust: list[float | None] = []
    redrawn: list[list[float]] = []
    for domain in (space.source, space.target):
        found = detect(model, domain.test)
        evaluations.append(evaluate(found, domain.test.truths, classes))
        redrawn.append(redrawn_ap50(found, domain.test.truths, len(classes), seed=space.base.seed))
        attacked = domain.test.subset(range(min(options.judge_images, len(domain.test))))
        robust.append(robust_ap50(model, attacked, attack, space.base.seed))
    one_step = None
    if config.adversary is not None and config.adv_steps == 1:
        attacked = space.source.test.subset(
            range(min(options.judge_images, len(space.source.test)))
        )
        weak = DetectionAttack(eps=options.judge_eps, steps=1)
        one_step = robust_ap50(model, attacked, weak, space.base.seed)
    return Trained(
        curve=curve,
        steps=config.steps,
        distance=_shift(model, space, draws=1).ratio,  # its interval is nobody's
        one_step_ap50=one_step,
        redrawn_source=redrawn[0],
        redrawn_target=redrawn[1],
        source=evaluations[0],
        robust_source_ap50=robust[0],
        target=evaluations[1],
        robust_target_ap50=robust[1],
    )


Runs = Mapping[str, Sequence[Trained]]
"""The trainings by recipe, in the order of their numbers."""


def summarise(entries: Sequence[Entry], config: Mapping[str, Any], notes: Sequence[str]) -> Summary:
    """Return means over trainings by recipe, their gains, and the measured shift."""
    results: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.id != SHIFT:
            results.setdefault(entry.payload["recipe"], []).append(entry)
    names = list(dict.fromkeys(("source", *config["recipe"])))
    runs: Runs = {
        name: [
            Trained.from_json(entry.result, entry.id)
            for entry in sorted(results[name], key=lambda entry: int(entry.payload["number"]))
        ]
        for name in names
    }
    return Summary(
        recipes={
            name: _recipe(
                runs[name],
                seconds=sum(entry.seconds for entry in results[name]) / len(results[name]),
                gain=UNSET if name == "source" else _gain(name, runs),
            )
            for name in names
        },
        shift=next(
            ShiftResult.from_json(entry.result, SHIFT) for entry in entries if entry.id == SHIFT
        ),
        data={name: config[name] for name in ("source", "target", "source_test", "target_test")},
        notes=list(notes),
    )


def _recipe(runs: Sequence[Trained], *, seconds: float, gain: Gain | UnsetType) -> Recipe:
    robust_source = mean_over_trainings([run.robust_source_ap50 for run in runs])
    robust_target = mean_over_trainings([run.robust_target_ap50 for run in runs])
    return Recipe(
        source=_on_domain([run.source for run in runs], [run.redrawn_source for run in runs]),
        target=_on_domain([run.target for run in runs], [run.redrawn_target for run in runs]),
        robust_source_ap50=robust_source.value,
        robust_source_interval=robust_source,
        robust_target_ap50=robust_target.value,
        robust_target_interval=robust_target,
        by_seed=[
            BothDomains(source=_scores(run.source), target=_scores(run.target)) for run in runs
        ],
        seeds=len(runs),
        steps=runs[0].steps,
        seconds=seconds,
        curves=[run.curve for run in runs],
        gain=gain,
        distances=[run.distance for run in runs],
        told=[run.told for run in runs if run.told is not None] or UNSET,
        one_step=mean_over_trainings([run.one_step_ap50 for run in runs])
        if any(run.one_step_ap50 is not None for run in runs)
        else UNSET,
    )


def _on_domain(runs: Sequence[DetectorEvaluation], redrawn: Sequence[Sequence[float]]) -> OnDomain:
    means = {
        name: mean_over_trainings([getattr(run, name) for run in runs])
        for name in Scores.__struct_fields__
    }
    means["ap50_area"] = mean_over_pictures_too([run.ap50_area for run in runs], redrawn)
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


def _gain(name: str, runs: Runs) -> Gain:
    """Return the gain over the source's training of the same seed, or over as long a plain one."""
    # What starts from the source's weights is trained longer: as long a plain training is fair.
    longer = recipe(name).start == "source" and recipe(name).steps > 0 and name != "longer"
    over = "longer" if longer and "longer" in runs else "source"
    pairs = list(zip(runs[name], runs[over], strict=True))
    return Gain(
        over=over,
        source=_mean_difference(
            [(a.source, b.source) for a, b in pairs],
            [(a.redrawn_source, b.redrawn_source) for a, b in pairs],
        ),
        target=_mean_difference(
            [(a.target, b.target) for a, b in pairs],
            [(a.redrawn_target, b.redrawn_target) for a, b in pairs],
        ),
    )


def _mean_difference(
    pairs: Sequence[tuple[Scores, Scores]],
    redrawn: Sequence[tuple[Sequence[float], Sequence[float]]],
) -> Mean:
    """Return the mean difference in AP50 of pairs of trainings, on the same pictures."""
    return mean_over_pictures_too(
        [
            None
            if trained.ap50_area is None or plain.ap50_area is None
            else trained.ap50_area - plain.ap50_area
            for trained, plain in pairs
        ],
        [[a - b for a, b in zip(*both, strict=True)] for both in redrawn],
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
    tried = [list[RecordedJob](jobs) for jobs in candidates(options, path)]
    trials = run_phases([*tried, sources, rest], folder, stage="adapt", log=log)
    space = open_workspace(path)
    card = models.read_card(space.file(first, 0))
    made = [trial for trial in trials if not trial.id.startswith(f"{STAGE}/")]
    summary = summarise(made, config, card.provenance.get("notes", []))
    return structs.replace(summary, choice=_choice(space)) if options.choose else summary
