"""All trainings of an adaptation, the source's first, then what starts from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from adaptation import detectors, shift
from adaptation.adapt.config import AdaptOptions
from adaptation.adapt.result import Shift, Trained
from adaptation.adapt.workspace import Workspace, open_workspace
from adaptation.attacks import DetectionAttack
from adaptation.detectors import Detector
from adaptation.evaluation import detect, evaluate
from adaptation.evaluation.evaluate import robust_ap50
from adaptation.recipes import recipe
from adaptation.training import train_detector
from robustkit import models
from robustkit.cli.parser import config_from
from robustkit.compute import resolve_device
from robustkit.errors import DataError
from robustkit.jobs.run import Piece, Say, carry_out
from robustkit.runs import Entry, RunFolder
from robustkit.stats import mean_over_trainings

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


FIGURES = ("ap50_11pt", "ap50_area", "coco_ap", "coco_ap50", "coco_ap75")
DOMAINS = ("source", "target")


def summarise(trials: Sequence[Entry], config: Mapping[str, Any]) -> dict[str, Any]:
    """`recipes.NAME` with means over trainings, their intervals and every training; `shift`."""
    results: dict[str, list[tuple[int, Entry]]] = {}
    shift: dict[str, Any] = {}
    for trial in trials:
        if trial.id == "shift":
            shift = trial.result or {}
            continue
        name, _, number = trial.id.rpartition("/")
        results.setdefault(name, []).append((int(number), trial))
    asked = dict.fromkeys(("source", *config["recipe"]))
    recipes = {
        name: _recipe([trial for _, trial in sorted(results[name], key=lambda each: each[0])])
        for name in asked
    }
    for name, found in recipes.items():
        if name == "source":
            continue
        # What starts from the source's weights is trained longer: as long a plain training is fair.
        fair = recipe(name).start == "source" and recipe(name).steps > 0 and name != "longer"
        over = "longer" if fair and "longer" in recipes else "source"
        found["gain"] = {"over": over, **_gain(found, recipes[over])}
    return {"recipes": recipes, "shift": shift, "data": _data(config)}


def _recipe(trials: Sequence[Entry]) -> dict[str, Any]:
    runs = [trial.result or {} for trial in trials]
    found: dict[str, Any] = {
        domain: {
            **{figure: _mean(runs, domain, figure) for figure in FIGURES},
            "intervals": {
                figure: mean_over_trainings([run[domain][figure] for run in runs]).to_json()
                for figure in FIGURES
            },
            "classes": _classes([run[domain]["classes"] for run in runs]),
            "sizes": runs[0][domain]["sizes"],
            "images": runs[0][domain]["images"],
            "objects": runs[0][domain]["objects"],
        }
        for domain in DOMAINS
    }
    for domain in DOMAINS:
        values = [run[f"robust_{domain}_ap50"] for run in runs]
        found[f"robust_{domain}_ap50"] = mean_over_trainings(values).value
        found[f"robust_{domain}_interval"] = mean_over_trainings(values).to_json()
    by_seed = [{domain: {f: run[domain][f] for f in FIGURES} for domain in DOMAINS} for run in runs]
    return {
        **found,
        "by_seed": by_seed,
        "seeds": len(runs),
        "steps": runs[0]["steps"],
        "seconds": sum(trial.seconds for trial in trials) / len(trials),
        "curves": [run["curve"] for run in runs],
    }


def _mean(runs: Sequence[Mapping[str, Any]], domain: str, figure: str) -> float | None:
    mean: float | None = mean_over_trainings([run[domain][figure] for run in runs]).value
    return mean


def _classes(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        name: {
            "ap50_area": mean_over_trainings([run[name]["ap50_area"] for run in runs]).to_json(),
            "objects": runs[0][name]["objects"],
        }
        for name in runs[0]
    }


def _gain(found: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """The difference to the source's training of the same seed, on both domains."""
    return {
        domain: mean_over_trainings(
            [
                _difference(own[domain]["ap50_area"], plain[domain]["ap50_area"])
                for own, plain in zip(found["by_seed"], base["by_seed"], strict=True)
            ]
        ).to_json()
        for domain in DOMAINS
    }


def _difference(own: float | None, plain: float | None) -> float | None:
    return None if own is None or plain is None else own - plain


def _data(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in ("source", "target", "source_test", "target_test")}


def run_adapt(folder: RunFolder, say: Say) -> dict[str, Any]:
    """Run what is not yet done; returns the summary. Raises `RunError` where a training fails."""
    config = folder.config
    options = config_from(AdaptOptions, config)
    path = str(folder.path.resolve())
    first, *others = options.recipes
    sources: list[Piece] = [
        TrainRecipe(f"{first}/{number}", path, first, number) for number in range(options.seeds)
    ]
    rest: list[Piece] = [MeasureShift("shift", path)]
    rest += [
        TrainRecipe(f"{name}/{number}", path, name, number)
        for number in range(options.seeds)
        for name in others
    ]
    trials = carry_out(
        [sources, rest],
        folder,
        arm="adapt",
        say=say,
    )
    made = models.read_card(open_workspace(path).file(first, 0))
    return {**summarise(trials, config), "notes": list(made.provenance.get("notes", []))}
