"""Carry out an evolution run in its folder, from its start or from wherever it was stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evolution.protocol.gallery import make_gallery, save_gallery
from evolution.protocol.pipeline import Protocol
from evolution.protocol.result import Event, Summary, check_rows, read_summary
from evolution.protocol.roles import REFERENCE, tested_nets
from evolution.protocol.summary import summarise, summary_json
from evolution.protocol.workspace import Workspace, scratch_of
from robustkit.compute import single_thread
from robustkit.errors import RunError
from robustkit.jobs import executor_of
from robustkit.reading import check_kind
from robustkit.runs import Entry, Ledger, RunFolder, read_object

LEDGER = "ledger.sqlite"
GALLERY = "gallery.safetensors"
DATA = "data.json"


def evolve(
    folder: RunFolder, on_entry: Callable[[Entry], None], scratch: Path | None = None
) -> Summary:
    """Run until the summary is written, and return it. A finished run is left as it is.

    Its scratch lies in its folder, or in one of its own below the folder `scratch`. What the ledger
    holds is not computed again.
    """
    finished = read_summary(folder)
    if finished is not None:
        return finished
    start = time.monotonic()
    space = Workspace(folder, scratch_of(folder.path, scratch))
    check_data(space)
    path = folder.file(LEDGER)
    # A run that has nets has had a ledger: without it they would all be made anew.
    begun = os.path.lexists(path) or folder.file("nets").exists()
    ledger = Ledger.open(path) if begun else Ledger.create(path)
    with ledger, executor_of(folder.config) as executor:
        check_rows(ledger.trials(), path, sorted(space.config.own_measures()))
        protocol = Protocol(space, executor, ledger, on_entry)
        protocol.run()
        folder.append_metrics({"event": "finished", "wall_seconds": time.monotonic() - start})
        wall = wall_seconds(folder)
        with single_thread():  # as in jobs: what is computed here is the same to the bit as well
            save_gallery(make_gallery(space, tested_nets(ledger.trials())), folder.file(GALLERY))
            summary = summarise(protocol, ledger, fooled_by(space), wall)
            plain = summary_json(summary, protocol)
    space.clear_scratch()
    folder.write_summary(plain)  # last: a run that has it has ended
    return summary


def wall_seconds(folder: RunFolder) -> float:
    """Return the seconds of all sessions of a run; raises `RunError` if they were edited."""
    where = str(folder.file("metrics.jsonl"))
    events = check_kind(folder.metrics(), list[Event], where, error=RunError)
    return sum(event.wall_seconds for event in events)


def check_data(space: Workspace) -> None:
    """Note the digests of the data when a run begins; raise `RunError` if they differ later."""
    splits, path = space.splits, space.folder.file(DATA)
    digests = {name: getattr(splits, name).digest() for name in ("train", "val", "test")}
    if not os.path.lexists(path):
        space.folder.write_json(DATA, digests)
        return
    before = read_object(path)
    for name, digest in digests.items():
        if before.get(name) != digest:
            raise RunError(
                f"{splits.name}: the {name} images have changed since {space.folder.path} began; "
                "put the old data back, or start a new run"
            )


def fooled_by(space: Workspace) -> dict[str, NDArray[np.bool_]]:
    """Return for which test images the adversarial fools the net it was made on, bool (N,).

    By the name of that net, a reference or a surrogate, and "flipped" for R's flipped gradient. An
    image that this net gets wrong anyway was not needed to fool it.
    """
    config = space.config
    sets = {
        name: space.adversarials(name, "test", flipped=False)
        for name in (*config.references, *config.surrogates)
    }
    sets["flipped"] = space.adversarials(REFERENCE, "test", flipped=True)
    return {name: (made.correct & made.fooled).numpy() for name, made in sets.items()}
