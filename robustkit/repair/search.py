"""The search for better values of the chosen weights by one swarm or more."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robustkit.attacks import predict
from robustkit.compute import derive_seed, torch_generator
from robustkit.data import ImageSet
from robustkit.repair.config import RepairConfig
from robustkit.repair.fitness import FITNESS, Tally, mean_loss, tally
from robustkit.repair.scoring import MEMORY, Scorer, make_scorer
from robustkit.repair.sets import RepairSets
from robustkit.repair.swarm import Siblings, SwarmConfig, Swarms, start_swarms, step
from robustkit.repair.weights import Selection, weight_of


@dataclass(frozen=True, eq=False)
class Objective:
    """The images of one run's candidates: `neg` and `pos` bool (n,) of its scorer's images."""

    scorer: Scorer
    neg: Tensor
    pos: Tensor
    before: tuple[float, float]
    budget: float
    original: float


@dataclass(frozen=True, eq=False)
class SearchResult:
    """One run's result: `values` (D,), or None where nothing beat the unrepaired model.

    `trace` holds the best fitness after each iteration, `original` the unrepaired model's.
    """

    values: Tensor | None
    fitness: float
    original: float
    iterations: int
    trace: tuple[float, ...]


@dataclass(eq=False)
class Search:
    """Swarms in progress; `traces` grow by one number for each iteration of each run.

    `seconds` is the wall time that the search has taken, over all sessions.
    """

    swarms: Swarms
    traces: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0


OnIteration = Callable[[Search], None]


def search(
    model: nn.Module,
    images: ImageSet,
    sets: RepairSets,
    selection: Selection,
    config: RepairConfig,
    swarm: SwarmConfig,
    *,
    runs: Sequence[int] | None = None,
    resume: Search | None = None,
    on_iteration: OnIteration = lambda search: None,
) -> tuple[list[SearchResult], str]:
    """Run swarms over the values of `selection`; return their results and the scorer's name.

    `runs` are those of the `config.runs` that are wanted, None for all. The same seed gives the
    same results, one run at a time or all together, and after a `resume` from the last state that
    `on_iteration` was given.
    """
    runs = range(config.runs) if runs is None else runs
    current = selection.values(model)
    siblings = siblings_of(model, selection)
    objectives = _objectives(model, images, sets, selection, config, runs)
    fitness_of = FITNESS.find(config.fitness)
    seeds = [run_seed(config, run) for run in runs]
    state = resume or Search(start_swarms(current, siblings, swarm, seeds), [[] for _ in runs])

    def evaluate(positions: Tensor, live: Sequence[int]) -> Tensor:
        pairs = zip(live, positions, strict=True)
        return torch.stack([fitness_of(_tally(objectives[run], values)) for run, values in pairs])

    began = time.perf_counter() - state.seconds
    while not bool(state.swarms.done.all()):
        live = torch.nonzero(~state.swarms.done).squeeze(1).tolist()
        state.swarms = step(state.swarms, evaluate, siblings, swarm)
        _, fitness = state.swarms.leaders()
        for number in live:
            state.traces[number].append(float(fitness[number]))
        state.seconds = time.perf_counter() - began
        on_iteration(state)
    return _results(state, objectives), objectives[0].scorer.way


def _results(state: Search, objectives: Sequence[Objective]) -> list[SearchResult]:
    positions, fitness = state.swarms.leaders()
    return [
        SearchResult(
            values=position if float(best) > objective.original else None,
            fitness=float(best),
            original=objective.original,
            iterations=int(count),
            trace=tuple(trace),
        )
        for position, best, objective, count, trace in zip(
            positions, fitness, objectives, state.swarms.iteration, state.traces, strict=True
        )
    ]


def run_seed(config: RepairConfig, run: int) -> int:
    """Return the seed of one of the runs."""
    return derive_seed("repair", config.seed, run)


def siblings_of(model: nn.Module, selection: Selection) -> Siblings:
    """Return mean, standard deviation and range of the layer of every selected weight."""
    figures: list[list[Tensor]] = [[], [], []]
    for name, indices in selection.indices.items():
        layer = weight_of(model, name).detach().float().cpu()
        for column, figure in zip(
            figures, (layer.mean(), layer.std(correction=0), layer.max() - layer.min()), strict=True
        ):
            column.append(figure.expand(len(indices)))
    mean, std, extent = (torch.cat(column) for column in figures)
    return Siblings(mean, std, extent)


def _tally(objective: Objective, positions: Tensor) -> Tally:
    right, loss = objective.scorer.score(positions)
    return tally(right, loss, objective.neg, objective.pos, objective.before, objective.budget)


def _objectives(
    model: nn.Module,
    images: ImageSet,
    sets: RepairSets,
    selection: Selection,
    config: RepairConfig,
    runs: Sequence[int],
) -> list[Objective]:
    """Return an objective for each run; runs that see the same images share a scorer."""
    watched = [choose_positives(model, images, sets, config, run) for run in runs]
    keys = [positives.numpy().tobytes() for positives in watched]
    memory = MEMORY // len(set(keys))
    objectives: dict[bytes, Objective] = {}
    for key, positives in zip(keys, watched, strict=True):
        if key not in objectives:
            objectives[key] = _objective(model, images, sets, selection, config, positives, memory)
    return [objectives[key] for key in keys]


def _objective(
    model: nn.Module,
    images: ImageSet,
    sets: RepairSets,
    selection: Selection,
    config: RepairConfig,
    positives: Tensor,
    memory: int,
) -> Objective:
    pos = torch.zeros_like(sets.pos)
    pos[positives] = True
    seen = torch.nonzero(sets.neg | pos).squeeze(1)
    scorer = make_scorer(model, images.subset(seen), selection, memory=memory)
    neg, pos = sets.neg[seen], pos[seen]
    right, loss = scorer.score(scorer.current[None].cpu())
    before = (float(mean_loss(loss, neg)[0]), float(mean_loss(loss, pos)[0]))
    unrepaired = tally(right, loss, neg, pos, before, config.budget)
    original = float(FITNESS.find(config.fitness)(unrepaired)[0])
    return Objective(scorer, neg, pos, before, config.budget, original)


def choose_positives(
    model: nn.Module, images: ImageSet, sets: RepairSets, config: RepairConfig, run: int
) -> Tensor:
    """Return the ascending indices, int64, of the correct images that are watched.

    "hardest" are those of largest squared error between softmax and one-hot, ties by index;
    "random" are drawn anew for each run.
    """
    right = torch.nonzero(sets.pos).squeeze(1)
    count = min(config.n_positives, len(right))
    if config.positives == "all" or count == len(right):
        return right
    if config.positives == "random":
        generator = torch_generator("positives", run_seed(config, run))
        return right[torch.randperm(len(right), generator=generator)[:count]].sort().values
    softmax = predict(model, images.images[right]).softmax(dim=1)
    error = (
        softmax.scatter_add(1, images.labels[right, None], torch.full((len(right), 1), -1.0))
        .square()
        .sum(dim=1)
    )
    order = torch.argsort(error, descending=True, stable=True)
    return right[order[:count]].sort().values
