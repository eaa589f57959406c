"""Robust and non-robust features: what nets trained plainly, adversarially and apart look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from experiments.studies.base import (
    NOT_GIVEN,
    Claim,
    Header,
    PaperItem,
    Plan,
    Results,
    Study,
    StudyJob,
    beyond,
    clear_of,
    everywhere,
    register,
)
from experiments.studies.robust_features.jobs import (
    RADII,
    ROLES,
    Compare,
    Compared,
    Repeat,
    Setting,
    Summary,
    Trained,
    TrainRole,
    check,
)
from robustkit.report import format_estimate, format_percent, markdown_table
from robustkit.stats import Mean, Rate, wilson

REPEATS = 2
SMALL = {"data": "cifar10", "model": "vgg5?width=24", "epochs": 8}
REHEARSAL = {"data": "digits", "model": "vgg3?width=8", "epochs": 6}
PAPER = {"data": "cifar10", "model": "resnet18", "epochs": 60}
SETTINGS = {"smoke": (REHEARSAL, 40), "small": (SMALL, 1000), "paper": (PAPER, 5000)}
ITEM = "robust-features"
Property = Literal["low", "image", "edges", "norm", "gradcam_edges"]
PROPERTIES: tuple[Property, ...] = ("low", "image", "edges")
SHOWN: tuple[Property, ...] = (*PROPERTIES, "norm", "gradcam_edges")
ADVERSARIAL = [role for role, properties in ROLES.items() if properties.eps]
# The pairs of nets that are compared.
ROBUST, PLAIN = "/".join(ADVERSARIAL), "R/R2"
APART = [role for role, properties in ROLES.items() if properties.against]


def jobs(plan: Plan) -> Sequence[Sequence[StudyJob]]:
    """Return R of every repetition, then all other nets, then their comparison."""
    chosen, count = SETTINGS[plan.scale]
    settings = [
        Setting(path=str(plan.folder), seed=plan.seed + number, **chosen)  # type: ignore[arg-type]
        for number in range(1 if plan.smoke else REPEATS)
    ]
    return [
        [TrainRole(f"train/R/{setting.seed}", setting, "R") for setting in settings],
        [
            TrainRole(f"train/{role}/{setting.seed}", setting, role)
            for setting in settings
            for role in ROLES
            if role != "R"
        ],
        [Compare(f"compare/all/{setting.seed}", setting, count) for setting in settings],
    ]


def summarise(results: Results, header: Header) -> Summary:
    """Return, by repetition, the accuracy of every net and the comparison of all."""
    trained: dict[str, dict[str, Trained]] = {}
    for training, result in results.of(TrainRole, Trained):
        trained.setdefault(str(training.setting.seed), {})[training.role] = result
    repeats = {
        str(job.setting.seed): Repeat(train=trained[str(job.setting.seed)], compare=compared)
        for job, compared in results.of(Compare, Compared)
    }
    return Summary(**header, repeats=repeats)


def render(summary: Summary) -> str:
    """Return every repetition's nets, their likeness to R, in Markdown."""
    repeats = summary.repeats
    parts = [
        "# Robust and non-robust features",
        "Gradients of the loss to the image, of the same test images for all nets. `low`: share of "
        "their energy at frequencies up to 1/8 cycle a pixel; `image`: |cos| with the image less "
        "its mean; `edges`: Spearman's correlation of magnitudes with the image's edges. Means "
        "with 95 % bootstrap intervals over images; accuracies under PGD-10.",
    ]
    for repeat, repetition in repeats.items():
        compared = repetition.compare
        parts += [
            f"## Seed {repeat}",
            f"n = {compared.n:,} images that all nets get right; robust accuracy on the first "
            f"{compared.judged:,}. White noise: low {compared.noise_low:.3f}.",
            _nets(repetition),
            _alike(compared),
        ]
    return "\n\n".join(parts)


def claims(summary: Summary) -> list[Claim]:
    """Decide by intervals over images that are clear of the bound in every repetition.

    Nothing can be told where fewer than two images are right in all nets.
    """
    comparisons = [repetition.compare for repetition in summary.repeats.values()]
    n = f"n = {' and '.join(str(comparison.n) for comparison in comparisons)} images"
    adjectives: dict[Property, str] = {
        "low": "smoother",
        "image": "more like the image",
        "edges": "more along edges",
    }
    decided = []
    for role in (*ADVERSARIAL, *APART):
        for name, words in adjectives.items():
            further = [getattr(comparison.beyond[role], name) for comparison in comparisons]
            decided.append(
                Claim(
                    item=ITEM,
                    what=f"{role}'s gradients are {words} than R's",
                    published="Figure 2: one image of each" if role in ADVERSARIAL else NOT_GIVEN,
                    ours=f"beyond R: {'; '.join(map(_fine, further))}; {n}",
                    holds=everywhere([clear_of(mean, 0.0) for mean in further]),
                )
            )
    for role in APART:
        shares = [
            wilson(comparison.robust[role]["2"], comparison.judged) for comparison in comparisons
        ]
        plain = ", ".join(
            f"{100 * comparison.robust['R']['2']:.1f} %" for comparison in comparisons
        )
        among = f"{comparisons[0].judged:,} images, of R itself {plain}"
        decided.append(
            Claim(
                item=ITEM,
                what=f"{role}, trained away from R, is robust itself (above 10 % at ε = 2/255)",
                published=NOT_GIVEN,
                ours=f"{', '.join(map(_share, shares))} of {among}",
                holds=everywhere([clear_of(rate, 0.1) for rate in shares]),
            )
        )
    pairs = [(comparison.pairs[ROBUST], comparison.pairs[PLAIN]) for comparison in comparisons]
    apart = [beyond(robust.cosine, plain.cosine) for robust, plain in pairs]
    cosines = [
        f"{format_estimate(robust.cosine)}, plain {format_estimate(plain.cosine)}"
        for robust, plain in pairs
    ]
    decided.append(
        Claim(
            item=ITEM,
            what="adversarially trained nets agree more with one another than plain ones",
            published="robust features do not depend on the domain (section 4)",
            ours=f"cosines {'; '.join(cosines)}; {n}",
            holds=everywhere(apart),
        )
    )
    return decided


def _share(rate: Rate) -> str:
    return format_percent(rate, unit=" %")


def _fine(mean: Mean) -> str:
    """Return the mean and its interval to three places: the differences are small."""
    if mean.low is None:
        return "–"
    return format_estimate(mean, "+.3f")


def _nets(repetition: Repeat) -> str:
    compared = repetition.compare
    radii = [f"{radius}/255" for radius in RADII]
    head = ["net", "trained", "accuracy", *radii, *PROPERTIES, "length", "Grad-CAM on edges"]
    rows = []
    for role, training in ROLES.items():
        alone, robust = compared.alone[role], compared.robust[role]
        cells = [
            role,
            training.says,
            f"{100 * repetition.train[role].test_acc:.1f} %",
            *(f"{100 * robust[str(radius)]:.1f} %" for radius in RADII),
            *(format_estimate(getattr(alone, name)) for name in SHOWN),
        ]
        rows.append(cells)
    return markdown_table(head, rows)


def _alike(compared: Compared) -> str:
    head = ["pair", "cosine of gradients", "CAV: |Spearman|", "Grad-CAM: Spearman, SSIM"]
    rows = []
    for pair, pair_result in compared.pairs.items():
        cam = pair_result.gradcam
        cells = [
            pair,
            format_estimate(pair_result.cosine),
            format_estimate(pair_result.cav.absolute),
            f"{format_estimate(cam.signed)}, {format_estimate(cam.ssim)}",
        ]
        rows.append(cells)
    return markdown_table(head, rows)


register(
    Study(
        name="robust-features",
        system="adversarial adaptation",
        title="Robust and non-robust features: gradients and maps of nets of different training",
        source="project report 20K23341, Figure 2: robust and non-robust features",
        scales={
            "smoke": "digits, small nets, one repetition; seconds",
            "small": "CIFAR-10, `vgg5`, 8 epochs, two repetitions of seven nets; an hour",
            "paper": "CIFAR-10 whole, ResNet-18, 60 epochs, two repetitions; for a GPU",
        },
        items=(PaperItem(name=ITEM, shows="Figure 2: robust and non-robust features"),),
        deviations=(
            "Classifiers, not detectors: the figure does not say what it shows; the same gradients "
            "of detectors are in the report of `robustkit adapt`.",
            "Likeness to the image is measured (low frequencies, alignment, edges), not looked at.",
        ),
        jobs=jobs,
        summarise=summarise,
        summary=Summary,
        check=lambda summary, where: check(
            summary, where, ROLES, tuple(map(str, RADII)), (ROBUST, PLAIN)
        ),
        claims=claims,
        render=render,
    )
)
