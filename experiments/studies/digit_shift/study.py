"""A shift that was not rendered: classifiers of MNIST on scikit-learn's digits, and the reverse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from experiments.studies.base import (
    OURS,
    Claim,
    Header,
    PaperItem,
    Plan,
    Results,
    Study,
    clear_of,
    register,
)
from experiments.studies.digit_shift.jobs import (
    COLLECTIONS,
    Collection,
    Radii,
    Summary,
    Trained,
    TrainNumerals,
    check,
)
from robustkit.report import format_percent, markdown_table
from robustkit.stats import Mean, mean_over_trainings

RADII = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)
SEEDS = 5
CLAIMED = "0.1"
ITEM = "digit-shift"
Accuracy = Literal["source", "robust", "target", "target_adabn"]
SHOWN: tuple[Accuracy, ...] = ("source", "robust", "target")


def jobs(plan: Plan) -> Sequence[Sequence[TrainNumerals]]:
    """Return every radius, both ways, every seed."""
    radii, seeds = ((0.0, 0.1), 1) if plan.smoke else (RADII, SEEDS)
    count, epochs = (200, 1) if plan.smoke else (4000, 10)
    sources: tuple[Collection, ...] = ("digits",) if plan.smoke else COLLECTIONS
    return [
        [
            TrainNumerals(
                f"{source}/{eps:g}/{number}", str(plan.folder), source, eps, count, epochs, number
            )
            for number in range(plan.seed, plan.seed + seeds)
            for source in sources
            for eps in radii
        ]
    ]


def summarise(results: Results, header: Header) -> Summary:
    """Return the trainings by source, radius and seed."""
    pairs = results.of(TrainNumerals, Trained)
    sources: dict[Collection, Radii] = {}
    for job, trained in sorted(pairs, key=lambda pair: (pair[0].source, pair[0].eps)):
        radii = sources.setdefault(job.source, {})
        radii.setdefault(f"{job.eps:g}", {})[str(job.number)] = trained
    return Summary(**header, sources=sources)


def gain(radii: Radii, eps: str, accuracy: Accuracy = "target") -> Mean:
    """Return the gain of a radius over plain training on the target, seed by seed."""
    return mean_over_trainings(
        [getattr(radii[eps][seed], accuracy) - radii["0"][seed].target for seed in radii[eps]]
    )


def render(summary: Summary) -> str:
    """Return accuracies and gains by radius, the distance and what it advises, in Markdown."""
    parts = [
        "# A shift that was not rendered",
        "Accuracies in %, images of 16 × 16 pixels; means over trainings with Student's 95 % "
        "intervals. Gains are points on the target over plain training, seed by seed. The ratio is "
        "`robustkit shift`'s, as the plain net sees it.",
    ]
    for source, radii in summary.sources.items():
        parts += [f"## {source} to {_other(source)}", _table(radii), _advice(radii)]
    return "\n\n".join(parts)


def claims(summary: Summary) -> list[Claim]:
    """Decide at the radius `CLAIMED`, by intervals over seeds clear of 0."""
    decided = []
    for source, radii in summary.sources.items():
        way = f"{source} to {_other(source)}"
        gained, adapted = gain(radii, CLAIMED), gain(radii, "0", "target_adabn")
        advised = {run.shift.advice.startswith("adversarial") for run in radii["0"].values()}
        # Right where what it advises shows; an interval around 0 decides nothing, and trainings
        # that are advised this and that do not either.
        pays = clear_of(gained, 0.0)
        right = None if pays is None or len(advised) > 1 else advised == {pays}
        rows = (
            (f"adversarial training pays at radius {CLAIMED}", gained, pays),
            ("the advice is right", gained, right),
            ("AdaBN pays", adapted, clear_of(adapted, 0.0)),
        )
        decided += [
            Claim(
                item=ITEM,
                what=f"{way}: {effect}",
                published="ours",
                ours=f"{format_percent(points, sign=True)} points, {points.n} trainings",
                holds=holds,
            )
            for effect, points, holds in rows
        ]
    return decided


def _other(source: str) -> str:
    return next(name for name in COLLECTIONS if name != source)


def _table(radii: Radii) -> str:
    rows = []
    for eps, runs in radii.items():
        cells = [
            format_percent(mean_over_trainings([getattr(run, score) for run in runs.values()]))
            for score in SHOWN
        ]
        cells.append("–" if eps == "0" else format_percent(gain(radii, eps), sign=True))
        cells.append(
            format_percent(mean_over_trainings([run.target_adabn for run in runs.values()]))
        )
        rows.append([eps, *cells])
    head = ["radius", "source", "source, attacked", "target", "gain", "target, AdaBN"]
    return markdown_table(head, rows)


def _advice(radii: Radii) -> str:
    runs = list(radii["0"].values())
    ratio = mean_over_trainings([run.shift.ratio for run in runs]).value
    advices = sorted({run.shift.advice for run in runs})
    return f"Ratio {ratio:.1f} (threshold {runs[0].shift.threshold:g}): {'; '.join(advices)}."


register(
    Study(
        name="digit-shift",
        system=OURS,
        title="Adversarial training and a shift that was not rendered: MNIST and sklearn's digits",
        source="does the advice of the distance hold where no renderer made the domains?",
        scales={
            "smoke": "200 digits, one epoch; seconds",
            "small": "4,000 images of MNIST, 10 epochs, 6 radii, 5 seeds; 20 core-minutes",
        },
        items=(PaperItem(name=ITEM, shows="accuracies and gains by radius, both ways"),),
        deviations=(),
        jobs=jobs,
        summarise=summarise,
        summary=Summary,
        check=lambda summary, where: check(summary, where, ("0", CLAIMED)),
        claims=claims,
        render=render,
    )
)
