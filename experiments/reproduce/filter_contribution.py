"""Filter contribution and important regions on MNIST, with the net of the publication."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.pieces import Piece
from experiments.reproduce.filters.jobs import CountPaths, CoverRegions, TrainNet
from experiments.reproduce.registry import EXPERIMENTS
from experiments.reproduce.study import Plan, Results, Study

FILTERS, CHOSEN, SEEDS = (1, 2, 3, 4), 3, 3
LEAST = 0.98
EPOCHS = {"small": 20, "published": 185}  # 540 steps each; the publication made 100,000


def phases(plan: Plan) -> Sequence[Sequence[Piece]]:
    """Nets with 1 to 4 filters a layer, three trainings each; then paths and regions with 3."""
    source, epochs = ("digits", 3) if plan.quick else ("mnist", EPOCHS[plan.size])
    filters, seeds = ((CHOSEN,), 1) if plan.quick else (FILTERS, SEEDS)
    trainings: list[Piece] = []
    readings: list[Piece] = []
    for count in filters:
        for number in range(plan.seed, plan.seed + seeds):
            path = str(plan.folder / f"cnn3-{count}-{number}.safetensors")
            trainings.append(
                TrainNet(f"train/{count}/{number}", path, source, count, epochs, number)
            )
            if count == CHOSEN:
                per_class, tested, greedy = (20, 5, 1) if plan.quick else (1000, 100, 20)
                readings += [
                    CountPaths(f"paths/{number}", path, source, per_class, number),
                    CoverRegions(f"regions/{number}", path, source, tested, 2, greedy, number),
                ]
    return [trainings, readings]


def summarise(results: Results) -> dict[str, Any]:
    """Trainings by number of filters and seed; paths and regions by seed."""
    found: dict[str, Any] = {"study": "filter-contribution"}
    for name, result in results.items():
        kind, *rest = name.split("/")
        place = found.setdefault(kind, {})
        for part in rest[:-1]:
            place = place.setdefault(part, {})
        place[rest[-1]] = result
    return found


def render(summary: Mapping[str, Any]) -> str:
    """The sweep, the counts of paths, the regions and the claims, in Markdown."""
    parts = [
        "# Filter contribution and important regions",
        "`cnn3`: conv 5×5, pool, conv 3×3, pool, one affine layer, the same number of filters in "
        "both convolutions.",
        "## How many filters reach 98 %",
        _sweep(summary["train"]),
        "## Which path wins",
        "Over the first training images of each class, the pair (filter of conv1 → filter of "
        "conv2) that contributes most to the class's score: the two that win most often.",
        *(_paths(seed, found) for seed, found in summary["paths"].items()),
        "## Important regions",
        "Of the test images that the net gets right: the mean over classes of the share that some "
        "region flips; and how many regions, the most harmful first, it takes to flip one.",
        _regions(summary["regions"]),
        "## Claims",
        _claims(summary),
    ]
    return "\n\n".join(parts) + "\n"


def _sweep(trainings: Mapping[str, Any]) -> str:
    lines = ["| filters | parameters | test accuracy of each training |", "|---|---|---|"]
    for count, runs in trainings.items():
        accuracies = ", ".join(f"{100 * run['test_acc']:.2f} %" for run in runs.values())
        parameters = next(iter(runs.values()))["parameters"]
        lines.append(f"| {count} | {parameters:,} | {accuracies} |")
    return "\n".join(lines)


def ranked(found: Mapping[str, Any]) -> list[list[tuple[int, int]]]:
    """For each class its pairs (i,j), counted from 1, those that win most often first."""
    order = []
    for counts in found["winners"]:
        pairs = [(-n, i, j) for i, row in enumerate(counts) for j, n in enumerate(row)]
        order.append([(i + 1, j + 1) for _, i, j in sorted(pairs)])
    return order


def places(found: Mapping[str, Any]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """For each class the pair that wins most often, and of the others the one that comes second
    most often."""
    chosen = []
    for order, counts in zip(ranked(found), found["seconds"], strict=True):
        rest = [(-counts[i - 1][j - 1], (i, j)) for i, j in order[1:]]
        chosen.append((order[0], min(rest)[1]))
    return chosen


def _paths(seed: str, found: Mapping[str, Any]) -> str:
    lines = [f"Training {seed}, {found['per_class']:,} images a class:", ""]
    lines += ["| class | first | wins | second | wins |", "|---|---|---|---|---|"]
    for number, pairs in enumerate(ranked(found)):
        cells = []
        for i, j in pairs[:2]:
            cells += [f"{i}→{j}", f"{found['winners'][number][i - 1][j - 1]:,}"]
        lines.append(f"| {number} | " + " | ".join(cells) + " |")
    firsts = len({pairs[0] for pairs in ranked(found)})
    lines += ["", f"{firsts} of {len(found['winners'][0]) ** 2} paths come first for some class."]
    lines += ["", f"Paths and biases miss the score by at most {found['residual_max']:.1e}."]
    return "\n".join(lines)


def _regions(found: Mapping[str, Any]) -> str:
    lines = ["| training | flipped by one region | regions covered, greedily, to a flip |"]
    lines.append("|---|---|---|")
    for seed, each in found.items():
        known = [share for share in each["flipped_by_one"] if share is not None]
        flips = 100 * statistics.mean(known)
        counts = [count for of_class in each["covered_to_flip"] for count in of_class]
        never = sum(each.get("never_flipped", []))
        middle = f"median {statistics.median(counts):g} of {each['regions']}" if counts else "–"
        told = f"n = {len(counts)}, {never} never flip" if never else f"n = {len(counts)}"
        lines.append(f"| {seed} | {flips:.1f} % of images | {middle} ({told}) |")
    return "\n".join(lines)


def claims(summary: Mapping[str, Any]) -> dict[str, list[bool]]:
    """The publication's claims: a verdict for each training, and of "fewer do not" for each number.

    "Differ" as in the publication: the set of the two paths that win most often is another for
    every class. "Biased": in every class the first path wins more than a third of the images, where
    nine equal paths would win a ninth. That first paths alone do not tell ten classes apart is no
    finding with nine paths; how many of them come first is in the tables.
    """
    sweep = summary["train"]
    chosen = [run["test_acc"] >= LEAST for run in sweep[str(CHOSEN)].values()]
    fewer = [
        all(run["test_acc"] < LEAST for run in runs.values())
        for count, runs in sweep.items()
        if int(count) < CHOSEN
    ]
    found = list(summary["paths"].values())
    pairs = [[frozenset(order[:2]) for order in ranked(each)] for each in found]
    return {
        "three filters reach 98 %": chosen,
        "fewer do not": fewer,
        "contributions are biased: first paths win more than a third": [
            min(each["share_of_first"]) > 1 / 3 for each in found
        ],
        "the sets of first and second differ between all classes": [
            len(set(sets)) == len(sets) for sets in pairs
        ],
        "they do where the second is what comes second most often": [
            len({frozenset(pair) for pair in of}) == len(of) for of in map(places, found)
        ],
    }


def _claims(summary: Mapping[str, Any]) -> str:
    lines = ["| claim | verdicts |", "|---|---|"]
    for claim, verdicts in claims(summary).items():
        told = ", ".join("agrees" if each else "disagrees" for each in verdicts) or "not tested"
        lines.append(f"| {claim} | {told} |")
    return "\n".join(lines)


EXPERIMENTS.enter(
    "filter-contribution",
    Study(
        name="filter-contribution",
        title="Visualising the process of inference: filter contribution and important regions",
        source="Suzuki, Meng, Yamazaki (in Japanese): sections 2 to 4, Figures 3 to 5",
        phases=phases,
        summarise=summarise,
        render=render,
        takes=("published",),
    ),
)
