"""The searches of the protocol: their trials as tasks, reuse of other runs, and which runner."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from evolution.genotype import Candidate, Genotype, Trial
from evolution.halving import rungs
from evolution.objectives import Objective
from evolution.presets import preset_genotypes
from evolution.protocol.config import EvolveConfig
from evolution.protocol.jobs import EarlyStop, TrainNet
from evolution.protocol.result import check_rows
from evolution.protocol.roles import REFERENCE, TrialId
from evolution.protocol.workspace import Workspace
from evolution.runner import Scheduler, Task, generational, steady, successive_halving
from evolution.strategies import SearchSettings, open_strategy
from robustkit import models
from robustkit.compute import derive_seed
from robustkit.data import Splits
from robustkit.errors import RunError
from robustkit.reading import Json
from robustkit.runs import Entry, Ledger, RunFolder

# Trials of these arms are of candidates, and may be reused; others belong to their run.
_REUSABLE = ("evolve", "random", "rungs-evolve", "promote-evolve", "promote-random")


def context_of(space: Workspace, lam: float | None = None) -> str:
    """Return what the results of a run's trials depend on: data, R, training and scoring.

    `lam` is the penalty's weight where it was chosen.
    """
    config = space.config
    context: dict[str, object] = {
        "data": {name: getattr(space.splits, name).digest() for name in ("train", "val")},
        "reference": models.digest(space.net(REFERENCE)),
        "training": [
            repr(config.training(penalised=True, final=final, seed=0, lam=lam))
            for final in (False, True)
        ],
        "attack": repr(config.make_attack()),
        "run": {name: getattr(config, name) for name in ("train_size", "grad_loss", "seed")},
        "device": space.device.type,
    }
    if len(config.references) > 1:
        others = config.references[1:]
        context["references"] = [models.digest(space.net(name)) for name in others]
    measures = sorted(config.own_measures())
    if measures:  # a trial that did not measure them is another one
        context["objectives"] = measures
    return json.dumps(context, sort_keys=True)


def trial_hash(job: TrainNet, context: str) -> str:
    """Return 32 hexadecimal digits of all that a trial's result depends on, in whichever run."""
    elsewhere = ("run_path", "kept_as", "scratch")  # where it is kept is no part of what it is
    fields = {name: value for name, value in asdict(job).items() if name not in elsewhere}
    for name in ("preprocessing", "lam", "early_stop"):  # hashes written before jobs had them
        if fields[name] is None:
            del fields[name]
    text = json.dumps(fields, sort_keys=True) + context
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def reusable(path: str | None) -> Mapping[str, Entry]:
    """Return the successful trials of another evolution by their trial hash.

    Failed ones are not among them: memory and time are a machine's. Raises `RunError` for a folder
    that is no evolution's.
    """
    if path is None:
        return {}
    folder = RunFolder.open(path, command="evolve")
    file = folder.file("ledger.sqlite")
    if not Path(file).is_file():
        raise RunError(f"{path}: an evolution without a ledger: nothing to reuse")
    with Ledger.read(file) as ledger:
        entries = ledger.trials()
    check_rows(entries, file)
    # Of trials with one hash, that of the later arm in this order counts.
    entries.sort(key=lambda entry: (*_REUSABLE, entry.stage).index(entry.stage))
    return {
        entry.payload["identity"]: entry
        for entry in entries
        if entry.stage in _REUSABLE and entry.outcome == "Ok" and "identity" in entry.payload
    }


@dataclass(frozen=True, kw_only=True)
class Search:
    """The fields that all trials of one search share.

    `name` is "evolve" or "random", the control; `context` is that of `context_of`; `lam` the
    penalty's weight where it was chosen; `reference` R's architecture, from which a search starts.
    `curves` are the accuracies on val after each epoch of R's architecture at trial budget: "R2",
    and "R2/EPOCHS" on lower rungs; empty where it cannot be built again.
    """

    name: str
    run_path: str
    seed: int
    scratch: str | None = None
    context: str = ""
    lam: float | None = None
    reference: Json | None = None
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)


class CandidateTasks:
    """The trials of one search as tasks.

    `epochs` are those of the rungs of successive halving, of which the last is a trial at trial
    budget; without them there is no lower rung. On the lowest rung candidates that `inherits` says
    so of start from their parents' weights, and keep their own for their children. `early_stops`
    are those of the rungs, by which trials may end before their last epoch.
    """

    def __init__(
        self,
        search: Search,
        *,
        epochs: tuple[int, ...] = (),
        early_stops: tuple[EarlyStop | None, ...] = (),
        inherits: Callable[[Candidate], bool] = lambda candidate: False,
    ) -> None:
        self._search, self._inherits = search, inherits
        self._epochs: tuple[int | None, ...] = (*epochs[:-1], None)
        self._early_stops = early_stops or (None,) * len(self._epochs)
        self._weights: dict[int, str] = {}

    def trial(self, candidate: Candidate, rung: int = 0) -> Task:
        """Return the trial of a candidate on a rung, the last one being that at trial budget."""
        epochs = self._epochs[rung]
        inherits = rung == 0 and self._inherits(candidate)
        parents = tuple(self._weights[parent] for parent in candidate.parents) if inherits else ()
        lower = "" if epochs is None else f"/{epochs} epochs"
        descent = f"/heir of {' and '.join(parents)}" if parents else ""
        key = f"{candidate.genotype.key()}/0{lower}{descent}"
        if rung == 0:
            self._weights[candidate.number] = _weights_name(key)
        stage = "search" if epochs is None else "rung"
        return self._task(
            TrialId(stage=stage, search=self._search.name, number=candidate.number, epochs=epochs),
            key,
            candidate,
            parents=parents,
            kept_as=_weights_name(key) if inherits else "",
            early_stop=self._early_stops[rung],
        )

    def promotion(self, candidate: Candidate) -> Task:
        """Return the trial of a candidate at the budget of final training, still without val."""
        trial_id = TrialId(stage="promotion", search=self._search.name, number=candidate.number)
        return self._task(trial_id, f"{candidate.genotype.key()}/1", candidate, rung=1)

    def _task(
        self,
        trial_id: TrialId,
        key: str,
        candidate: Candidate,
        *,
        rung: int = 0,
        parents: tuple[str, ...] = (),
        kept_as: str = "",
        early_stop: EarlyStop | None = None,
    ) -> Task:
        search, genotype = self._search, candidate.genotype
        budget = (rung,) if trial_id.epochs is None else (rung, trial_id.epochs)
        job = TrainNet(
            run_path=search.run_path,
            architecture={"family": "blueprint", "blueprint": genotype.blueprint().to_dict()},
            seed=derive_seed(search.seed, genotype.key(), *budget),
            part="trial" if rung == 0 else "train",
            penalised=True,
            final=rung > 0,
            scored=True,
            epochs=trial_id.epochs,
            parents=parents,
            kept_as=kept_as,
            scratch=search.scratch,
            lam=search.lam,
            early_stop=early_stop,
        )
        payload: dict[str, object] = {
            "genotype": genotype.to_dict(),
            "genotype_key": genotype.key(),
            "number": candidate.number,
            "parents": list(candidate.parents),
            "operator": candidate.operator,
            "generation": candidate.generation,
            "rung": rung,
        }
        if trial_id.epochs is not None:
            payload["epochs"] = trial_id.epochs
        if not parents:  # inherited weights are of this run alone
            payload["identity"] = trial_hash(job, search.context)
        return Task(id=str(trial_id), stage=trial_id.arm, key=key, job=job, payload=payload)


def _weights_name(key: str) -> str:
    """Return the name under which the weights of the trial `key` are kept for its children."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def lower_rungs(search: str) -> str:
    """Return the arm of the trials of a search with fewer epochs than trial budget."""
    return TrialId(stage="rung", search=search).arm


async def run_search(
    search: Search,
    config: EvolveConfig,
    splits: Splits,
    baseline: Mapping[str, Mapping[str, float]],
    scheduler: Scheduler,
    ledger: Ledger,
    *,
    priority: int = 0,
) -> list[Trial]:
    """Run a search; return its successful trials at trial budget, by candidate number.

    "random" is the control, which has as many epochs and no halving. `baseline` has the accuracies
    and MACs of R's architecture: "R2", and with halving "R2/EPOCHS" of each rung below the last
    one. A steady search goes on from its entries in `ledger`.
    """
    control = search.name == "random"
    settings = search_settings(
        config,
        splits,
        baseline=baseline["R2"]["accuracy"],
        macs=int(baseline["R2"]["macs"]),
        reference=search.reference,
        name=search.name,
    )
    epochs: tuple[int, ...] = ()
    objectives: list[tuple[Objective, ...]] = []
    if config.halving is not None and not control:
        epochs = rungs(config.epochs, config.halving)
        objectives = [
            config.objectives_above(baseline[f"R2/{lower}"]["accuracy"]) for lower in epochs[:-1]
        ]
        # As many as there would be without promotions: the epochs are what ends the search.
        most = -(-config.search_epochs // epochs[0] // config.population)
        settings = replace(settings, objectives=objectives[0], generations=most)
    strategy = open_strategy("random" if control else config.strategy, settings)
    early_stops = tuple(
        early_stop(config, search.curves.get(name, ()), bounds)
        for name, bounds in [
            *((f"R2/{lower}", each) for lower, each in zip(epochs, objectives, strict=False)),
            ("R2", config.objectives_above(baseline["R2"]["accuracy"])),
        ]
    )

    def inherits(candidate: Candidate) -> bool:
        # A search that breeds nothing shares no more than its first candidates with one that does.
        breeds = strategy.informed or candidate.number < settings.population
        return config.inherit and breeds

    tasks = CandidateTasks(search, epochs=epochs, early_stops=early_stops, inherits=inherits)
    if config.mode == "generational":
        trials = await generational(strategy, scheduler, tasks.trial, priority=priority)
    else:
        stages = (search.name, lower_rungs(search.name))
        recorded = [entry for entry in ledger.in_order() if entry.stage in stages]
        in_flight = config.in_flight or 1
        if config.halving is None or control:
            trials = await steady(
                strategy,
                scheduler,
                tasks.trial,
                in_flight=in_flight,
                recorded=recorded,
                priority=priority,
            )
        else:
            trials = await successive_halving(
                strategy,
                scheduler,
                tasks.trial,
                epochs=epochs,
                rate=config.halving,
                objectives=objectives,
                budget=config.search_epochs,
                in_flight=in_flight,
                recorded=recorded,
                priority=priority,
            )
    last = max(len(epochs) - 1, 0)
    successful = [trial for trial in trials if trial.outcome == "Ok" and trial.rung == last]
    return sorted(successful, key=lambda trial: trial.number)


def early_stop(
    config: EvolveConfig, curve: Sequence[float], objectives: Sequence[Objective]
) -> EarlyStop | None:
    """Return by which rule trials end early; None where no rule is set or nothing is known.

    After half of the epochs, and at least one, a trial ends whose accuracy is more than the margin
    below the `curve` of R's architecture, which has an accuracy for each epoch. It is never above
    the bound of the `objectives` nor above what can be selected, so that no candidate counts as
    feasible or is selected that was stopped.
    """
    bounds = [each.bound for each in objectives if each.name == "accuracy" and each.sign > 0]
    after = max(1, len(curve) // 2)
    if config.early_stop is None or after >= len(curve) or not bounds or bounds[0] is None:
        return None
    selectable = curve[-1] - config.tolerance
    return EarlyStop(after, min(curve[after - 1] - config.early_stop, bounds[0], selectable))


def search_settings(
    config: EvolveConfig,
    splits: Splits,
    *,
    baseline: float,
    macs: int,
    reference: Mapping[str, object] | None = None,
    name: str = "evolve",
) -> SearchSettings:
    """Return the settings that the search `name` starts from.

    `baseline` is the accuracy that bounds feasibility, `macs` what R costs per image. The control
    has a seed of its own. Where R's architecture is given as `reference` and the config asks for
    it, the first generation has that and nets of known families.
    """
    space, train = config.space(reference_macs=macs), splits.train
    presets: tuple[Genotype, ...] = ()
    if config.presets and reference is not None:
        presets = tuple(preset_genotypes(space, train.shape, train.num_classes, reference))
    return SearchSettings(
        space=space,
        input_shape=train.shape,
        num_classes=train.num_classes,
        objectives=config.objectives_above(baseline),
        population=config.population,
        generations=config.generations,
        screen=config.screen,
        seed=derive_seed(
            config.seed_of_searches, "search" if name == "evolve" else "random search"
        ),
        presets=presets,
    )


def sampled(config: EvolveConfig, splits: Splits, macs: int) -> list[Genotype]:
    """Return `final_seeds` random networks of the space, `macs` being what R costs per image."""
    settings = search_settings(config, splits, baseline=0.0, macs=macs, name="random")
    count = max(config.final_seeds, 2)
    seed = derive_seed(config.seed, "random architectures")
    strategy = open_strategy("random", replace(settings, population=count, seed=seed))
    return [candidate.genotype for candidate in strategy.ask()][: config.final_seeds]
