"""What the nets of a search are worth: trained again from scratch, and tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deap import tools

from evolution import Genotype
from evolution.candidate import Candidate, Scored
from evolution.pareto import individuals
from experiments.evolve.config import EvolveConfig
from experiments.evolve.jobs import TrainNet
from experiments.evolve.workspace import Workspace
from experiments.reproduce.strategies.settings import JUDGED, MOMENTS
from robustkit import attacks, models
from robustkit.compute import DivergedError, derive_seed
from robustkit.runs import Trial


def judge_moments(
    trials: Sequence[Trial],
    config: EvolveConfig,
    base: EvolveConfig,
    baseline: Mapping[str, Mapping[str, Any]],
    space: Workspace,
) -> dict[str, list[dict[str, Any]]]:
    """By share of the cost, the nets that the search would have named then, judged.

    `trials` are in the order of their endings. Named are the `JUDGED` best by constrained
    domination and crowding (NSGA-II's selection) among those tried longest. Each is trained from
    scratch for the epochs of `base`, from a seed that no search knows, and tested: so no net
    profits from having been lucky in its trial, or from inherited weights.
    """
    known: dict[str, dict[str, Any]] = {}
    moments: dict[str, list[dict[str, Any]]] = {}
    total = config.search_epochs
    for moment in MOMENTS:
        spent, seen = 0, []
        for trial in trials:
            spent += trial.payload.get("epochs", config.epochs)
            if spent > moment * total:
                break
            seen.append(trial)
        named = _best(seen, config, baseline)
        for trial in named:
            key = trial.payload["genotype_key"]
            if key not in known:
                known[key] = _judged(Genotype.from_dict(trial.payload["genotype"]), base, space)
        moments[f"{moment:g}"] = [known[trial.payload["genotype_key"]] for trial in named]
    return moments


def _best(
    trials: Sequence[Trial],
    config: EvolveConfig,
    baseline: Mapping[str, Mapping[str, Any]],
) -> list[Trial]:
    """Of the trials of most epochs that there are, the best."""
    ended = [trial for trial in trials if trial.outcome == "Ok"]
    longest = max((_epochs(trial, config) for trial in ended), default=0)
    by_number = {t.payload["number"]: t for t in ended if _epochs(t, config) == longest}
    whole = longest == config.epochs
    objectives = config.objectives_above(baseline["R2" if whole else f"R2/{longest}"]["accuracy"])
    scored = [
        Scored(
            Candidate(number, Genotype.from_dict(trial.payload["genotype"]), (), "", 0),
            "Ok",
            trial.result,
        )
        for number, trial in by_number.items()
    ]
    chosen = tools.selNSGA2(individuals(scored, objectives), JUDGED)
    return [by_number[each.scored.candidate.number] for each in chosen]


def _epochs(trial: Trial, config: EvolveConfig) -> int:
    return int(trial.payload.get("epochs", config.epochs))


def _judged(genotype: Genotype, base: EvolveConfig, space: Workspace) -> dict[str, Any]:
    """Accuracy and transfer from R on test of a net trained from scratch; None where it fails."""
    key, name = genotype.key(), "judged"
    job = TrainNet(
        run_path=str(space.folder.path),
        architecture={"family": "blueprint", "blueprint": genotype.blueprint().to_dict()},
        seed=derive_seed(base.seed, key, "judged"),
        part="trial",
        penalised=True,
        final=False,
        name=name,
        epochs=base.epochs,
    )
    try:
        job.run()
    except DivergedError:
        return {"key": key, "accuracy": None, "transfer": None}
    return {"key": key, **measured(space.net(name), space)}


def measured(net: models.Classifier, space: Workspace) -> dict[str, Any]:
    """Accuracy, and the share of R's adversarials it gets wrong of what both get right, on test."""
    made, labels = space.adversarials("R", "test", flipped=False), space.splits.test.labels
    right = attacks.predict(net, space.splits.test.images).argmax(dim=1) == labels
    misled = attacks.predict(net, made.images).argmax(dim=1) != labels
    common = right & made.correct
    return {
        "accuracy": float(right.double().mean()),
        "transfer": float(misled[common].double().mean()) if bool(common.any()) else 1.0,
        "n": int(common.sum()),
    }
