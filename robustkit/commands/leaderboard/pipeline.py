"""Attacks by turns on the same sources, images and targets, and who is better than whom."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from robustkit.attacks import Ensemble
from robustkit.attacks.crafting import Recipe
from robustkit.attacks.predictions import PredictionCache, source_digest
from robustkit.cli.inputs import measure_clean_accuracy
from robustkit.commands.leaderboard.result import By, Entry, Summary
from robustkit.commands.transfer.pipeline import PLAIN, evaluate
from robustkit.commands.transfer.preparation import Prepared, TransferConfig, prepare
from robustkit.compute import derive_seed, is_out_of_memory, on_device
from robustkit.compute.tensorfiles import checksum
from robustkit.errors import AttackError, ConfigError, RobustkitError
from robustkit.evaluation.ranking import ranked
from robustkit.evaluation.transferability import TransferMatrix, share
from robustkit.jobs import Log, cached_per_process, executor_of, run_jobs
from robustkit.models import Classifier
from robustkit.runs.summaries import Total

UNKNOWN = float("nan")


def prepared_board(settings: Mapping[str, Any]) -> Prepared:
    """Return what all attacks are made on: the sources or, with ensembles, these alone.

    Raises `ConfigError` where no target is another net than its source.
    """
    prepared = prepare(settings)
    if settings["ensembles"]:
        alone = [name for name, net in prepared.sources.items() if isinstance(net, Ensemble)]
        prepared = replace(prepared, sources={name: prepared.sources[name] for name in alone})
    if not any(pairs_of(prepared)):
        raise ConfigError(
            "--targets: every target is the source itself, or the same net behind a defence: name "
            "another net"
        )
    return prepared


def pairs_of(prepared: Prepared) -> list[tuple[str, str]]:
    """Return the pairs of a source and a target that is another net."""
    weights = {name: _weights(prepared.targets[name]) for name in prepared.targets}
    return [
        (source, target)
        for source in prepared.sources
        for target in prepared.targets
        if not weights[target] & _weights(prepared.sources[source])
    ]


def _weights(net: nn.Module) -> set[str]:
    """Return checksums of the weights of a net, of an ensemble of all members."""
    members = list(net.members) if isinstance(net, Ensemble) else [net]
    return {checksum(dict(each.state_dict())) for each in members}


def with_attack(prepared: Prepared, attack: str) -> Prepared:
    """Return the same evaluation of another attack, without controls."""
    return replace(prepared, config=replace(prepared.config, attack=attack, control=False))


@dataclass(frozen=True)
class Crafted:
    """Whether an attack could be made on a source, and what it took; None where it is unknown.

    `bug` is the traceback of an error that says nothing to the user.
    """

    refused: str | None = None
    bug: str | None = None
    seconds: float | None = None
    passes: float | None = None
    notes: list[str] = field(default_factory=list)


def craft(prepared: Prepared, attack: str, source: str) -> Crafted:
    """Craft one set and predict it by all targets, all into the cache; time it if it is new."""
    of_attack, known = with_attack(prepared, attack), len(prepared.store.notes)
    try:
        seconds, passes = _cost(of_attack, source)
        evaluate(of_attack, PLAIN, sources=(source,))
    except AttackError as error:
        return Crafted(refused=str(error))
    except Exception as error:  # one attack of many must not end the board
        if is_out_of_memory(error) or isinstance(error, RobustkitError):
            raise
        refused = f"failed: {type(error).__name__}: {' '.join(str(error).split())}"
        return Crafted(refused=refused, bug=traceback.format_exc())
    return Crafted(seconds=seconds, passes=passes, notes=prepared.store.notes[known:])


def _cost(prepared: Prepared, source: str) -> tuple[float | None, float | None]:
    """Return seconds and forward passes an image, kept beside the set; crafts it if it is new."""
    net, count = prepared.sources[source], len(prepared.images)
    recipe = Recipe(
        images=prepared.images,
        attack=prepared.attack(),
        seed=derive_seed(prepared.config.seed, "transfer"),
        round=prepared.round,
        batch_size=prepared.batch_size,
        on_note=prepared.store.notes.append,
    )
    with on_device(net, prepared.device) as device:
        origin = recipe.origin(source_digest(net, prepared.images.shape))

        def measured() -> dict[str, torch.Tensor]:
            began = time.perf_counter()
            with _passes(net) as passes:
                recipe.fetch(net, origin, prepared.store)
            took = time.perf_counter() - began
            new = passes[0] > 0  # a set that was there already takes no pass
            cost = [took / count, passes[0] / count] if new else [UNKNOWN, UNKNOWN]
            return {"cost": torch.tensor(cost, dtype=torch.float64)}

        origin_of_cost = {**origin, "device": device.type}
        seconds, passes = prepared.store.fetch("cost", origin_of_cost, measured)["cost"].tolist()
    return (None if np.isnan(seconds) else seconds), (None if np.isnan(passes) else passes)


@contextmanager
def _passes(net: nn.Module) -> Iterator[list[int]]:
    """Count the images that a net is shown inside the context."""
    seen = [0]

    def count(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        seen[0] += len(arguments[0])

    members = list(net.members) if isinstance(net, Ensemble) else [net]
    # Some attacks call the net behind its preprocessing, and a defence calls it several times.
    inner = [each.net if isinstance(each, Classifier) else each for each in members]
    handles = [each.register_forward_pre_hook(count) for each in inner]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class CraftRow:
    """Job: `craft` in a worker; `settings` are those of the run as JSON."""

    settings: str
    attack: str
    source: str

    @property
    def id(self) -> str:
        """See `Job`."""
        return f"{self.attack}: {self.source}"

    def run(self) -> Crafted:
        """Return what it took."""
        return craft(_prepared(self.settings), self.attack, self.source)


@cached_per_process()
def _prepared(settings: str) -> Prepared:
    return prepared_board(json.loads(settings))


def craft_all(
    prepared: Prepared, attacks: tuple[str, ...], settings: Mapping[str, Any], log: Log
) -> dict[tuple[str, str], Crafted]:
    """Return what each attack took on each source, crafted here or on the settings' executor."""
    pairs = [(attack, source) for attack in attacks for source in prepared.sources]
    if settings["executor"] == "inline":
        found = {}
        for attack, source in pairs:
            log(f"{attack}: {source}")
            found[attack, source] = craft(prepared, attack, source)
        return found
    if settings["cache"] == "none" and settings["ray_address"] is not None:
        raise ConfigError(
            "--cache none with --ray-address: workers hand their sets over in the cache; name a "
            "folder that all machines share"
        )
    shared = json.dumps({**settings, "cache": str(prepared.store.folder)})
    rows = [CraftRow(shared, attack, source) for attack, source in pairs]
    with executor_of(settings) as executor:
        crafted = list(run_jobs(rows, executor, log=log))
    for each in crafted:
        prepared.store.notes += [note for note in each.notes if note not in prepared.store.notes]
    return dict(zip(pairs, crafted, strict=True))


def leaderboard(
    prepared: Prepared, attacks: tuple[str, ...], settings: Mapping[str, Any], log: Log
) -> Summary:
    """Craft, score and rank; `log` gets a line for every set."""
    began = time.perf_counter()
    checked = measure_clean_accuracy(
        prepared.loaded, prepared.device, prepared.batch_size, log, prepared.store
    )
    crafted = craft_all(prepared, attacks, settings, log)
    for (attack, source), each in crafted.items():
        if each.bug is not None:
            log(f"{attack}: {source}: failed, which is a bug; the other attacks go on:")
            for line in each.bug.splitlines():
                log(line)
    matrices = {
        (attack, source): evaluate(with_attack(prepared, attack), PLAIN, sources=(source,))
        for (attack, source), each in crafted.items()
        if each.refused is None
    }
    if not matrices:
        if bugs := [each.bug for each in crafted.values() if each.bug is not None]:
            raise RuntimeError(f"no attack could be made; the first failed so:\n{bugs[0]}")
        reasons = {each.refused for each in crafted.values()}
        raise ConfigError(f"no attack can be made on these sources: {min(map(str, reasons))}")
    correct = _correct(prepared, matrices)
    common = np.logical_and.reduce(list(correct.values()))
    pairs = pairs_of(prepared)
    by_attack = {
        attack: {s: matrices[attack, s] for s in prepared.sources if (attack, s) in matrices}
        for attack in attacks
    }
    scores: dict[str, NDArray[np.float64]] = {}
    for attack, of_attack in by_attack.items():
        everywhere = len(of_attack) == len(prepared.sources)
        if everywhere:
            scores[attack] = _outcomes(of_attack, pairs, common)
    ranks = ranked(scores, prepared.config.seed) if common.sum() > 1 else {}
    entries = {}
    for attack in attacks:
        found = {source: crafted[attack, source] for source in prepared.sources}
        place = ranks.get(attack)
        entries[attack] = Entry(
            score=None if place is None else place.score,
            best=None if place is None else place.best,
            worst=None if place is None else place.worst,
            cells=_cells(by_attack[attack], common),
            refused={s: each.refused for s, each in found.items() if each.refused is not None},
            seconds=_mean([each.seconds for each in found.values()]),
            passes=_mean([each.passes for each in found.values()]),
        )
    config: TransferConfig = prepared.config
    return Summary(
        n=len(prepared.images),
        n_common=int(common.sum()),
        eps=config.eps,
        norm=config.norm,
        sources=list(prepared.sources),
        targets=list(prepared.targets),
        clean={name: float(each.mean()) for name, each in correct.items()},
        warnings={name: each.warnings for name, each in checked.items() if each.warnings},
        attacks=entries,
        pixel_space=prepared.loaded.pixel_space(),
        device=str(prepared.device),
        seconds=Total(total=time.perf_counter() - began),
    )


def _correct(
    prepared: Prepared, matrices: Mapping[tuple[str, str], TransferMatrix]
) -> dict[str, NDArray[np.bool_]]:
    """Return which images every net gets right, sources that refuse all attacks included."""
    found: dict[str, NDArray[np.bool_]] = {}
    for matrix in matrices.values():
        found |= matrix.correct
    images, labels = prepared.images, prepared.images.labels
    for name in prepared.sources:
        if name not in found:
            net = prepared.sources[name]
            with on_device(net, prepared.device):
                predictions = PredictionCache(
                    net, images, prepared.store, batch_size=prepared.batch_size
                )
                found[name] = (predictions.clean() == labels).numpy()
    return found


def _outcomes(
    of_attack: Mapping[str, TransferMatrix],
    pairs: list[tuple[str, str]],
    common: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return on how many pairs, in [0,1], each common image's adversarials succeed, (n,)."""
    fooled = [of_attack[source].target_fooled[source, target][common] for source, target in pairs]
    return np.asarray(np.mean(fooled, axis=0))


def _cells(of_attack: Mapping[str, TransferMatrix], common: NDArray[np.bool_]) -> By:
    return {
        source: {
            target: share(matrix.target_fooled[source, target], common) for target in matrix.targets
        }
        for source, matrix in of_attack.items()
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
