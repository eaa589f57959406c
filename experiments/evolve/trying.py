"""How a candidate is tried: the task of one training, and what tells it from all others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evolution.candidate import Candidate
from experiments.evolve.agenda import Task
from experiments.evolve.identity import identity
from experiments.evolve.jobs import TrainNet
from robustkit.compute import derive_seed


@dataclass(frozen=True, kw_only=True)
class Search:
    """What all trials of one search share: its arm, the run, what its results depend on.

    `around` is of `identity.surroundings`. With `inherit`, children start from weights of their
    parents.
    """

    arm: str
    run_path: str
    seed: int
    scratch: str | None = None
    around: str = ""
    inherit: bool = False


def candidate_task(
    search: Search,
    candidate: Candidate,
    *,
    epochs: int | None = None,
    heirlooms: Sequence[str] | None = None,
) -> Task:
    """The trial of a candidate at trial budget: rung 0.

    With `epochs` it is one of the lower rungs of successive halving, kept in an arm of their own.
    `heirlooms` are the trained parents whose weights it starts from; unless None, it leaves its own
    to its children.
    """
    lower = "" if epochs is None else f"/{epochs} epochs"
    descent = f"/heir of {' and '.join(heirlooms)}" if heirlooms else ""
    key = f"{candidate.genotype.key()}/0{lower}{descent}"
    job = _job(
        search,
        candidate,
        rung=0,
        epochs=epochs,
        parents=tuple(heirlooms or ()),
        heirloom="" if heirlooms is None else heirloom(key),
    )
    if epochs is None:
        return _task(search.arm, f"{candidate.number:04d}", key, job, search, candidate, rung=0)
    arm = lower_rungs(search.arm)
    name = f"{candidate.number:04d}/{epochs}"
    return _task(arm, name, key, job, search, candidate, rung=0)


def promotion_task(search: Search, candidate: Candidate) -> Task:
    """The trial of a candidate at the finalists' budget, still without val: rung 1."""
    key = f"{candidate.genotype.key()}/1"
    job = _job(search, candidate, rung=1)
    arm, name = f"promote-{search.arm}", f"{candidate.number:04d}"
    return _task(arm, name, key, job, search, candidate, rung=1)


def lower_rungs(arm: str) -> str:
    """The arm in which the trials of an arm with fewer epochs than a trial's are kept."""
    return f"rungs-{arm}"


def heirloom(key: str) -> str:
    """The name under which the weights of the trial `key` are kept for its children."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _job(
    search: Search,
    candidate: Candidate,
    *,
    rung: int,
    epochs: int | None = None,
    parents: tuple[str, ...] = (),
    heirloom: str = "",
) -> TrainNet:
    genotype = candidate.genotype
    stage = (rung,) if epochs is None else (rung, epochs)
    return TrainNet(
        run_path=search.run_path,
        architecture={"family": "blueprint", "blueprint": genotype.blueprint().to_dict()},
        seed=derive_seed(search.seed, genotype.key(), *stage),
        part="trial" if rung == 0 else "train",
        penalised=True,
        final=rung > 0,
        scored=True,
        epochs=epochs,
        parents=parents,
        heirloom=heirloom,
        scratch=search.scratch,
    )


def _task(
    arm: str,
    name: str,
    key: str,
    job: TrainNet,
    search: Search,
    candidate: Candidate,
    *,
    rung: int,
) -> Task:
    payload: dict[str, Any] = {
        "genotype": candidate.genotype.to_dict(),
        "genotype_key": candidate.genotype.key(),
        "number": candidate.number,
        "parents": list(candidate.parents),
        "operator": candidate.operator,
        "generation": candidate.generation,
        "rung": rung,
    }
    if job.epochs is not None:
        payload["epochs"] = job.epochs
    if not job.parents:  # what was inherited is of this run alone
        payload["identity"] = identity(job, search.around)
    return Task(id=f"{arm}/{name}", arm=arm, key=key, job=job, payload=payload)
