"""Robust and non-robust features: what nets trained plainly, adversarially and apart look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.pieces import Piece
from experiments.reproduce.features.jobs import RADII, Compare, Setting, TrainRole
from experiments.reproduce.features.nets import ROLES
from experiments.reproduce.registry import EXPERIMENTS
from experiments.reproduce.study import Plan, Results, Study
from experiments.wording import number

REPEATS = 2
SMALL = {"data": "cifar10", "model": "vgg5?width=24", "epochs": 8}
REHEARSAL = {"data": "digits", "model": "vgg3?width=8", "epochs": 6}
FIGURES = ("low", "image", "edges")
ADVERSARIAL = [role for role, each in ROLES.items() if each.eps]
APART = [role for role, each in ROLES.items() if each.against]


def phases(plan: Plan) -> Sequence[Sequence[Piece]]:
    """R of every repetition, then all other nets, then a look at all."""
    chosen, count = (REHEARSAL, 40) if plan.quick else (SMALL, 1000)
    settings = [
        Setting(path=str(plan.folder), seed=plan.seed + number, **chosen)  # type: ignore[arg-type]
        for number in range(1 if plan.quick else REPEATS)
    ]
    return [
        [TrainRole(f"train/R/{of.seed}", of, "R") for of in settings],
        [
            TrainRole(f"train/{role}/{of.seed}", of, role)
            for of in settings
            for role in ROLES
            if role != "R"
        ],
        [Compare(f"compare/all/{of.seed}", of, count) for of in settings],
    ]


def summarise(results: Results) -> dict[str, Any]:
    """By repetition: how accurate every net is, and what was seen of all."""
    repeats: dict[str, Any] = {}
    for name in sorted(results):
        kind, role, repeat = name.split("/")
        of = repeats.setdefault(repeat, {"train": {}, "compare": {}})
        if kind == "train":
            of["train"][role] = results[name]
        else:
            of["compare"] = results[name]
    return {"study": "robust-features", "repeats": repeats}


def render(summary: Mapping[str, Any]) -> str:
    """Every repetition's nets, their likeness to R and the claims, in Markdown."""
    repeats = summary["repeats"]
    parts = [
        "# Robust and non-robust features",
        "Gradients of the loss to the image, of the same test images for all nets. `low`: share of "
        "their energy at frequencies up to 1/8 cycle a pixel; `image`: |cos| with the image less "
        "its mean; `edges`: Spearman's correlation of magnitudes with the image's edges. Means "
        "with 95 % bootstrap intervals over images; accuracies under PGD-10.",
    ]
    for repeat, of in repeats.items():
        seen = of["compare"]
        parts += [
            f"## Seed {repeat}",
            f"n = {seen['n']:,} images that all nets get right; robust accuracy on the first "
            f"{seen['judged']:,}. White noise: low {seen['noise_low']:.3f}.",
            _nets(of),
            _alike(seen),
        ]
    return "\n\n".join([*parts, "## Claims", _claims(repeats)]) + "\n"


def claims(repeats: Mapping[str, Any]) -> dict[str, bool]:
    """By a rule fixed beforehand: an interval over images clear of 0, in every repetition.

    Nothing is claimed where fewer than two images are right in all nets.
    """
    if any(of["compare"]["n"] < 2 for of in repeats.values()):
        return {}

    def above(role: str, figure: str) -> bool:
        return all(of["compare"]["beyond"][role][figure]["low"] > 0 for of in repeats.values())

    said = {"low": "smoother", "image": "more like the image", "edges": "more along edges"}
    found = {
        f"{role}'s gradients are {words} than R's": above(role, figure)
        for role in (*ADVERSARIAL, *APART)
        for figure, words in said.items()
    }
    for role in APART:
        found[f"{role}, trained away from R, is robust itself (above 10 % at eps 2/255)"] = all(
            of["compare"]["robust"][role]["2"] > 0.1 for of in repeats.values()
        )
    pair = "/".join(ADVERSARIAL)
    found["adversarially trained nets agree more with one another than plain ones"] = all(
        of["compare"]["pairs"][pair]["cosine"]["low"]
        > of["compare"]["pairs"]["R/R2"]["cosine"]["high"]
        for of in repeats.values()
    )
    return found


def _nets(of: Mapping[str, Any]) -> str:
    seen = of["compare"]
    radii = [f"{radius}/255" for radius in RADII]
    head = ["net", "trained", "accuracy", *radii, *FIGURES, "length", "Grad-CAM on edges"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for role, each in ROLES.items():
        alone, robust = seen["alone"][role], seen["robust"][role]
        cells = [
            role,
            each.says,
            f"{100 * of['train'][role]['test_acc']:.1f} %",
            *(f"{100 * robust[str(radius)]:.1f} %" for radius in RADII),
            *(number(alone[figure]) for figure in (*FIGURES, "norm", "gradcam_edges")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _alike(seen: Mapping[str, Any]) -> str:
    head = ["pair", "cosine of gradients", "CAV: |Spearman|", "Grad-CAM: Spearman, SSIM"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for pair, each in seen["pairs"].items():
        cam = each["gradcam"]
        cells = [
            pair,
            number(each["cosine"]),
            number(each["cav"]["absolute"]),
            f"{number(cam['signed'])}, {number(cam['ssim'])}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _claims(repeats: Mapping[str, Any]) -> str:
    lines = ["| claim | in every repetition |", "|---|---|"]
    lines += [
        f"| {claim} | {'yes' if holds else 'no'} |" for claim, holds in claims(repeats).items()
    ]
    return "\n".join(lines)


EXPERIMENTS.enter(
    "robust-features",
    Study(
        name="robust-features",
        title="Robust and non-robust features: gradients and maps of nets of different training",
        source="project report 20K23341, Figure 2: robust and non-robust features",
        phases=phases,
        summarise=summarise,
        render=render,
    ),
)
