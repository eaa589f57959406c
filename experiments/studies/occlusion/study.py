"""Important regions of digits: which part of an image, covered, changes the answer."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from experiments.studies.base import Claim, PaperItem, Plan, Study, StudyJob, register
from experiments.studies.filter_contribution.jobs import (
    CHOSEN,
    DEVIATIONS,
    SMALL_DEVIATIONS,
    SOURCE,
    trainings_of,
)
from experiments.studies.occlusion.jobs import CoverRegions, Regions, Summary, check
from robustkit.report import markdown_table

SIDE = 2  # pixels of a region: 14 x 14 = 196 on MNIST
ITEM = "occlusion-regions"


def jobs(plan: Plan) -> Sequence[Sequence[StudyJob]]:
    """Return the net of three filters, three trainings; then regions."""
    trainings = trainings_of(plan, CHOSEN)
    tested, greedy = (5, 1) if plan.smoke else (100, 20)
    return [
        trainings,
        [
            CoverRegions(f"regions/{net.seed}", net.path, net.data, tested, SIDE, greedy, net.seed)
            for net in trainings
        ],
    ]


def render(summary: Summary) -> str:
    """Return how often a region flips the answer, in Markdown."""
    parts = [
        "# Important regions",
        f"Of the test images that the net gets right: the mean over classes of the share that some "
        f"region of {SIDE} × {SIDE} pixels flips; and how many regions, the most harmful first, it "
        "takes to flip one.",
        _regions(summary.regions),
    ]
    return "\n\n".join(parts)


def _regions(regions: Mapping[str, Regions]) -> str:
    rows = []
    for seed, result in regions.items():
        flips = 100 * _flipped(result)
        counts = [count for of_class in result.covered_to_flip for count in of_class]
        never = sum(result.never_flipped)
        middle = f"median {statistics.median(counts):g} of {result.regions}" if counts else "–"
        n = f"n = {len(counts)}, {never} never flip" if never else f"n = {len(counts)}"
        rows.append([seed, f"{flips:.1f} % of images", f"{middle} ({n})"])
    head = ["training", "flipped by one region", "regions covered, greedily, to a flip"]
    return markdown_table(head, rows)


def _flipped(regions: Regions) -> float:
    """Return the mean over classes, those with an image that the net gets right."""
    return statistics.mean([float(share) for share in regions.flipped_by_one if share is not None])


def claims(summary: Summary) -> list[Claim]:
    """Decide the text's claims; its Figure 5 and what follows are missing in our copy.

    "Important regions exist" where in every training some image of every class flips by one region.
    """
    results = list(summary.regions.values())
    shares = [_flipped(result) for result in results]
    everywhere = [
        all(share is None or share > 0 for share in result.flipped_by_one) for result in results
    ]
    text = ", ".join(f"{100 * share:.1f} %" for share in shares)
    n = f"{results[0].per_class} images a class, {len(results)} trainings"
    return [
        Claim(
            item=ITEM,
            what="covering one of the regions changes the answer of some images of every class",
            published="such a region is important (section 4)",
            ours=f"{text} of images; {n}",
            holds=all(everywhere) if results[0].per_class >= 100 else None,
        ),
        Claim(
            item=ITEM,
            what="which regions are important to which class",
            published="Figure 5 and its text, missing in our copy",
            ours="pictures `*.regions.png`, flip rates in `summary.json`",
            holds=None,
        ),
    ]


register(
    Study(
        name="occlusion",
        system="occlusion",
        title="Visualising the process of inference: important regions",
        source=f"{SOURCE}, section 4",
        scales={
            "smoke": "digits, one training of 3 epochs, 5 images a class; seconds",
            "small": "MNIST, 3 trainings, 100 images a class; five minutes",
            "paper": "the same after 185 epochs, 100,000 steps as published; half an hour",
        },
        items=(PaperItem(name=ITEM, shows="section 4, Figure 5: important regions"),),
        deviations=(
            *DEVIATIONS,
            "The procedure is in a figure that our copy lacks: regions are covered one at a time "
            "with 0, and greedily besides.",
        ),
        small_deviations=SMALL_DEVIATIONS,
        jobs=jobs,
        summary=Summary,
        check=check,
        claims=claims,
        render=render,
    )
)
