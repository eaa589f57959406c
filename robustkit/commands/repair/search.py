"""The state of an unfinished search in the run folder, one file for each run of it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robustkit import models, repair
from robustkit.cli.output import log
from robustkit.cli.parser import config_from
from robustkit.commands.repair.config import RepairOptions
from robustkit.commands.repair.subject import Subject, load_subject
from robustkit.compute import single_thread
from robustkit.compute.tensorfiles import Shapes, check_shapes, read_tensors, write_tensors
from robustkit.errors import RunError
from robustkit.jobs import cached_per_process, executor_of, run_jobs
from robustkit.reading import check_kind
from robustkit.repair import (
    Found,
    Localisation,
    Repair,
    RepairSets,
    Search,
    Selection,
    SwarmConfig,
    Swarms,
    TuneConfig,
    repair_sets,
)
from robustkit.repair.patch import checksum
from robustkit.runs import RunFolder

_SHAPES: Shapes = {
    "position": (torch.float32, ("s", "p", "d")),
    "velocity": (torch.float32, ("s", "p", "d")),
    "best": (torch.float32, ("s", "p", "d")),
    "best_fitness": (torch.float64, ("s", "p")),
    "stagnant": (torch.int64, ("s",)),
    "iteration": (torch.int64, ("s",)),
    "done": (torch.bool, ("s",)),
    "random": (torch.uint8, ("s", "bytes")),
}
EVERY = 5.0  # seconds between two saved states of a search


class Watch:
    """Says how the search of one run goes, and saves its state now and then."""

    def __init__(self, folder: RunFolder, key: str, number: int) -> None:
        self.folder, self.key, self.number = folder, key, number
        self.last = time.monotonic()

    def __call__(self, search: Search) -> None:
        """Take note of an iteration."""
        done = bool(search.swarms.done.all())
        now = time.monotonic()
        if now - self.last < EVERY and not done:
            return
        self.last = now
        save_state(self.folder, search, self.key, self.number)
        _, fitness = search.swarms.leaders()
        what = "done after" if done else "at"
        log(
            f"run {self.number}: {what} iteration {int(search.swarms.iteration.max())}, best "
            f"fitness {float(fitness.max()):.4f}"
        )


def search_key(subject: Subject, options: RepairOptions, selection: Selection) -> str:
    """A hash of all that a search depends on: a saved one goes on with these alone."""
    previous = None if subject.previous is None else models.digest(subject.previous)
    settings = [str(options.method_config()), str(options.swarm_config())]
    named = [models.digest(subject.model), previous, *settings]
    hashed = hashlib.sha256(json.dumps(named).encode())
    for name, indices in selection.indices.items():
        hashed.update(name.encode() + indices.contiguous().numpy().tobytes())
    for tensor in (subject.images.images, subject.images.labels):
        hashed.update(tensor.contiguous().numpy().data)
    return hashed.hexdigest()


def save_state(folder: RunFolder, search: Search, key: str, number: int) -> None:
    """Write the search of a run so that it can be gone on with, whole or not at all."""
    tensors = {name: each.contiguous() for name, each in search.swarms.tensors().items()}
    notes = {
        "key": f"{key}/{number}",
        "traces": json.dumps(search.traces),
        "seconds": repr(search.seconds),
    }
    notes["checksum"] = checksum(tensors, json.dumps(notes, sort_keys=True))
    write_tensors(folder.file(_name(number)), tensors, notes)


def forget_states(folder: RunFolder) -> None:
    """Remove the saved searches of a repair that is done."""
    for path in folder.path.glob(_name("*")):
        path.unlink(missing_ok=True)


def load_state(
    folder: RunFolder, key: str, number: int, *, swarm: SwarmConfig, weights: int
) -> Search | None:
    """The search of one `swarm` over so many `weights` that was saved, if one was.

    Raises `RunError` where it is damaged, or belongs to another model, data or settings.
    """
    path = folder.file(_name(number))
    if not os.path.lexists(path):
        return None
    hint = "; delete it to search anew"
    tensors, notes = read_tensors(path, error=RunError, hint=hint)
    told = notes.pop("checksum", None)
    if told != checksum(tensors, json.dumps(notes, sort_keys=True)):
        raise RunError(f"{path}: damaged (it does not match its checksum){hint}")
    try:
        state = _checked_state(tensors, notes, swarm, weights)
    except RunError as error:
        raise RunError(f"{path}: damaged ({error}){hint}") from None
    if notes["key"] != f"{key}/{number}":
        raise RunError(
            f"{path}: the search of another model, other images, weights or settings than "
            "config.yaml names; delete it to search anew"
        )
    return state


def _checked_state(
    tensors: dict[str, Tensor], notes: Mapping[str, str], swarm: SwarmConfig, weights: int
) -> Search:
    """Put a state together; a checksum is no proof of who wrote it."""
    if tensors.keys() != _SHAPES.keys() or not {"key", "traces", "seconds"} <= notes.keys():
        raise RunError("not the parts of a search")
    known = {"s": 1, "p": swarm.particles, "d": weights}
    check_shapes(tensors, _SHAPES, "swarms", error=RunError, known=known, finite=False)
    try:
        torch.Generator().set_state(tensors["random"][0].clone())
    except RuntimeError:
        raise RunError("swarms: 'random' is no state of a generator") from None
    try:
        # The best fitness may be an infinity, which JSON proper lacks.
        told, seconds = json.loads(notes["traces"]), float(notes["seconds"])
    except (ValueError, RecursionError):
        raise RunError("notes that are no numbers") from None
    traces = check_kind(told, list[list[float]], "traces", error=RunError)
    iteration = int(tensors["iteration"][0])
    if not (0 <= iteration <= swarm.iterations and [len(each) for each in traces] == [iteration]):
        raise RunError(f"iteration {iteration}, and traces of other lengths")
    if not 0 <= seconds < math.inf:
        raise RunError(f"{seconds} seconds")
    return Search(Swarms(**tensors), traces, seconds)


def _name(number: int | str) -> str:
    return f"search-{number}.safetensors"


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
        """See `Job`."""
        return f"run {self.number}"

    def run(self) -> Any:
        """What was found: a `Tuned` or a `OneFound`."""
        return search_run(_place(self.path), RunFolder.open(self.path), self.number)


@cached_per_process()
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
        with executor_of(settings) as executor:
            found = run_jobs(jobs, executor, log=say)
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
