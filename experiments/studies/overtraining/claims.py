"""The source's claims on over-training, decided by rules that are younger than the run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from experiments.studies.base import Claim
from experiments.studies.overtraining.jobs import Arm, Summary

ERRORS, ANSWERS, MAPS = "overtraining-errors", "overtraining-answers", "overtraining-maps"
LATE = 0.1  # of the checkpoints: those that "at the end" is the mean of
STEADY, SURE = 0.9, 0.9


def claims(summary: Summary) -> list[Claim]:
    """Decide the claims, on group A where the source names none."""
    arms = summary.arms
    decided = list(_errors(arms["augmented"]))
    for setting, result in arms.items():
        if result.maps:
            decided += [*_answers(setting, result), *_maps(setting, result)]
    return decided


def _errors(result: Arm) -> Iterator[Claim]:
    reference, last = result.choice.reference, len(result.train)
    then, now = (result.train[str(number)].test for number in (reference, last))
    comparable = last > reference
    rows = (
        ("error goes on falling", then.error, now.error, now.error < then.error, ".1%"),
        ("loss rises", then.loss, now.loss, now.loss > then.loss, ".3f"),
    )
    for change, before, after, holds, form in rows:
        yield Claim(
            item=ERRORS,
            what=f"augmented: past the reference epoch the test {change}",
            published="so it does (Figure 2, curves)",
            ours=f"{before:{form}} at {reference}, {after:{form}} at {last}, one run",
            holds=holds if comparable else None,
        )


def _answers(setting: str, result: Arm) -> Iterator[Claim]:
    last = result.maps[max(result.maps, key=int)]
    groups = {group: last[group] for group in ("A", "C") if group in last}
    complete = len(groups) == 2
    text = "a group is empty"
    if complete:
        text = ", ".join(f"{g} {group.p_class:.2f} (n = {group.n})" for g, group in groups.items())
    yield Claim(
        item=ANSWERS,
        what=f"{setting}: A stays confident (p above {SURE}), C does not",
        published="A near 1 throughout, C swings (Figure 4)",
        ours=f"p at the last checkpoint: {text}",
        holds=groups["A"].p_class > SURE > groups["C"].p_class if complete else None,
    )


def _maps(setting: str, result: Arm) -> Iterator[Claim]:
    kinds = ("gradcam", "saliency", "deconvnet", "guided", "guided-minus")
    rank = {kind: late(result, "A", kind, "spearman") for kind in kinds}
    like = {kind: late(result, "A", kind, "ssim") for kind in kinds}
    n = result.maps[max(result.maps, key=int)]["A"].n
    simple = ("deconvnet", "guided", "guided-minus")
    rows = (
        (
            "Grad-CAM's Spearman exceeds saliency's",
            "it does (Figure 5)",
            ("gradcam", "saliency"),
            rank,
            rank["gradcam"] > rank["saliency"],
        ),
        (
            "saliency's Spearman falls to 0.1",
            "at most 0.1 throughout",
            ("saliency",),
            rank,
            rank["saliency"] <= 0.1,
        ),
        (
            "SSIM of saliency and Grad-CAM falls to 0.4",
            "at most 0.4, 0.3 past 1,000 epochs",
            ("saliency", "gradcam"),
            like,
            max(like["saliency"], like["gradcam"]) <= 0.4,
        ),
        (
            "Spearman of Grad-CAM falls to 0.4",
            "at most 0.4, 0.3 past 1,000 epochs",
            ("gradcam",),
            rank,
            rank["gradcam"] <= 0.4,
        ),
        (
            f"deconvnet, guided and guided-minus hardly change (Spearman above {STEADY})",
            "little change, by eye (section 5.1)",
            simple,
            rank,
            min(rank[kind] for kind in simple) > STEADY,
        ),
    )
    for text, published, named, values_by_kind, holds in rows:
        values = [values_by_kind[kind] for kind in named]
        shown = ", ".join(f"{k} {_text(v)}" for k, v in zip(named, values, strict=True))
        yield Claim(
            item=MAPS,
            what=f"{setting}: {text}",
            published=published,
            ours=f"{shown}; group A, n = {n}",
            holds=None if any(map(math.isnan, values)) else bool(holds),
        )


def late(result: Arm, name: str, kind: str, figure: Literal["spearman", "ssim"]) -> float:
    """Return the mean of a likeness in the group `name` over the last tenth of the checkpoints.

    Checkpoints up to the reference are left out. NaN without any value.
    """
    numbers = sorted(result.maps, key=int)
    count = max(1, round(LATE * len(numbers)))
    after = [number for number in numbers[-count:] if int(number) > result.choice.reference]
    groups = [result.maps[number].get(name) for number in after]
    values: list[float | None] = [
        getattr(group.maps[kind], figure) for group in groups if group is not None
    ]
    measured = [value for value in values if value is not None]
    return sum(measured) / len(measured) if measured else math.nan


def _text(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"
