"""The rows of a transfer evaluation as jobs: one source under one kind of attack, all targets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from experiments.pieces import results_of
from experiments.transfer.pipeline import Prepared, Say, evaluate, kinds, prepare
from robustkit.errors import ConfigError


@dataclass(frozen=True)
class Row:
    """Make one source's adversarials and have all targets answer them, into the cache.

    `settings` are those of the run as JSON, with a cache that the driver can read.
    """

    settings: str
    kind: str
    source: str

    @property
    def id(self) -> str:
        """See `Named`."""
        return f"{self.kind}: {self.source}"

    def run(self) -> list[str]:
        """What was wrong with what the cache held before; the results themselves are in it."""
        prepared = _prepared(self.settings)
        told = len(prepared.store.notes)
        evaluate(prepared, self.kind, sources=(self.source,))
        return prepared.store.notes[told:]


@lru_cache(maxsize=1)
def _prepared(settings: str) -> Prepared:
    """One for each worker, whatever number of rows it is given."""
    return prepare(json.loads(settings))


def fill_cache(prepared: Prepared, settings: Mapping[str, Any], say: Say) -> None:
    """Have every row computed on the executor of the settings; inline there is nothing to do.

    Afterwards the evaluation finds them in the cache. What was mended there is noted.
    """
    if settings["executor"] == "inline":
        return
    folder = prepared.store.folder
    assert folder is not None
    if settings["cache"] == "none" and settings["ray_address"] is not None:
        raise ConfigError(
            "--cache none with --ray-address: workers hand their sets over in the cache; name a "
            "folder that all machines share"
        )
    told = json.dumps({**settings, "cache": str(folder)})
    rows = [
        Row(told, kind, source) for kind in kinds(prepared.config) for source in prepared.sources
    ]
    say(f"{len(rows)} sets of adversarials on {settings['executor']}")
    for notes in results_of(rows, settings, say):
        prepared.store.notes += [note for note in notes if note not in prepared.store.notes]
