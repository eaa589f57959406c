"""Filter contribution on MNIST, with the net of the publication."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from experiments.studies.base import (
    Claim,
    CommandRun,
    PaperItem,
    Plan,
    Study,
    StudyJob,
    everywhere,
    register,
)
from experiments.studies.filter_contribution.jobs import (
    CHOSEN,
    DEVIATIONS,
    SMALL_DEVIATIONS,
    SOURCE,
    CountPaths,
    Paths,
    Seeds,
    Summary,
    TrainNet,
    check,
    trainings_of,
)
from robustkit.report import markdown_table

FILTERS = (1, 2, 3, 4)
LEAST = 0.98
SWEEP, PATHS = "filter-count", "filter-paths"


def jobs(plan: Plan) -> Sequence[Sequence[StudyJob]]:
    """Return nets with 1 to 4 filters a layer, three trainings each; then paths with 3."""
    filters = (CHOSEN,) if plan.smoke else FILTERS
    trainings = [training for count in filters for training in trainings_of(plan, count)]
    per_class = 20 if plan.smoke else 1000
    readings = [
        CountPaths(f"paths/{net.seed}", net.path, net.data, per_class, net.seed)
        for net in trainings
        if net.filters == CHOSEN
    ]
    return [trainings, readings]


def render(summary: Summary) -> str:
    """Return the sweep and the counts of paths, in Markdown."""
    parts = [
        "# Filter contribution",
        "`cnn3`: conv 5×5, pool, conv 3×3, pool, one affine layer, the same number of filters in "
        "both convolutions.",
        "## How many filters reach 98 %",
        _sweep(summary.train),
        "## Which path wins",
        "Over the first training images of each class, the pair (filter of conv1 → filter of "
        "conv2) that contributes most to the class's score: the two that win most often.",
        *(_paths(seed, paths) for seed, paths in summary.paths.items()),
    ]
    return "\n\n".join(parts)


def _sweep(trainings: Mapping[str, Seeds]) -> str:
    rows = []
    for count, runs in trainings.items():
        accuracies = ", ".join(f"{100 * run.test_acc:.2f} %" for run in runs.values())
        parameters = next(iter(runs.values())).parameters
        rows.append([count, f"{parameters:,}", accuracies])
    return markdown_table(["filters", "parameters", "test accuracy of each training"], rows)


def ranked(paths: Paths) -> list[list[tuple[int, int]]]:
    """Return, for each class, its pairs (i,j) from 1, the most frequent winners first."""
    order = []
    for counts in paths.winners:
        pairs = [(-n, i, j) for i, row in enumerate(counts) for j, n in enumerate(row)]
        order.append([(i + 1, j + 1) for _, i, j in sorted(pairs)])
    return order


def places(paths: Paths) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return, for each class, the most frequent winner and the most frequent second of the
    others.
    """
    chosen = []
    for order, counts in zip(ranked(paths), paths.seconds, strict=True):
        rest = [(-counts[i - 1][j - 1], (i, j)) for i, j in order[1:]]
        chosen.append((order[0], min(rest)[1]))
    return chosen


def _paths(seed: str, paths: Paths) -> str:
    rows = []
    for number, pairs in enumerate(ranked(paths)):
        cells = []
        for i, j in pairs[:2]:
            wins = paths.winners[number][i - 1][j - 1]
            cells += [f"{i}→{j}", f"{wins:,}"]
        rows.append([str(number), *cells])
    firsts = len({pairs[0] for pairs in ranked(paths)})
    parts = [
        f"Training {seed}, {paths.per_class:,} images a class:",
        markdown_table(["class", "first", "wins", "second", "wins"], rows),
        f"{firsts} of {len(paths.winners[0]) ** 2} paths come first for some class.",
        f"Paths and biases miss the score by at most {paths.residual_max:.1e}.",
    ]
    return "\n\n".join(parts)


def claims(summary: Summary) -> list[Claim]:
    """Return the publication's claims; each must hold in every training.

    "Differ" as in the publication: the set of the two paths that win most often is another for
    every class. "Biased": in every class the first path wins more than a third of the images, where
    nine equal paths would win a ninth. That first paths alone do not tell ten classes apart is no
    finding with nine paths; how many of them come first is in the tables.
    """
    return [*_filters(summary.train), *_ways(list(summary.paths.values()))]


def _filters(sweep: Mapping[str, Seeds]) -> Iterator[Claim]:
    claimed = f"{100 * LEAST:g} % or more, with the fewest filters that do"
    accuracies = {
        int(count): [run.test_acc for run in runs.values()] for count, runs in sweep.items()
    }
    n = max(run.n for runs in sweep.values() for run in runs.values())
    chosen = accuracies.get(CHOSEN, [])
    yield Claim(
        item=SWEEP,
        what="three filters a layer reach 98 % on MNIST",
        published=claimed,
        ours=_range(chosen, n),
        holds=everywhere([accuracy >= LEAST for accuracy in chosen]),
    )
    fewer = [
        accuracy
        for count, accuracies_of_count in accuracies.items()
        if count < CHOSEN
        for accuracy in accuracies_of_count
    ]
    yield Claim(
        item=SWEEP,
        what="fewer do not",
        published=claimed,
        ours=_range(fewer, n) if fewer else "not trained",
        holds=everywhere([accuracy < LEAST for accuracy in fewer]),
    )


def _range(accuracies: Sequence[float], n: int) -> str:
    low, high = (f"{100 * end(accuracies):.2f}" for end in (min, max))
    return f"{low} to {high} %, {len(accuracies)} trainings, n = {n:,}"


def _ways(trainings: Sequence[Paths]) -> Iterator[Claim]:
    if not trainings:
        return
    shares = [min(paths.share_of_first) for paths in trainings]
    per_class = f"{trainings[0].per_class:,} images a class"
    yield Claim(
        item=PATHS,
        what="contributions are biased: in every class one path wins more than a third",
        published="a large bias (section 3.2)",
        ours=f"at least {100 * min(shares):.0f} % in {len(trainings)} trainings, {per_class}",
        holds=everywhere([share > 1 / 3 for share in shares]),
    )
    wins = [[frozenset(order[:2]) for order in ranked(paths)] for paths in trainings]
    seconds = [[frozenset(pair) for pair in places(paths)] for paths in trainings]
    for text, sets in (
        ("the sets of the two paths that win most often differ between all classes", wins),
        ("they do where the second is what comes second most often", seconds),
    ):
        different = [len(set(class_set)) for class_set in sets]
        yield Claim(
            item=PATHS,
            what=text,
            published="all ten differ (section 3.2, Figure 4)",
            ours=f"{', '.join(map(str, different))} different of {len(sets[0])}, {per_class}",
            holds=everywhere([count == len(sets[0]) for count in different]),
        )


def _counted(job: StudyJob | CommandRun) -> bool:
    """Return whether a job trains the net whose paths are counted, or counts them."""
    return isinstance(job, CountPaths) or (isinstance(job, TrainNet) and job.filters == CHOSEN)


register(
    Study(
        name="filter-contribution",
        system="filter contribution",
        title="Visualising the process of inference: which filters contribute",
        source=f"{SOURCE}, sections 2 and 3",
        scales={
            "smoke": "digits, one training of 3 epochs; seconds",
            "small": "MNIST, 1 to 4 filters, 3 trainings each of 20 epochs; ten minutes",
            "paper": "the same for 185 epochs, 100,000 steps as published; an hour and a half",
        },
        items=(
            PaperItem(
                name=SWEEP,
                shows="section 2.1: the smallest number of filters",
                needs=lambda job: isinstance(job, TrainNet),
            ),
            PaperItem(
                name=PATHS,
                shows="section 3.2, Figures 3 and 4: the filters that contribute, class by class",
                needs=_counted,
            ),
        ),
        deviations=DEVIATIONS,
        small_deviations=SMALL_DEVIATIONS,
        jobs=jobs,
        summary=Summary,
        check=lambda summary, where: check(summary, where, CHOSEN),
        claims=claims,
        render=render,
    )
)
