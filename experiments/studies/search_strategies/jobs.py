"""The jobs of the study: prepare R for a seed; a whole search, its nets tested; their results."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from deap import tools
from msgspec import UNSET, Meta, UnsetType, structs

from evolution import Genotype
from evolution.genotype import Candidate, Trial
from evolution.halving import rungs
from evolution.objectives import individuals
from evolution.protocol.config import EvolveConfig
from evolution.protocol.jobs import PrepareReference, TrainNet
from evolution.protocol.reference import architecture
from evolution.protocol.search import Search, context_of, run_search
from evolution.protocol.workspace import Workspace
from evolution.runner import Scheduler
from experiments.studies.base import StudyJob, StudySummary
from experiments.studies.measures import small_cifar10
from experiments.studies.simulated import SimulatedWorkers, macs_of
from robustkit import attacks, models
from robustkit.cli.parser import plain
from robustkit.compute import derive_seed
from robustkit.errors import RunError
from robustkit.jobs import DivergedError
from robustkit.jobs.executors import attempt
from robustkit.reading import check_kind, read_json
from robustkit.runs import Entry, Ledger, RunFolder
from robustkit.runs.summaries import Amount, Count, MeanShare, Result, check_has, shown

SIDE = 16
BASELINE = "baseline.json"
WORKERS = 4
COST_SHARES = (0.25, 0.5, 0.75, 1.0)  # shares of the cost at which the nets found so far are tested
TESTED = 4  # nets tested at each

_STEADY = {"mode": "steady", "in_flight": WORKERS}
# Every search by what it has of its own; "short" is the control of inheritance.
SEARCHES: dict[str, dict[str, object]] = {
    "random": {"strategy": "random"},
    "nsga2": {},
    "mu_plus_lambda": {"strategy": "mu_plus_lambda"},
    "ageing": {"strategy": "ageing"},
    "steady": _STEADY,
    "halving": _STEADY | {"halving": 2},
    "halving of random": _STEADY | {"halving": 2, "strategy": "random"},
    "short": {"epochs": 1},
    "inheritance": {"epochs": 1, "inherit": True},
}
SMOKE = ("random", "halving", "inheritance")

Measures = Mapping[str, Any]  # of a trial, by their names

Volume = Annotated[float, Meta(ge=0, le=100)]
Volumes = dict[str, Volume]
"""At the shares of the cost."""


class Measured(Result, frozen=True, kw_only=True):
    """A net trained from scratch, on test images."""

    accuracy: MeanShare
    transfer: MeanShare
    n: Count | UnsetType = UNSET  # images that it and R get right


class Evaluated(Result, frozen=True, kw_only=True):
    """The same of a net by the `key` of its genotype; None for one that failed."""

    key: str | UnsetType = UNSET
    accuracy: MeanShare | None
    transfer: MeanShare | None
    n: Count | UnsetType = UNSET


class Searched(Result, frozen=True, kw_only=True):
    """One search of a seed: what it found by when, and what it spent."""

    hypervolume: Volumes
    nets: list[Evaluated] | UnsetType = UNSET
    trials: Count
    failed: Count
    epochs: Count
    time: Amount


class Baseline(Result, frozen=True, kw_only=True):
    """The values of a trial of R's architecture that a search needs."""

    accuracy: MeanShare
    macs: Annotated[int, Meta(ge=1)]


class Validation(Baseline, frozen=True, kw_only=True):
    """R's architecture on validation."""

    transfer: MeanShare


class Reference(Result, frozen=True, kw_only=True):
    """R's architecture by epochs, and `judged`: retrained as the nets that were found are."""

    validation: dict[str, Validation] | UnsetType = UNSET
    judged: Measured


Seeds = Annotated[dict[str, Searched], Meta(min_length=1)]


Share = Literal["0.25", "0.5", "0.75", "1"]
Moments = Annotated[dict[Share, list[Evaluated]], Meta(min_length=4)]
"""At the shares of the cost."""


class Spent(Result, frozen=True, kw_only=True):
    """The result of a search."""

    trials: Count
    failed: Count
    epochs: Count
    time: Amount
    moments: Moments


class Summary(StudySummary, frozen=True, kw_only=True):
    """Results by search and seed; the reference by seed."""

    searches: Annotated[dict[str, Seeds], Meta(min_length=1, max_length=500)]
    reference: Annotated[dict[str, Reference], Meta(min_length=1)]


def check(summary: Summary, where: str, rivals: tuple[str, ...], moments: tuple[str, ...]) -> None:
    """Raise `RunError` where a rival lacks a seed of a search, and a search one of `moments`."""
    searches = summary.searches
    for search, seeds in searches.items():
        for seed, searched in seeds.items():
            entry = f"{where}: searches.{search}.{seed}.hypervolume"
            check_has(searched.hypervolume, moments, entry)
            if len(searched.hypervolume) > len(moments):
                raise RunError(f"{entry}: has more than {', '.join(moments)}")
    for rival in rivals:
        for search, seeds in searches.items():
            lacking = (
                [] if rival not in searches else [s for s in seeds if s not in searches[rival]]
            )
            if lacking:
                raise RunError(
                    f"{where}: searches.{rival}: the seed {shown(lacking[0])} of {shown(search)} "
                    "is missing"
                )


def common(seed: int, *, smoke: bool) -> EvolveConfig:
    """Return R, space, data and budget of all searches of a seed."""
    if smoke:
        return EvolveConfig(
            reference=("small",),
            lam=1.0,
            penalty_every=1,  # as when the committed searches ran
            population=4,
            generations=2,
            epochs=2,
            final_epochs=2,
            train_size=200,
            eps=0.15,
            max_params=30_000,
            max_macs=600_000,
            seed=seed,
        )
    return EvolveConfig(
        reference=("vgg5?width=16",),
        lam=1.0,
        penalty_every=1,
        population=8,
        generations=4,
        objectives="accuracy:max,transfer:min",
        epochs=4,
        final_epochs=6,
        train_size=4000,
        test_size=3000,
        augment="flip",
        views=2,
        max_blocks=6,
        max_macs=800_000,
        # Depthwise convolutions take up to ten times as long a step on these cores, and the
        # budget is in epochs.
        kinds=("conv", "residual", "dense", "inception", "pool", "identity"),
        channels=(16, 24, 32, 48, 64, 96, 128),
        kernels=(3, 5),
        seed=seed,
    )


def config_of(search: str, base: EvolveConfig) -> EvolveConfig:
    """Return the settings of one search; fewer epochs a trial make for as many more generations."""
    settings = replace(base, **SEARCHES[search])  # type: ignore[arg-type]
    return replace(
        settings, generations=base.search_epochs // (settings.population * settings.epochs)
    )


def lowest_epochs(base: EvolveConfig) -> tuple[int, ...]:
    """Return every number of epochs for which some search wants to know how R's
    architecture does.
    """
    counts = [base.epochs]
    while counts[-1] > 1:
        counts.append(counts[-1] // 2)
    return tuple(reversed(counts))


def prepare_place(path: Path, config: EvolveConfig, source: str) -> Workspace:
    """Return a fresh run folder at `path`; what an earlier attempt left is removed."""
    shutil.rmtree(path, ignore_errors=True)
    options = {"data": source, "root": None, "download": False, "device": "cpu"}
    folder = RunFolder.create(path, command="evolve", config=options | plain(config), argv=[])
    space = Workspace(folder)
    space.scratch.mkdir()
    space.net_path("R").parent.mkdir()
    return space


def place_beside(prepared: Path, path: Path, config: EvolveConfig) -> Workspace:
    """Return a run folder of its own for one search, with R and what was derived from it linked."""
    source = RunFolder.open(prepared).config["data"]
    space = prepare_place(path, config, str(source))
    for part in (space.net_path("R").parent, space.scratch):
        shutil.copytree(prepared / part.name, part, copy_function=os.link, dirs_exist_ok=True)
    return space


def baseline_of(prepared: Path, epochs: Sequence[int]) -> dict[int, Measures]:
    """Return trials of R's architecture by `epochs`; raises `RunError` where their file
    lacks one.
    """
    path = prepared / BASELINE
    content = read_json(path, error=RunError, follow=False)
    trials = check_kind(content, dict[str, Baseline], str(path), error=RunError)
    check_has(trials, map(str, epochs), str(path))
    return {count: content[str(count)] for count in epochs}


def test_moments(
    trials: Sequence[Entry],
    config: EvolveConfig,
    base: EvolveConfig,
    baseline: Mapping[str, Measures],
    space: Workspace,
) -> Moments:
    """Return, by share of the cost, the nets that the search would have named then, tested.

    `trials` are in the order of their endings. Named are the `TESTED` best by constrained
    domination and crowding (NSGA-II's selection) among those tried longest. Each is trained from
    scratch for the epochs of `base`, from a seed that no search knows, and tested: so no net
    profits from having been lucky in its trial, or from inherited weights.
    """
    tested: dict[str, Evaluated] = {}
    moments: Moments = {}
    total = config.search_epochs
    for share, fraction in zip(get_args(Share), COST_SHARES, strict=True):
        spent, ended = 0, []
        for trial in trials:
            spent += trial.payload.get("epochs", config.epochs)
            if spent > fraction * total:
                break
            ended.append(trial)
        named = _best(ended, config, baseline)
        for trial in named:
            key = trial.payload["genotype_key"]
            if key not in tested:
                tested[key] = _tested(Genotype.from_dict(trial.payload["genotype"]), base, space)
        moments[share] = [tested[trial.payload["genotype_key"]] for trial in named]
    return moments


def _best(
    trials: Sequence[Entry],
    config: EvolveConfig,
    baseline: Mapping[str, Measures],
) -> list[Entry]:
    """Return the best of the trials with the most epochs."""
    ended = [trial for trial in trials if trial.outcome == "Ok"]
    longest = max((_epochs(trial, config) for trial in ended), default=0)
    by_number = {t.payload["number"]: t for t in ended if _epochs(t, config) == longest}
    whole = longest == config.epochs
    objectives = config.objectives_above(baseline["R2" if whole else f"R2/{longest}"]["accuracy"])
    scored = [
        Trial(
            Candidate(number, Genotype.from_dict(trial.payload["genotype"]), (), "", 0),
            "Ok",
            trial.result,
        )
        for number, trial in by_number.items()
    ]
    chosen = tools.selNSGA2(individuals(scored, objectives), TESTED)
    return [by_number[best.trial.number] for best in chosen]


def _epochs(trial: Entry, config: EvolveConfig) -> int:
    return int(trial.payload.get("epochs", config.epochs))


def _tested(genotype: Genotype, base: EvolveConfig, space: Workspace) -> Evaluated:
    """Return accuracy and transfer from R on test of a net trained from scratch.

    None where it fails.
    """
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
        return Evaluated(key=key, accuracy=None, transfer=None)
    return Evaluated(key=key, **structs.asdict(measured(space.net(name), space)))


def measured(net: models.Classifier, space: Workspace) -> Measured:
    """Return accuracy on test, and the share of R's adversarials that fool the net."""
    adversarials, labels = space.adversarials("R", "test", flipped=False), space.splits.test.labels
    right = attacks.predicted_classes(net, space.splits.test.images) == labels
    fooled = attacks.predicted_classes(net, adversarials.images) != labels
    common = right & adversarials.correct
    return Measured(
        accuracy=float(right.double().mean()),
        transfer=float(fooled[common].double().mean()) if bool(common.any()) else 1.0,
        n=int(common.sum()),
    )


@dataclass(frozen=True)
class Prepare(StudyJob):
    """Train R, keep its gradients and adversarials, try its architecture at every budget."""

    path: str
    seed: int
    smoke: bool

    kind = Reference

    def run(self) -> Reference:
        """Return R's architecture on validation by epochs, and retrained and tested as the
        others.
        """
        root = Path(self.path)
        source = "digits" if self.smoke else small_cifar10(root / f"cifar10-{self.seed}.npz")
        config = common(self.seed, smoke=self.smoke)
        space = prepare_place(root / f"R-{self.seed}", config, source)
        built_of, run_path = architecture("R", config.reference[0], space), str(space.folder.path)

        def train(part: str, **options: Any) -> Any:
            seed = derive_seed(self.seed, "reference", part)
            return TrainNet(run_path, built_of, seed, part, penalised=False, **options).run()

        train("train", final=True, name="R")
        PrepareReference(run_path).run()
        trials = {
            str(epochs): train("trial", final=False, scored=True, epochs=epochs)
            for epochs in lowest_epochs(config)
        }
        space.folder.write_json(BASELINE, trials)
        train("trial", final=False, name="R2", epochs=config.epochs)
        validation = {
            epochs: Validation.from_json(trial, epochs) for epochs, trial in trials.items()
        }
        return Reference(validation=validation, judged=measured(space.net("R2"), space))


@dataclass(frozen=True)
class SearchAndTest(StudyJob):
    """One search beside the prepared R, on simulated workers, and its nets tested on the way."""

    path: str
    search: str
    seed: int
    smoke: bool

    kind = Spent

    def run(self) -> Spent:
        """Return what was spent, in trials and in operations; see `test_moments` for the rest."""
        base = common(self.seed, smoke=self.smoke)
        config = config_of(self.search, base)
        prepared = Path(self.path) / f"R-{self.seed}"
        path = Path(self.path) / f"{self.search.replace(' ', '-')}-{self.seed}"
        space = place_beside(prepared, path, config)
        lower = [] if config.halving is None else rungs(config.epochs, config.halving)[:-1]
        tried = baseline_of(prepared, [config.epochs, *lower])
        baseline = {
            "R2": tried[config.epochs],
            **{f"R2/{epochs}": tried[epochs] for epochs in lower},
        }
        with Ledger.create(space.folder.file("ledger.sqlite")) as ledger:
            time = self._search(config, space, baseline, ledger)
            trials = ledger.in_order()
        spent = sum(trial.payload.get("epochs", config.epochs) for trial in trials)
        result = Spent(
            trials=len(trials),
            failed=sum(trial.outcome != "Ok" for trial in trials),
            epochs=spent,
            time=time,
            moments=test_moments(trials, config, base, baseline, space),
        )
        space.clear_scratch()
        return result

    def _search(
        self,
        config: EvolveConfig,
        space: Workspace,
        baseline: Mapping[str, Measures],
        ledger: Ledger,
    ) -> float:
        """Run it; the simulated time it took, in epochs of R's operations."""
        shape, classes = space.splits.train.shape, space.splits.train.num_classes

        def duration(job: TrainNet) -> float:
            epochs = config.epochs if job.epochs is None else job.epochs
            return epochs * macs_of(job, shape, classes) / float(baseline["R2"]["macs"])

        workers = SimulatedWorkers(WORKERS, duration, attempt)
        scheduler = Scheduler(workers, ledger)
        search = Search(
            name="evolve",
            run_path=str(space.folder.path),
            seed=derive_seed(self.seed, "search"),
            context=context_of(space),
        )
        scheduler.run(run_search(search, config, space.splits, baseline, scheduler, ledger))
        return workers.now
