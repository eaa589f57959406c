"""The runs of the search as jobs, and the state of an unfinished run in the run folder."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Mapping
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
from robustkit.jobs import Log, cached_per_process, executor_of, run_jobs
from robustkit.reading import check_kind
from robustkit.repair import (
    Localisation,
    Repair,
    RepairSets,
    Search,
    SearchResult,
    Selection,
    SwarmConfig,
    Swarms,
    TuneConfig,
    Tuned,
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


class ProgressSaver:
    """Log the progress of one run's search, and save its state every few seconds."""

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
    """Return a hash of all that a search depends on; a saved state is of one hash."""
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
    """Write the state of a run's search, whole or not at all."""
    tensors = {name: each.contiguous() for name, each in search.swarms.tensors().items()}
    notes = {
        "key": f"{key}/{number}",
        "traces": json.dumps(search.traces),
        "seconds": repr(search.seconds),
    }
    notes["checksum"] = checksum(tensors, json.dumps(notes, sort_keys=True))
    write_tensors(folder.file(_name(number)), tensors, notes)


def remove_states(folder: RunFolder) -> None:
    """Remove the saved states of a finished repair."""
    for path in folder.path.glob(_name("*")):
        path.unlink(missing_ok=True)


def load_state(
    folder: RunFolder, key: str, number: int, *, swarm: SwarmConfig, weights: int
) -> Search | None:
    """Return the saved search of one `swarm` over so many `weights`; None without one.

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
    """Return the search, every part checked: a checksum is no proof of who wrote it."""
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
class RepairTask:
    """The model, images and chosen weights of a repair; `located` is None for gradient descent."""

    subject: Subject
    options: RepairOptions
    sets: RepairSets
    located: Localisation | None


def prepare_task(subject: Subject, options: RepairOptions) -> RepairTask:
    """Return what comes before a search and is the same for all runs."""
    config, model, images = options.method_config(), subject.model, subject.images
    if isinstance(config, TuneConfig):
        sets = repair_sets(model, images, labels=config.labels, pairs=config.pairs)
        return RepairTask(subject, options, sets, None)
    return RepairTask(subject, options, *repair.locate(model, config, images, subject.previous))


@dataclass(frozen=True, eq=False)
class SearchedRun:
    """The result of one run, the scorer's name and seconds; `key` is the run's `search_key`."""

    result: SearchResult
    scored_by: str
    seconds: float
    key: str


@dataclass(frozen=True)
class SearchJob:
    """Run `number` of the repair in the folder at `path`; its result depends on nothing else."""

    path: str
    number: int

    @property
    def id(self) -> str:
        """See `Job`."""
        return f"run {self.number}"

    def run(self) -> SearchedRun | Tuned:
        """Return a `Tuned` or a `SearchedRun`."""
        return search_run(_task(self.path), RunFolder.open(self.path), self.number)


@cached_per_process()
def _task(path: str) -> RepairTask:
    """Return the task of the repair in the folder at `path`, loaded once in each process."""
    folder = RunFolder.open(path)
    options = config_from(RepairOptions, folder.config)
    subject = load_subject(folder.config, paper=options.protocol == "paper")
    return prepare_task(subject, options)


def search_run(task: RepairTask, folder: RunFolder, number: int) -> SearchedRun | Tuned:
    """Return the result of one run, which goes on from its saved state; see `SearchJob.run`."""
    subject, options = task.subject, task.options
    config = options.method_config()
    if isinstance(config, TuneConfig):
        return repair.tune_run(subject.model, config, subject.images, task.sets, number)
    assert task.located is not None
    key = search_key(subject, options, task.located.selection)
    swarm, weights = options.swarm_config(), len(task.located.selection)
    state = load_state(folder, key, number, swarm=swarm, weights=weights)
    seconds = [0.0 if state is None else state.seconds]
    watch = ProgressSaver(folder, key, number)

    def on_iteration(search: repair.Search) -> None:
        seconds[0] = search.seconds
        watch(search)

    (result,), scored_by = repair.search(
        subject.model,
        subject.images,
        task.sets,
        task.located.selection,
        config,
        swarm,
        runs=[number],
        resume=state,
        on_iteration=on_iteration,
    )
    return SearchedRun(result, scored_by, seconds[0], key)


def search_all(
    subject: Subject,
    options: RepairOptions,
    folder: RunFolder,
    settings: Mapping[str, Any],
    log: Log,
) -> Repair:
    """Return the repair after all runs, on the executor that `settings` name.

    Inline they run in this process, on what it has loaded; elsewhere each worker loads the same.
    """
    config, model = options.method_config(), subject.model
    images, held_out = subject.images, subject.held_out
    began = time.perf_counter()
    inline = settings["executor"] == "inline"
    # Workers have one thread, and have to find the very same weights to change.
    with nullcontext() if inline else single_thread():
        task = prepare_task(subject, options)
    seconds = time.perf_counter() - began
    numbers = range(config.runs)
    if inline:
        runs = [search_run(task, folder, number) for number in numbers]
    else:
        jobs = [SearchJob(str(folder.path.resolve()), number) for number in numbers]
        with executor_of(settings) as executor:
            runs = run_jobs(jobs, executor, log=log)
    if isinstance(config, TuneConfig):
        tuned = [run for run in runs if isinstance(run, Tuned)]
        seconds = time.perf_counter() - began
        return repair.conclude_tuning(model, config, images, held_out, task.sets, tuned, seconds)
    assert task.located is not None
    searched = [run for run in runs if isinstance(run, SearchedRun)]
    key = search_key(subject, options, task.located.selection)
    if any(run.key != key for run in searched):
        raise RunError(
            "a worker localised other weights than this process, as on another kind of machine it "
            "may: use --executor inline"
        )
    seconds += sum(run.seconds for run in searched)
    results = [run.result for run in searched], searched[0].scored_by
    localised = task.sets, task.located
    return repair.conclude(model, config, images, held_out, localised, results, seconds)
