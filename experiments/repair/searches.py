"""The runs of a repair as jobs: every one of them alone, here or wherever an executor has room."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from experiments.options import config_from
from experiments.pieces import results_of
from experiments.repair.config import RepairOptions
from experiments.repair.states import Watch, load_state, search_key
from experiments.repair.subject import Subject, load_subject
from robustkit import repair
from robustkit.compute import single_thread
from robustkit.errors import RunError
from robustkit.repair import Found, Localisation, Repair, RepairSets, TuneConfig, repair_sets
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


@dataclass(frozen=True, eq=False)
class OneFound:
    """A run's find, how candidates were scored, and seconds; `key` names what it depends on."""

    found: Found
    how: str
    seconds: float
    key: str


@dataclass(frozen=True)
class OneRun:
    """Run `number` of the repair in the folder at `path`; its result depends on nothing else."""

    path: str
    number: int

    @property
    def id(self) -> str:
        """See `Named`."""
        return f"run {self.number}"

    def run(self) -> Any:
        """What was found: a `Tuned` or a `OneFound`."""
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
    key = search_key(subject, options, place.located.selection)
    swarm, weights = options.swarm_config(), len(place.located.selection)
    state = load_state(folder, key, number, swarm=swarm, weights=weights)
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
        swarm,
        runs=[number],
        resume=state,
        on_iteration=on_iteration,
    )
    return OneFound(found, how, seconds[0], key)


def search_all(
    subject: Subject,
    options: RepairOptions,
    folder: RunFolder,
    settings: Mapping[str, Any],
    say: Callable[[str], None],
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
        found = results_of(jobs, settings, say)
    if isinstance(config, TuneConfig):
        seconds = time.perf_counter() - began
        return repair.conclude_tuning(
            subject.model, config, images, held_out, place.sets, found, seconds
        )
    assert place.located is not None
    key = search_key(subject, options, place.located.selection)
    if any(each.key != key for each in found):
        raise RunError(
            "a worker localised other weights than this process, as on another kind of machine it "
            "may: use --executor inline"
        )
    spent += sum(each.seconds for each in found)
    searched = [each.found for each in found], found[0].how
    where = place.sets, place.located
    return repair.conclude(subject.model, config, images, held_out, where, searched, spent)
