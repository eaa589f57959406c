"""The runs of a repair as jobs: every one of them alone, here or wherever an executor has room."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from experiments.executing import results_of
from experiments.options import config_from
from experiments.repair.config import RepairOptions
from experiments.repair.states import Watch, load_state, search_key
from experiments.repair.subject import Subject, load_subject
from robustkit import repair
from robustkit.compute import single_thread
from robustkit.repair import Localisation, Repair, RepairSets, TuneConfig, repair_sets
from robustkit.runs import RunFolder


@dataclass(frozen=True, eq=False)
class Place:
    """What is repaired, on which images, and where in the net; `located` is None for descents."""

    subject: Subject
    options: RepairOptions
    sets: RepairSets
    located: Localisation | None


def place_of(subject: Subject, options: RepairOptions) -> Place:
    """Everything that comes before a search, and is the same for all runs."""
    config, model, images = options.method_config(), subject.model, subject.images
    if isinstance(config, TuneConfig):
        sets = repair_sets(model, images, labels=config.labels, pairs=config.pairs)
        return Place(subject, options, sets, None)
    return Place(subject, options, *repair.locate(model, config, images, subject.previous))


@dataclass(frozen=True)
class OneRun:
    """Run `number` of the repair in the folder at `path`; its result depends on nothing else."""

    path: str
    number: int

    def run(self) -> Any:
        """What was found: a `Tuned`, or a `Found` with how it was scored and the seconds."""
        return search_run(_place(self.path), RunFolder.open(self.path), self.number)


@lru_cache(maxsize=1)
def _place(path: str) -> Place:
    """One for each worker, whatever number of runs it is given."""
    folder = RunFolder.open(path)
    options = config_from(RepairOptions, folder.config)
    subject = load_subject(folder.config, paper=options.protocol == "paper")
    return place_of(subject, options)


def search_run(place: Place, folder: RunFolder, number: int) -> Any:
    """One run, from where it was stopped if it was; see `OneRun.run`."""
    subject, options = place.subject, place.options
    config = options.method_config()
    if isinstance(config, TuneConfig):
        return repair.tune_run(subject.model, config, subject.images, place.sets, number)
    assert place.located is not None
    key = search_key(subject, options)
    state = load_state(folder, key, number)
    seconds = [0.0 if state is None else state.seconds]
    watch = Watch(folder, key, number)

    def on_iteration(search: repair.Search) -> None:
        seconds[0] = search.seconds
        watch(search)

    (found,), how = repair.search(
        subject.model,
        subject.images,
        place.sets,
        place.located.selection,
        config,
        options.swarm_config(),
        runs=[number],
        resume=state,
        on_iteration=on_iteration,
    )
    return found, how, seconds[0]


def search_all(
    subject: Subject, options: RepairOptions, folder: RunFolder, settings: Mapping[str, Any]
) -> Repair:
    """All runs, each once, and what they come to; `settings` say on which executor.

    Inline they run in this process, on what it has loaded; elsewhere each worker loads the same.
    """
    config, images, held_out = options.method_config(), subject.images, subject.held_out
    began = time.perf_counter()
    here = settings["executor"] == "inline"
    # Workers have one thread, and have to find the very same weights to change.
    with nullcontext() if here else single_thread():
        place = place_of(subject, options)
    spent = time.perf_counter() - began
    numbers = range(config.runs)
    if here:
        found = [search_run(place, folder, number) for number in numbers]
    else:
        jobs = [OneRun(str(folder.path.resolve()), number) for number in numbers]
        found = results_of(jobs, settings)
    if isinstance(config, TuneConfig):
        seconds = time.perf_counter() - began
        return repair.conclude_tuning(
            subject.model, config, images, held_out, place.sets, found, seconds
        )
    assert place.located is not None
    spent += sum(seconds for _, _, seconds in found)
    searched = [each for each, _, _ in found], found[0][1]
    where = place.sets, place.located
    return repair.conclude(subject.model, config, images, held_out, where, searched, spent)
