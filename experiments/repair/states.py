"""The state of an unfinished search in the run folder, one file for each run of it."""

from __future__ import annotations

import hashlib
import json
import time

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as pack

from experiments.repair.config import RepairOptions
from experiments.repair.subject import Subject
from robustkit import models
from robustkit.errors import RunError
from robustkit.repair import Search, Selection, Swarms
from robustkit.repair.patch import checksum
from robustkit.runs import RunFolder, atomic_path

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
        print(
            f"run {self.number}: {what} iteration {int(search.swarms.iteration.max())}, best "
            f"fitness {float(fitness.max()):.4f}",
            flush=True,
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
    with atomic_path(folder.file(_name(number))) as temporary:
        temporary.write_bytes(pack(tensors, metadata=notes))


def forget_states(folder: RunFolder) -> None:
    """Remove the saved searches of a repair that is done."""
    for path in folder.path.glob(_name("*")):
        path.unlink(missing_ok=True)


def load_state(folder: RunFolder, key: str, number: int) -> Search | None:
    """The search that was saved, if one was.

    Raises `RunError` where it is damaged, or belongs to another model, data or settings.
    """
    path = folder.file(_name(number))
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            traces, seconds = json.loads(notes["traces"]), float(notes["seconds"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        told = notes.pop("checksum")
        if told != checksum(tensors, json.dumps(notes, sort_keys=True)):
            raise ValueError("it does not match its checksum")
        state = Search(Swarms(**tensors), traces, seconds)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path}: damaged ({str(error).splitlines()[0]}); delete it to search anew"
        ) from None
    if notes["key"] != f"{key}/{number}":
        raise RunError(
            f"{path}: the search of another model, other images, weights or settings than "
            "config.yaml names; delete it to search anew"
        )
    return state


def _name(number: int | str) -> str:
    return f"search-{number}.safetensors"
