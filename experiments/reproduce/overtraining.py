"""What over-training does to heat maps, with and without augmentation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.pieces import Piece
from experiments.reproduce.heat.jobs import GROUPS, Choose, Look, Segment, Setting, Strips
from experiments.reproduce.heat.traces import draw_traces
from experiments.reproduce.registry import EXPERIMENTS
from experiments.reproduce.study import Plan, Results, Study
from experiments.wording import verdicts

ARMS = {"plain": "none", "augmented": "crop_flip"}
# Segments, and epochs of each; a model file is kept, and looked at, for every segment.
LENGTHS = {"quick": (3, 2), "small": (200, 1), "published": (220, 5)}
# What two cores do, and what the publication did, for a GPU.
SMALL = {"model": "resnet18?width=8", "data": "cifar10", "count": 5000, "lr": 0.05}
PUBLISHED = {"model": "resnet18", "data": "cifar10", "count": 50_000, "lr": 0.05}
REHEARSAL = {"model": "vgg3?width=4", "data": "digits", "count": 200, "lr": 0.05}
LATE = 0.1  # of the segments: those that "at the end" is the mean of


def phases(plan: Plan) -> Sequence[Sequence[Piece]]:
    """Segment by segment, both arms at once; then the choice of images; then every checkpoint."""
    chosen = {"quick": REHEARSAL, "small": SMALL, "published": PUBLISHED}[plan.size]
    segments, epochs = LENGTHS[plan.size]
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
    each, few = (2, 1) if plan.quick else (5, 3)
    trainings: list[list[Piece]] = [
        [Segment(f"train/{arm}/{number:04}", of, number) for arm, of in settings.items()]
        for number in numbers
    ]
    choices: list[Piece] = [
        Choose(f"choice/{arm}", of, segments, each, few) for arm, of in settings.items()
    ]
    looks: list[Piece] = [
        Look(f"maps/{arm}/{number:04}", of, number)
        for arm, of in settings.items()
        for number in numbers
    ]
    strips: list[Piece] = [
        Strips(f"strips/{arm}", of, segments, 10) for arm, of in settings.items()
    ]
    return [*trainings, choices, looks, strips]


def summarise(results: Results) -> dict[str, Any]:
    """By arm: what was trained, chosen and seen, segment by segment.

    Figures have six digits here, all of them in the ledger; `windows` are SSIM's, in pixels, which
    the checkpoints share.
    """
    arms: dict[str, Any] = {}
    for name in sorted(results):
        kind, arm, *rest = name.split("/")
        of = arms.setdefault(arm, {"train": {}, "maps": {}, "windows": {}})
        result = _rounded(results[name])
        if kind == "maps":
            for group in result.values():
                for map_name, each in group["maps"].items():
                    of["windows"][map_name] = each.pop("window")
        if rest:
            of[kind][str(int(rest[0]))] = result
        else:
            of[kind] = result
    return {"study": "overtraining", "arms": arms}


def _rounded(value: Any) -> Any:
    """A copy with floats of six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


def render(summary: Mapping[str, Any]) -> str:
    """Errors and losses, likeness of the maps at the end, the claims, in Markdown."""
    arms = summary["arms"]
    parts = [
        "# Heat maps under over-training",
        "Against the checkpoint of lowest validation loss (the reference). A: surest right, B: "
        "surest wrong, C: least sure, of each class. SSIM of maps laid into [0,1]. Momentum "
        "starts anew at every checkpoint.",
        "## Training",
        _training(arms),
        *(part for arm, of in arms.items() for part in (f"## Maps, {arm}", _maps(of))),
        "## Claims",
        verdicts(claims(arms)),
    ]
    return "\n\n".join(parts) + "\n"


def _training(arms: Mapping[str, Any]) -> str:
    head = "| arm | checkpoint | train error | test error | test loss | last layer's norm |"
    lines = [head, "|---" * 6 + "|"]
    for arm, of in arms.items():
        last = str(len(of["train"]))
        for name, number in (("reference", str(of["choice"]["reference"])), ("last", last)):
            seen = of["train"][number]
            lines.append(
                f"| {arm} | {number} ({name}) | {100 * seen['train']['error']:.1f} % | "
                f"{100 * seen['test']['error']:.1f} % | {seen['test']['loss']:.3f} | "
                f"{seen['last_layer_norm']:.2f} |"
            )
    return "\n".join(lines)


def _maps(of: Mapping[str, Any]) -> str:
    kinds = next(iter(of["maps"].values()))["A"]["maps"]
    lines = ["| map | " + " | ".join(f"{group}: Spearman, SSIM" for group in GROUPS) + " |"]
    lines.append("|---" * (1 + len(GROUPS)) + "|")
    for kind in kinds:
        cells = [
            f"{_text(late(of, group, kind, 'spearman'))}, {_text(late(of, group, kind, 'ssim'))}"
            for group in GROUPS
        ]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def late(of: Mapping[str, Any], group: str, kind: str, figure: str) -> float:
    """The mean of a likeness over the last tenth of the checkpoints; NaN without any value.

    Checkpoints up to the reference are no end: they are left out.
    """
    numbers = sorted(of["maps"], key=int)
    count = max(1, round(LATE * len(numbers)))
    after = [number for number in numbers[-count:] if int(number) > of["choice"]["reference"]]
    seen = [of["maps"][number].get(group) for number in after]
    values = [each["maps"][kind][figure] for each in seen if each is not None]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan


def claims(arms: Mapping[str, Any]) -> dict[str, bool | None]:
    """The publication's claims by a rule fixed beforehand, on group A where it names none."""
    found: dict[str, bool | None] = {}
    augmented = arms["augmented"]
    then = augmented["train"][str(augmented["choice"]["reference"])]["test"]
    now = augmented["train"][str(len(augmented["train"]))]["test"]
    trained_on = len(augmented["train"]) > augmented["choice"]["reference"]
    for claim, holds in {
        "the test error falls on": now["error"] < then["error"],
        "the test loss rises": now["loss"] > then["loss"],
    }.items():
        found[f"augmented: past the reference {claim}"] = holds if trained_on else None
    for arm, of in arms.items():
        rank = {
            kind: late(of, "A", kind, "spearman")
            for kind in ("gradcam", "saliency", "deconvnet", "guided")
        }
        known = not any(math.isnan(value) for value in rank.values())
        steady = min(rank["deconvnet"], rank["guided"]) > 0.9
        verdicts = {
            "Grad-CAM's Spearman exceeds saliency's": rank["gradcam"] > rank["saliency"],
            "saliency's Spearman falls to 0.1": rank["saliency"] <= 0.1,
            "deconvnet and guided hardly change (Spearman above 0.9)": steady,
        }
        for claim, holds in verdicts.items():
            found[f"{arm}: {claim}"] = holds if known else None
        last = of["maps"][max(of["maps"], key=int)]
        groups = [last.get(group) for group in ("A", "C")]
        found[f"{arm}: A stays confident (p above 0.9), C does not"] = (
            None if None in groups else groups[0]["p_class"] > 0.9 > groups[1]["p_class"]
        )
    return found


def _text(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


EXPERIMENTS.enter(
    "overtraining",
    Study(
        name="overtraining",
        title="What over-training does to heat maps",
        source="in Japanese: ResNet-18 on CIFAR-10 past 1,000 epochs, heat maps against epoch 41",
        phases=phases,
        summarise=summarise,
        render=render,
        draw=draw_traces,
        takes=("published", "device"),
    ),
)
