"""From a subject and the options to a repair, its patch and its summary."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as pack

from experiments.repair.config import RepairOptions
from experiments.repair.examples import keep_examples
from experiments.repair.side_effects import side_effects
from experiments.repair.subject import Subject
from robustkit import models, repair
from robustkit.errors import RunError
from robustkit.repair import Repair, Search, Swarms, TuneConfig, Verdict
from robustkit.repair.patch import checksum
from robustkit.runs import RunFolder, atomic_path

Say = Callable[[str], None]
EVERY = 5.0  # seconds between two saved states of a search
STATE = "search.safetensors"


def run_repair(
    subject: Subject, options: RepairOptions, folder: RunFolder, say: Say, *, write_model: bool
) -> dict[str, Any]:
    """Repair, write `patch.safetensors` and what else is asked for; returns the summary."""
    config = options.method_config()
    if isinstance(config, TuneConfig):
        found = repair.tune(subject.model, config, subject.images, subject.held_out)
    else:
        key = search_key(subject, options)
        watch = _Watch(folder, key, say)
        found = repair.repair(
            subject.model,
            config,
            subject.images,
            subject.held_out,
            previous=subject.previous,
            swarm=options.swarm_config(),
            resume=load_state(folder, key),
            on_iteration=watch,
        )
    provenance = {"method": options.method, "data": folder.config["data"], "seed": options.seed}
    replace(found.patch, provenance=provenance).save(folder.file("patch.safetensors"))
    repaired = found.patch.apply(subject.model)
    if write_model:
        models.save(
            repaired,
            folder.file("model.safetensors"),
            parent=found.patch.parent,
            repair=folder.config,
        )
    keep_examples(subject, found, folder)
    summary = summarise(subject, options, found)
    if options.attack_images:
        say("side effects on attacks")
    summary["side_effects"] = side_effects(subject, repaired, options)
    return summary


class _Watch:
    """Says how the search goes, and saves its state now and then."""

    def __init__(self, folder: RunFolder, key: str, say: Say) -> None:
        self.folder, self.key, self.say = folder, key, say
        self.last = time.monotonic()

    def __call__(self, search: Search) -> None:
        now = time.monotonic()
        if now - self.last < EVERY:
            return
        self.last = now
        save_state(self.folder, search, self.key)
        _, fitness = search.swarms.leaders()
        self.say(
            f"iteration {int(search.swarms.iteration.max())}: best fitness "
            f"{float(fitness.max()):.4f}, {int((~search.swarms.done).sum())} swarms at work"
        )


def search_key(subject: Subject, options: RepairOptions) -> str:
    """A hash of all that a search depends on: a saved one goes on with these alone."""
    previous = None if subject.previous is None else models.digest(subject.previous)
    settings = [str(options.method_config()), str(options.swarm_config())]
    named = [models.digest(subject.model), previous, *settings]
    hashed = hashlib.sha256(json.dumps(named).encode())
    for tensor in (subject.images.images, subject.images.labels):
        hashed.update(tensor.contiguous().numpy().data)
    return hashed.hexdigest()


def save_state(folder: RunFolder, search: Search, key: str) -> None:
    """Write the search so that it can be gone on with, whole or not at all."""
    tensors = {name: each.contiguous() for name, each in search.swarms.tensors().items()}
    notes = {
        "key": key,
        "traces": json.dumps(search.traces),
        "seconds": repr(search.seconds),
    }
    notes["checksum"] = checksum(tensors, json.dumps(notes, sort_keys=True))
    with atomic_path(folder.file(STATE)) as temporary:
        temporary.write_bytes(pack(tensors, metadata=notes))


def forget_state(folder: RunFolder) -> None:
    """Remove the saved search of a repair that is done."""
    folder.file(STATE).unlink(missing_ok=True)


def load_state(folder: RunFolder, key: str) -> Search | None:
    """The search that was saved, if one was.

    Raises `RunError` where it is damaged, or belongs to another model, data or settings.
    """
    path = folder.file(STATE)
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
    if notes["key"] != key:
        raise RunError(
            f"{path}: the search of another model, other images or other settings than "
            "config.yaml names; delete it to search anew"
        )
    return state


def summarise(subject: Subject, options: RepairOptions, found: Repair) -> dict[str, Any]:
    """Everything that is known of the repair, as plain values."""
    located = found.localisation
    summary: dict[str, Any] = {
        "method": options.method,
        "protocol": options.protocol,
        **found.report,
        "unchanged": len(found.patch) == 0,
        "scored_by": found.how,
        "parent": found.patch.parent,
        "child": found.patch.child,
        "localisation": None
        if located is None
        else {"top": located.top, "sizes": dict(located.sizes), "notes": list(located.notes)},
        "per_class": _per_class(found.runs[found.best].verdict, subject.images.classes),
        "best": found.best,
        "runs": [_run(run) for run in found.runs],
    }
    if summary["held_out"] is not None:
        summary["held_out"]["dropped"] = subject.dropped
    return summary


def _run(run: repair.Run) -> dict[str, Any]:
    return {
        **run.verdict.to_dict(),
        "held_out": None if run.held_out is None else run.held_out.to_dict(),
        "changed": len(run.patch),
        "iterations": run.iterations,
        "fitness": None if run.found is None else _finite(run.found.fitness),
        "fitness_before": None if run.found is None else run.found.original,
        "trace": [] if run.found is None else [_finite(each) for each in run.found.trace],
    }


def _finite(value: float) -> float | None:
    """JSON knows no infinity, the fitness of candidates that say nothing but NaN."""
    return value if math.isfinite(value) else None


def _per_class(verdict: Verdict, classes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Of every class: how many images, right before and after, repaired and broken."""
    counted = {
        "n": torch.ones_like(verdict.neg),
        "right_before": verdict.pos,
        "right_after": verdict.after == verdict.labels,
        "repaired": verdict.repaired,
        "broken": verdict.broken,
    }
    return {
        name: {
            what: int((mask & (verdict.labels == number)).sum()) for what, mask in counted.items()
        }
        for number, name in enumerate(classes)
    }
