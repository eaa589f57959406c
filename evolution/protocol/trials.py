"""What a trial depends on, as a name: trials of one name have one result, in whichever run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evolution.genotype import Candidate
from evolution.protocol.jobs import TrainNet
from evolution.protocol.result import check_rows
from evolution.protocol.workspace import REFERENCE, Workspace
from evolution.runner.scheduler import Task
from robustkit import models
from robustkit.compute import derive_seed
from robustkit.errors import RunError
from robustkit.runs import Entry, Ledger, RunFolder

# Trials of these arms are of candidates; others belong to their run.
ARMS = ("evolve", "random", "rungs-evolve", "promote-evolve", "promote-random")


def surroundings(space: Workspace) -> str:
    """What all trials of a run share: data, R, and how nets are trained and scored."""
    config = space.config
    told = {
        "data": {name: getattr(space.splits, name).digest() for name in ("train", "val")},
        "reference": models.digest(space.net(REFERENCE)),
        "training": [
            repr(config.training(penalised=True, final=final, seed=0)) for final in (False, True)
        ],
        "attack": repr(config.make_attack()),
        "run": {name: getattr(config, name) for name in ("train_size", "grad_loss", "seed")},
        "device": space.device.type,
    }
    own = sorted(config.own_measures())
    if own:  # a trial that did not measure them is another one
        told["objectives"] = own
    return json.dumps(told, sort_keys=True)


def identity(job: TrainNet, around: str) -> str:
    """The name of a trial: genotype, data, R, settings and seed, as 32 hexadecimal digits."""
    elsewhere = ("run_path", "heirloom", "scratch")  # where it is kept is no part of what it is
    own = {name: value for name, value in asdict(job).items() if name not in elsewhere}
    if job.preprocessing is None:  # as trials are named that know of none
        del own["preprocessing"]
    text = json.dumps(own, sort_keys=True) + around
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def reusable(path: str | None) -> Mapping[str, Entry]:
    """The finished trials of another evolution, by what they depend on.

    What failed is not among them: memory and time are a machine's. Raises `RunError` for a folder
    that is no evolution's.
    """
    if path is None:
        return {}
    folder = RunFolder.open(path, verb="evolve")
    file = folder.file("ledger.sqlite")
    if not Path(file).is_file():
        raise RunError(f"{path}: an evolution without a ledger: nothing to reuse")
    with Ledger.read(file) as ledger:
        trials = ledger.trials()
    check_rows(trials, file)
    # The later of an arm's order wins, as ever.
    trials.sort(key=lambda trial: (*ARMS, trial.arm).index(trial.arm))
    return {
        trial.payload["identity"]: trial
        for trial in trials
        if trial.arm in ARMS and trial.outcome == "Ok" and "identity" in trial.payload
    }


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
