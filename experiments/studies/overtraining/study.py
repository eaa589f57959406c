"""Heat maps under over-training, with and without augmentation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from msgspec import UNSET

from experiments.studies.base import (
    CommandRun,
    Header,
    PaperItem,
    Plan,
    Results,
    Study,
    StudyJob,
    register,
)
from experiments.studies.overtraining.claims import ANSWERS, ERRORS, MAPS, claims, late
from experiments.studies.overtraining.curves import figures
from experiments.studies.overtraining.jobs import (
    GROUPS,
    Arm,
    Choose,
    Chosen,
    Group,
    Groups,
    Look,
    Seen,
    Segment,
    Setting,
    Shown,
    Strips,
    Summary,
    Trained,
    check,
)
from robustkit.report import markdown_table
from robustkit.runs.summaries import Result

ARMS = {"plain": "none", "augmented": "crop_flip"}
# Segments, and epochs of each; a model file is kept, and looked at, for every segment.
LENGTHS = {"smoke": (3, 2), "small": (200, 1), "paper": (220, 5)}
# What two cores do, and what the publication did, for a GPU.
SMALL = {"model": "resnet18?width=8", "data": "cifar10", "count": 5000, "lr": 0.05}
PUBLISHED = {"model": "resnet18", "data": "cifar10", "count": 50_000, "lr": 0.05}
REHEARSAL = {"model": "vgg3?width=4", "data": "digits", "count": 200, "lr": 0.05}


def jobs(plan: Plan) -> Sequence[Sequence[StudyJob]]:
    """Return segments of both arms, then the choice of images, then every checkpoint."""
    chosen = {"smoke": REHEARSAL, "small": SMALL, "paper": PUBLISHED}[plan.scale]
    segments, epochs = LENGTHS[plan.scale]
    settings = {
        arm: Setting(
            path=str(plan.folder),
            arm=arm,
            augment=augment,
            epochs=epochs,
            seed=plan.seed,
            device=plan.device,
            **chosen,  # type: ignore[arg-type]
        )
        for arm, augment in ARMS.items()
    }
    numbers = range(1, segments + 1)
    each, few = (2, 1) if plan.smoke else (5, 3)
    trainings: list[list[StudyJob]] = [
        [Segment(f"train/{arm}/{number:04}", setting, number) for arm, setting in settings.items()]
        for number in numbers
    ]
    choices: list[StudyJob] = [
        Choose(f"choice/{arm}", setting, segments, each, few) for arm, setting in settings.items()
    ]
    looks: list[StudyJob] = [
        Look(f"maps/{arm}/{number:04}", setting, number)
        for arm, setting in settings.items()
        for number in numbers
    ]
    strips: list[StudyJob] = [
        Strips(f"strips/{arm}", setting, segments, 10) for arm, setting in settings.items()
    ]
    return [*trainings, choices, looks, strips]


def summarise(results: Results, header: Header) -> Summary:
    """Return, by arm, the trainings, choices and maps of every segment.

    Values have six digits here, all of them in the ledger.
    """
    looks = results.of(Look, dict[str, Seen])
    strips = {job.setting.arm: shown for job, shown in results.of(Strips, Shown)}
    trained: dict[str, dict[str, Trained]] = {}
    for job, segment in results.of(Segment, Trained):
        trained.setdefault(job.setting.arm, {})[str(job.number)] = _rounded(segment)
    arms = {}
    for choose, choice in results.of(Choose, Chosen):
        arm = choose.setting.arm
        of_arm = {str(job.number): look for job, look in looks if job.setting.arm == arm}
        arms[arm] = Arm(
            train=trained[arm],
            choice=choice,
            maps={number: _groups(look) for number, look in of_arm.items()},
            windows={
                name: measured.window
                for look in of_arm.values()
                for group in look.values()
                for name, measured in group.maps.items()
            },
            strips=strips.get(arm, UNSET),
        )
    return Summary(**header, arms=arms)


def _groups(looks: Mapping[str, Seen]) -> Groups:
    """Return groups with six digits, SSIM's windows left out."""
    return {name: _rounded(Group.from_json(group.to_json(), name)) for name, group in looks.items()}


R = TypeVar("R", bound=Result)


def _rounded(result: R) -> R:
    return type(result).from_json(_six_digits(result.to_json()), "")


def _six_digits(value: Any) -> Any:
    """Return a copy of a plain value with floats of six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {name: _six_digits(item) for name, item in value.items()}
    return [_six_digits(item) for item in value] if isinstance(value, list) else value


def render(summary: Summary) -> str:
    """Return errors and losses, likeness of the maps at the end, in Markdown."""
    arms = summary.arms
    parts = [
        "# Heat maps under over-training",
        "Against the checkpoint of lowest validation loss (the reference). A: surest right, B: "
        "surest wrong, C: least sure, of each class. SSIM of maps laid into [0,1]. Momentum "
        "starts anew at every checkpoint.",
        "## Training",
        _training(arms),
        *(
            part
            for arm, result in arms.items()
            if result.maps
            for part in (f"## Maps, {arm}", _maps(result))
        ),
    ]
    return "\n\n".join(parts)


def _training(arms: Mapping[str, Arm]) -> str:
    rows = []
    for arm, result in arms.items():
        last = str(len(result.train))
        for name, number in (("reference", str(result.choice.reference)), ("last", last)):
            trained = result.train[number]
            errors = [f"{100 * part.error:.1f} %" for part in (trained.train, trained.test)]
            values = [f"{trained.test.loss:.3f}", f"{trained.last_layer_norm:.2f}"]
            rows.append([arm, f"{number} ({name})", *errors, *values])
    head = ["arm", "checkpoint", "train error", "test error", "test loss", "last layer's norm"]
    return markdown_table(head, rows)


def _maps(result: Arm) -> str:
    kinds = next(iter(result.maps.values()))["A"].maps
    rows = []
    for kind in kinds:
        cells = [
            f"{_text(late(result, group, kind, 'spearman'))}, "
            f"{_text(late(result, group, kind, 'ssim'))}"
            for group in GROUPS
        ]
        rows.append([kind, *cells])
    return markdown_table(["map", *(f"{group}: Spearman, SSIM" for group in GROUPS)], rows)


def _text(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _trained(job: StudyJob | CommandRun) -> bool:
    return isinstance(job, Segment | Choose)


register(
    Study(
        name="overtraining",
        system="over-training",
        title="What over-training does to heat maps",
        source="in Japanese: ResNet-18 on CIFAR-10 past 1,000 epochs, Figures 2 to 5",
        scales={
            "smoke": "digits, a small net, 3 checkpoints; seconds",
            "small": "5,000 images of CIFAR-10, a ResNet-18 of width 8, 200 epochs; two hours",
            "paper": "CIFAR-10 whole, ResNet-18, 1,100 epochs; for a GPU (--device cuda)",
        },
        items=(
            PaperItem(name=ERRORS, shows="Figure 2: error, loss and norm", needs=_trained),
            PaperItem(name=ANSWERS, shows="Figure 4: entropy and p of data A, B and C"),
            PaperItem(name=MAPS, shows="Figures 3 and 5: strips, SSIM and Spearman against epochs"),
        ),
        deviations=(
            "Images that are wrong are ranked for B and C by the highest probability; the source "
            "takes how far that of the class lies below it.",
            "Likeness of maps is the mean over the last tenth of the checkpoints.",
            "Momentum starts anew at every checkpoint.",
            "The printed rank correlation is wrong under ties; average ranks are used.",
            "Claims without an image group in the source are decided on group A.",
        ),
        jobs=jobs,
        summarise=summarise,
        summary=Summary,
        check=check,
        claims=claims,
        render=render,
        figures=figures,
        options=("device",),
        small_deviations=(
            "5,000 training images, a net of an eighth width and 200 epochs in the place of more "
            "than 1,000.",
            "The rules for SSIM and for the fall of Grad-CAM's Spearman are younger than the run, "
            "and so is guided-minus in the rule for what hardly changes.",
        ),
    )
)
