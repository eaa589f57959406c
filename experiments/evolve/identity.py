"""What a trial depends on, as a name: trials of one name have one result, in whichever run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from experiments.evolve.jobs import TrainNet
from experiments.evolve.rows import check_rows
from experiments.evolve.workspace import REFERENCE, Workspace
from robustkit import models
from robustkit.errors import RunError
from robustkit.runs import Ledger, RunFolder, Trial

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


def reusable(path: str | None) -> Mapping[str, Trial]:
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
