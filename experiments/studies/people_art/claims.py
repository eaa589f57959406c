"""The claims on source detectors on real pictures, by rules fixed before the study was run.

A gain is a difference of AP50 to as many plain steps, training by training, on the same pictures;
it is there where its 95 % interval over trainings and pictures lies above 0, and absent where it
lies below. A trend over styles is there where its interval over styles is clear of 0, its p is
below 5 %, and every seed's own gains go the same way; a threshold is better than one answer for all
by McNemar's test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from experiments.studies.base import NOT_GIVEN, Claim, clear_of
from experiments.studies.people_art.jobs import BLIND, SOURCE, TARGETS, Summary, Trained
from experiments.studies.thresholds import (
    SIGNIFICANT,
    Points,
    Trend,
    better_than_constant,
    constant_answer,
    correlated,
    fitted,
    left_out,
    trend,
)
from robustkit.report import format_estimate, format_percent
from robustkit.stats import Mean, mean_over_pictures_too, mean_over_trainings

GAINS, ALIGNED = "people-gains", "people-alignment"
DISTANCE, DETECTOR = "people-distance", "people-detector"
REPORT = "report, section 4 (2)"
PLAIN, CLAIMED, BOTH = "longer", "adversarial", "adversarial+aligned"
ASKED = 0.45  # AP50 of plain training on the source's own test pictures


def runs_on(summary: Summary, recipe: str, domain: str) -> Mapping[str, Trained]:
    """Return the trainings of a recipe for a domain, by seed."""
    trainings = summary.recipes.get(recipe, {})
    return trainings.get(BLIND, trainings.get(domain, {}))


def precision(summary: Summary, recipe: str, domain: str) -> Mean:
    """Return AP50 by area of a recipe on a domain, over trainings and pictures."""
    scored = [run.domains[domain] for run in runs_on(summary, recipe, domain).values()]
    return mean_over_pictures_too(
        [each.ap50_area for each in scored], [each.redrawn for each in scored]
    )


def gain(summary: Summary, recipe: str, domain: str, over: str = PLAIN) -> Mean:
    """Return the gain of a recipe on a domain, over trainings and pictures."""
    own, base = runs_on(summary, recipe, domain), runs_on(summary, over, domain)
    pairs = [
        (own[seed].domains[domain], base[seed].domains[domain]) for seed in own if seed in base
    ]
    return mean_over_pictures_too(
        [_difference(first.ap50_area, second.ap50_area) for first, second in pairs],
        [
            [a - b for a, b in zip(first.redrawn, second.redrawn, strict=True)]
            for first, second in pairs
        ],
    )


def lost(summary: Summary, recipe: str, domain: str) -> Mean:
    """Return by how much less a recipe finds on a domain than on the source, over trainings."""
    runs = runs_on(summary, recipe, domain).values()
    return mean_over_trainings(
        [_difference(run.domains[SOURCE].ap50_area, run.domains[domain].ap50_area) for run in runs]
    )


def nearer(summary: Summary, recipe: str, domain: str, than: str = PLAIN) -> Mean:
    """Return by how much nearer a recipe's own features bring a domain, over trainings."""
    own, base = runs_on(summary, recipe, domain), runs_on(summary, than, domain)
    return mean_over_trainings(
        [
            _difference(base[seed].distances[domain], own[seed].distances[domain])
            for seed in own
            if seed in base
        ]
    )


def gain_on_style(summary: Summary, style: str, recipe: str = CLAIMED) -> Mean:
    """Return the gain of a recipe that sees no target on the pictures of one style."""
    own, base = (runs_on(summary, name, BLIND) for name in (recipe, PLAIN))
    return mean_over_trainings(
        [
            _difference(own[seed].styles[style], base[seed].styles[style])
            for seed in own
            if seed in base and style in own[seed].styles
        ]
    )


def by_style(summary: Summary) -> Points:
    """Return distance and mean gain of every style."""
    found = []
    for style, shift in summary.styles.items():
        gained = gain_on_style(summary, style).value
        if gained is not None and shift.ratio is not None:
            found.append((shift.ratio, gained))
    return found


def claims(summary: Summary) -> list[Claim]:
    """Decide the claims."""
    return [
        *_detector(summary),
        *_gains(summary),
        *_aligned(summary),
        *_distance(summary),
    ]


def _detector(summary: Summary) -> Iterator[Claim]:
    found = precision(summary, PLAIN, SOURCE)
    yield Claim(
        item=DETECTOR,
        what=f"plain training finds people in photographs: AP50 above {100 * ASKED:g} %",
        published=NOT_GIVEN,
        ours=_percent(found),
        holds=clear_of(found, ASKED),
    )
    for target in TARGETS:
        cost = lost(summary, PLAIN, target)
        yield Claim(
            item=DETECTOR,
            what=f"the shift to {target} costs some of it",
            published=NOT_GIVEN,
            ours=_percent(cost),
            holds=clear_of(cost, 0.0),
        )


def _gains(summary: Summary) -> Iterator[Claim]:
    for target in TARGETS:
        gained = gain(summary, CLAIMED, target)
        yield Claim(
            item=GAINS,
            what=f"adversarial training beats as many plain steps on {target}",
            published=f"VOC to Clipart1k: about +6 mAP ({REPORT})",
            ours=_percent(gained),
            holds=clear_of(gained, 0.0),
        )


def _aligned(summary: Summary) -> Iterator[Claim]:
    for target in TARGETS:
        brought = nearer(summary, "aligned", target)
        yield Claim(
            item=ALIGNED,
            what=f"alignment acts: features of {target} come nearer to the source's",
            published=NOT_GIVEN,
            ours=f"distance {format_estimate(brought, '+.1f')} nearer, {brought.n} trainings",
            holds=clear_of(brought, 0.0),
        )
        gained = gain(summary, BOTH, target, over=CLAIMED)
        yield Claim(
            item=ALIGNED,
            what=f"alignment adds to adversarial training on {target}",
            published=f"VOC to Clipart1k: from about +6 to about +12 mAP ({REPORT})",
            ours=_percent(gained),
            holds=clear_of(gained, 0.0),
        )


def _distance(summary: Summary) -> Iterator[Claim]:
    points = by_style(summary)
    found = trend(points)
    yield Claim(
        item=DISTANCE,
        what="adversarial training gains more the farther the style",
        published=f"the farther the domains, the larger the gain ({REPORT})",
        ours="too few styles"
        if found is None
        else f"Spearman {found.correlation:+.2f} [{found.low:+.2f}, {found.high:+.2f}], "
        f"p = {found.p_value:.2g}, {found.n} styles",
        holds=_goes(summary, found),
    )
    if len(points) < 4:
        return
    styles = {str(number): [point] for number, point in enumerate(points)}
    right, constant = sum(left_out(styles)), constant_answer(points)
    yield Claim(
        item=DISTANCE,
        what="a threshold fitted on other styles predicts more signs of the gain than one answer "
        "for all",
        published="a threshold on Fréchet's distance, not given (abstract)",
        ours=f"{right} of {len(points)}, one answer {constant}; fitted on all: "
        f"{fitted(points)[0]:.1f}",
        holds=better_than_constant(styles),
    )


def _goes(summary: Summary, found: Trend | None) -> bool | None:
    """Return whether gains grow with the distance, in all and seed by seed; None if undecided."""
    if found is None or found.low <= 0 <= found.high or found.p_value >= SIGNIFICANT:
        return None
    own, base = (runs_on(summary, name, BLIND) for name in (CLAIMED, PLAIN))
    for seed in own.keys() & base.keys():
        of_seed = [
            (shift.ratio, gained)
            for style, shift in summary.styles.items()
            if (gained := _difference(own[seed].styles[style], base[seed].styles[style]))
            is not None
        ]
        if not correlated(of_seed) * found.correlation > 0:
            return None
    return found.low > 0


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _percent(mean: Mean) -> str:
    if mean.value is None:
        return "not trained"
    return f"{format_percent(mean, sign=True)} points of AP50, {mean.n} trainings"
