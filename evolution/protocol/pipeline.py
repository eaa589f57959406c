"""The protocol: R → baselines → λ → search → final training → test evaluation, in one script.

References, unless they are given, and surrogates are trained; the references' gradients and
adversarials are prepared; R's architecture is trained again as R was, which says whether R's
attacks transfer at all, and at trial budget, which sets the searches' accuracy threshold (R itself
does where its architecture cannot be built again) and chooses the penalty's weight; the search and
its random control run; the selected nets and all controls are trained in full and evaluated on
test. The parts are coroutines: nothing waits for a phase to end that it does not depend on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from evolution.genotype import Genotype, Trial
from evolution.halving import rungs
from evolution.protocol.jobs import EvaluateNet, PrepareReference, TrainNet
from evolution.protocol.reference import Recipe, open_reference, other_family, pooled, recipe
from evolution.protocol.result import Penalty, Qualification
from evolution.protocol.roles import (
    BASELINES,
    CONTROLS,
    PENALISED,
    REFERENCE,
    SEARCHES,
    TrialId,
)
from evolution.protocol.search import (
    CandidateTasks,
    Search,
    context_of,
    reusable,
    run_search,
    sampled,
)
from evolution.protocol.selection import AccuracyThreshold, Selection, ranked
from evolution.protocol.workspace import Workspace, make_scratch
from evolution.runner import Pending, Scheduler, Task, trial_of
from robustkit import models
from robustkit.compute import derive_seed
from robustkit.errors import ModelError, RunError
from robustkit.jobs import Executor, Runnable
from robustkit.reading import Json
from robustkit.runs import Entry, Ledger
from robustkit.stats import wilson

# Smaller goes first: what others wait for, then the searches, then what merely has to be done.
FIRST, SEARCH, SELECTED, CONTROL, FILLER = range(5)
TESTABLE = 0.5  # T(R→R2) on validation below which R's attacks are not worth escaping


class Protocol:
    """One run of the protocol.

    `reference` says what R is. After `run()`, `prepared` is R's result of `PrepareReference`;
    `qualifications` how the references' architectures did when trained again as they were, by
    name, as far as that was done;
    `penalty` the weight of the penalty and how it was chosen; `baseline` R's architecture at trial
    budget, means over trainings, without ("R2") and with the penalty ("Rp"), empty where it cannot
    be built again; `selections` has the roles E, E0 and RS for keys; `left_out` the roles that
    there are not, with the reason.
    """

    def __init__(
        self,
        space: Workspace,
        executor: Executor,
        ledger: Ledger,
        on_entry: Callable[[Entry], None],
    ) -> None:
        self.space, self.config = space, space.config
        self.prepared: Json = {}
        self.qualifications: dict[str, Qualification] = {}
        self.penalty: Penalty | None = None
        self.baseline: dict[str, Json] = {}
        self._curves: dict[str, list[float]] = {}
        self.selections: dict[str, Selection] = {}
        self._lower = (
            rungs(self.config.epochs, self.config.halving)[:-1] if self.config.halving else ()
        )
        self._path, self._scratch = str(space.folder.path.resolve()), str(space.scratch)
        self._executor, self._ledger = executor, ledger
        run = space.folder.config
        self._scheduler = Scheduler(executor, ledger, on_entry, reusable(run.get("reuse")))
        self.references = {name: open_reference(space, name) for name in self.config.references}
        self.reference = self.references[REFERENCE]
        self._recipe = recipe(
            REFERENCE, self.config.reference[0], space, given=self.reference.given
        )
        self.left_out = dict(self.reference.left_out)
        if "architecture" not in self.config.baselines:
            not_asked = dict.fromkeys(CONTROLS, "--baselines does not name architecture")
            self.left_out = not_asked | self.left_out
        self._built_of = self._recipes()
        self._tested: set[str] = set()

    def _recipes(self) -> dict[str, Recipe]:
        """Return what the nets of known architecture are built of, by role; note what is not."""
        recipes = dict.fromkeys(CONTROLS, self._recipe)
        if "family" in self.config.baselines:
            family = other_family(self.space, self._recipe.architecture)
            other = recipe("F", family, self.space)
            recipes |= dict.fromkeys(BASELINES["family"], other)
        if "pool" in self.config.baselines:
            missing = next(iter(self.reference.left_out.values()), None)
            try:
                if missing is None:
                    behind = pooled(self._recipe, self.space)
                    recipes |= dict.fromkeys(BASELINES["pool"], behind)
            except ModelError as error:
                missing = f"R's architecture takes no images of half the size ({error})"
            if missing is not None:
                self.left_out |= dict.fromkeys(BASELINES["pool"], missing)
        return {role: built_of for role, built_of in recipes.items() if role not in self.left_out}

    def run(self) -> None:
        """Run the whole protocol, from where the ledger ends."""
        make_scratch(self.space.scratch)
        self.space.share_images(self._executor)  # views are written once, before workers map them
        self._scheduler.run(self._script())
        self._scheduler.check()
        asked = [role for name in self.config.baselines for role in BASELINES[name]]
        for role in (*asked, *(each for roles in SEARCHES.values() for each in roles)):
            if role in self._tested or role in self.left_out:
                continue
            if role in asked and role not in CONTROLS:
                self.left_out[role] = "none of its trainings succeeded"
            else:
                raise RunError(f"no training of {role} succeeded: see {self._path}'s ledger")

    async def _script(self) -> None:
        start = self._scheduler.start
        prepared = start(self._prepare_references())
        surrogates = start(self._train_surrogates())
        self._reference_tested = start(self._test_reference(prepared, surrogates))
        finals = self._known_finals(penalised=False, lam=None)

        await prepared
        self._qualified = start(self._qualify())
        baseline = await start(self._baseline())
        if "random" in self.config.baselines:
            finals.append(start(self._random_architectures(int(baseline["R2"]["macs"]))))
        lam = await start(self._choose_lambda())
        context = context_of(self.space, lam)
        finals += self._known_finals(penalised=True, lam=lam)
        for name, priority in (("evolve", SEARCH), ("random", CONTROL)):
            search = Search(
                name=name,
                run_path=self._path,
                scratch=self._scratch,
                seed=self.config.seed_of_searches,
                context=context,
                lam=lam,
                reference=self._recipe.architecture,
                curves=self._curves,
            )
            finals.append(start(self._search(search, baseline, priority=priority)))
        for final in (self._reference_tested, self._qualified, *finals):
            await final

    def _known_finals(self, *, penalised: bool, lam: float | None) -> list[Pending[None]]:
        """Start the final trainings of nets of known architecture, with or without penalty."""
        return [
            self._scheduler.start(
                self._final(
                    role,
                    built_of,
                    "reference" if role in CONTROLS else role.rstrip("0"),
                    lam=lam,
                    priority=FILLER,
                )
            )
            for role, built_of in self._built_of.items()
            if PENALISED[role] == penalised
        ]

    # -------------------------------------------------------- references, surrogates, baselines

    async def _prepare_references(self) -> None:
        """Train references unless given; compute their gradients, and their adversarials on val."""
        untrained = {
            name: recipe(name, spec, self.space)
            for name, spec in zip(self.config.references, self.config.reference, strict=True)
            if not self.references[name].given
        }
        if REFERENCE in untrained:
            untrained[REFERENCE] = self._recipe
        for training in [self._train(*item) for item in untrained.items()]:
            await training
        job = PrepareReference(self._path, self._scratch)
        entry = await self._needed(TrialId(stage="prepare"), job, priority=FIRST)
        self.prepared = entry.result or {}
        self.space.share_gradients(self._executor)

    async def _train_surrogates(self) -> None:
        nets = self.config.surrogates
        trainings = [
            self._train(name, recipe(name, spec, self.space)) for name, spec in nets.items()
        ]
        for training in trainings:
            await training

    def _train(self, role: str, built_of: Recipe) -> Pending[Entry]:
        """Train a reference or a surrogate on the training split."""
        job = TrainNet(
            run_path=self._path,
            architecture=built_of.architecture,
            seed=derive_seed(self.config.seed, "net", role),
            part="train",
            penalised=False,
            final=True,
            name=role,
            preprocessing=built_of.preprocessing,
            scratch=self._scratch,
        )
        return self._needed(TrialId(stage="reference", role=role), job, priority=FIRST)

    async def _qualify(self) -> None:
        """Train every reference's architecture again as it was, where that can be done.

        R is one of the yardstick's trainings unless it was given: then it was trained otherwise.
        Of further references one training says whether their attacks transfer to it.
        """
        trainings = {}
        for name, reference in self.references.items():
            first = name == REFERENCE
            count = max(self.config.yardstick - 1 + reference.given, 1) if first else 1
            if not reference.left_out:
                trainings[name] = self._trained_again(name, count)
        for name, pending in trainings.items():
            entries = [await each for each in pending]
            results = [entry.result for entry in entries if entry.result]
            if results:
                self.qualifications[name] = _qualification(name, results)

    def _trained_again(self, name: str, count: int) -> list[Pending[Entry]]:
        """Train the architecture of a reference as it was, `count` times."""
        first = name == REFERENCE
        spec = dict(zip(self.config.references, self.config.reference, strict=True))[name]
        given = self.references[name].given
        built_of = self._recipe if first else recipe(name, spec, self.space, given=given)
        pending = []
        for replicate in range(1, count + 1):
            job = TrainNet(
                run_path=self._path,
                architecture=built_of.architecture,
                seed=derive_seed(self.config.seed, "net", name, replicate),
                part="train",
                penalised=False,
                final=True,
                scored=True,
                preprocessing=built_of.preprocessing,
                scratch=self._scratch,
            )
            role = "R2" if first else name
            trial_id = TrialId(stage="qualification", role=role, replicate=replicate)
            pending.append(self._scheduler.submit(_task(trial_id, job), priority=FIRST))
        return pending

    async def _baseline(self) -> Mapping[str, Mapping[str, float]]:
        """Train R's architecture at trial budget; return what the searches need of it.

        That are accuracy and MACs of "R2", and of "R2/EPOCHS" on each lower rung.
        """
        if self.reference.left_out:
            size = models.cost(self.space.net(REFERENCE), self.space.splits.train.shape)
            itself = {"accuracy": self.prepared["accuracy"], "macs": size.macs}
            return dict.fromkeys(("R2", *(f"R2/{epochs}" for epochs in self._lower)), itself)
        pending = {
            epochs: [
                self._architecture_trial(
                    TrialId(stage="baseline", role="R2", replicate=replicate or None, epochs=epochs)
                )
                for replicate in range(self.config.yardstick)
            ]
            for epochs in (None, *self._lower)
        }
        for epochs, trainings in pending.items():
            results = [(await each).result or {} for each in trainings]
            name = "R2" if epochs is None else f"R2/{epochs}"
            self.baseline[name] = _mean(results)
            self._curves[name] = _mean_curve(results)
        return self.baseline

    def _architecture_trial(self, trial_id: TrialId, *, needed: bool = True) -> Pending[Entry]:
        """Train R's architecture as a candidate, for the `epochs` of a lower rung if given."""
        job = TrainNet(
            run_path=self._path,
            architecture=self._recipe.architecture,
            seed=derive_seed(self.config.seed, "reference", trial_id.replicate or 0),
            part="trial",
            penalised=trial_id.role != "R2",
            final=False,
            scored=True,
            epochs=trial_id.epochs,
            preprocessing=self._recipe.preprocessing,
            scratch=self._scratch,
            lam=trial_id.lam,
        )
        return self._scheduler.submit(_task(trial_id, job, needed=needed), priority=FIRST)

    async def _choose_lambda(self) -> float | None:
        """Choose the penalty's weight; return it, None where there is only one.

        Of several it is the largest that costs R's architecture at most the tolerance of accuracy,
        as a mean over trainings at trial budget; the smallest where each costs more or R's
        architecture cannot be built again.
        """
        lams = self.config.lams
        if len(lams) == 1:
            self.penalty = Penalty(lam=lams[0])
            if not self.reference.left_out:
                self._scheduler.start(self._penalised_baseline())
            return None
        if self.reference.left_out:
            self.penalty = Penalty(lam=lams[0], within=False)
            return lams[0]
        accuracy: dict[str, list[float]] = {}
        transfer: dict[str, list[float]] = {}
        within = False
        enough = float(self.baseline["R2"]["accuracy"]) - self.config.tolerance
        for lam in reversed(lams):
            pending = [
                self._architecture_trial(
                    TrialId(stage="lambda", lam=lam, replicate=replicate), needed=lam == lams[0]
                )
                for replicate in range(self.config.yardstick)
            ]
            results = [(await each).result for each in pending]
            trained = [each for each in results if each is not None]
            accuracy[f"{lam:g}"] = [float(each["accuracy"]) for each in trained]
            transfer[f"{lam:g}"] = [float(each["transfer"]) for each in trained]
            if len(trained) < len(results):  # a weight under which trainings fail is too large
                continue
            self.baseline["Rp"] = _mean(trained)
            within = fmean(accuracy[f"{lam:g}"]) >= enough
            if within:
                break
        self.penalty = Penalty(lam=lam, within=within, accuracy=accuracy, transfer=transfer)
        return lam

    async def _penalised_baseline(self) -> None:
        """Train R's architecture with the penalty at trial budget, for the report alone."""
        entry = await self._architecture_trial(TrialId(stage="baseline", role="Rp"), needed=False)
        if entry.result is not None:
            self.baseline["Rp"] = entry.result

    async def _random_architectures(self, macs: int) -> None:
        """Train random architectures of the search's space without the penalty (baseline M)."""
        finals = []
        for replicate, genotype in enumerate(sampled(self.config, self.space.splits, macs)):
            built_of = Recipe(_architecture(genotype))
            finals.append(
                self._scheduler.start(
                    self._train_and_test("M", built_of, genotype.key(), replicate, None, FILLER)
                )
            )
        for final in finals:
            await final

    # ------------------------------------------------------------------------ search, selection

    async def _search(
        self, search: Search, baseline: Mapping[str, Mapping[str, float]], *, priority: int
    ) -> None:
        """Search and select; train the selected architecture in full and evaluate it on test."""
        trials = await run_search(
            search,
            self.config,
            self.space.splits,
            baseline,
            self._scheduler,
            self._ledger,
            priority=priority,
        )
        selection = self._select(search.name, trials)
        if self.config.promote:
            order = ranked(trials, selection.threshold.value)
            selection = await self._promote(search, order[: self.config.promote], selection)
        genotype = selection.trial.candidate.genotype
        built_of = Recipe(_architecture(genotype))
        finals = []
        for role in SEARCHES[search.name]:
            self.selections[role] = selection
            lam = search.lam if PENALISED[role] else None
            finals.append(
                self._scheduler.start(
                    self._final(role, built_of, genotype.key(), lam=lam, priority=SELECTED)
                )
            )
        for final in finals:
            await final

    def _select(self, name: str, trials: Sequence[Trial]) -> Selection:
        """Select among the trials of a search; raises `RunError` where none succeeded."""
        if not trials:
            halved = self.config.halving is not None and name == "evolve"
            last_rung = "or got to the last rung " if halved else ""
            raise RunError(
                f"no candidate of the arm '{name}' succeeded {last_rung}at trial budget: see the "
                "ledger's reasons"
            )
        if self.reference.left_out:
            threshold = self._reference_threshold()
        else:
            control, accuracy = "R's architecture at trial budget", self.baseline["R2"]["accuracy"]
            count = self.config.yardstick
            name_of = control if count == 1 else f"{control}, mean of {count} trainings"
            threshold = AccuracyThreshold(name_of, accuracy, self.config.tolerance)
        return Selection(ranked(trials, threshold.value)[0], threshold, len(trials))

    async def _promote(
        self, search: Search, promoted: Sequence[Trial], otherwise: Selection
    ) -> Selection:
        """Train the best again at the budget of final training, and select among them.

        Where every such trial fails, return `otherwise`, selected from the trials alone, except
        where those inherited.
        """
        tasks = CandidateTasks(search)
        pending = [
            self._scheduler.submit(tasks.promotion(trial.candidate), priority=SELECTED)
            for trial in promoted
        ]
        trials = [
            trial_of(trial.candidate, await entry)
            for trial, entry in zip(promoted, pending, strict=True)
        ]
        await self._qualified
        threshold = self._reference_threshold()
        order = ranked([trial for trial in trials if trial.values is not None], threshold.value)
        if order:
            return Selection(order[0], threshold, len(order))
        if self.config.inherit and self.config.halving is None:
            raise RunError(
                f"every promoted candidate of the arm '{search.name}' failed, and the others have "
                "inherited: see the ledger's reasons"
            )
        return otherwise

    def _reference_threshold(self) -> AccuracyThreshold:
        """Return the threshold of nets that were trained as R's architecture was, in full.

        A given R was trained otherwise: what counts is its architecture trained again.
        """
        name, accuracies = "R's validation accuracy", [float(self.prepared["accuracy"])]
        if (qualification := self.qualifications.get(REFERENCE)) is not None:
            own = [] if self.reference.given else accuracies
            accuracies = [*own, *qualification.accuracy]
            again = "R's architecture trained again" if self.reference.given else "R's architecture"
            name = f"{again}, mean of {len(accuracies)} trainings"
        return AccuracyThreshold(name, fmean(accuracies), self.config.tolerance)

    # ------------------------------------------------------------- final training, test evaluation

    async def _final(
        self, role: str, built_of: Recipe, key: str, *, lam: float | None, priority: int
    ) -> None:
        """Train a role's nets from scratch on train and val, and evaluate each on test.

        Nets of one `key` start from the same weights, with or without penalty. A training that
        fails is left out; R is evaluated first, which crafts the adversarials that all others meet.
        """
        for final in [
            self._scheduler.start(
                self._train_and_test(role, built_of, key, replicate, lam, priority)
            )
            for replicate in range(self.config.final_seeds)
        ]:
            await final

    async def _train_and_test(
        self,
        role: str,
        built_of: Recipe,
        key: str,
        replicate: int,
        lam: float | None,
        priority: int,
    ) -> None:
        searched = any(role in roles for roles in SEARCHES.values())
        seed = self.config.seed_of_searches if searched else self.config.seed
        trial_id = TrialId(stage="final", role=role, replicate=replicate)
        job = TrainNet(
            run_path=self._path,
            architecture=built_of.architecture,
            seed=derive_seed(seed, key, "final", replicate),
            part="all",
            penalised=PENALISED[role],
            final=True,
            name=trial_id.net,
            preprocessing=built_of.preprocessing,
            scratch=self._scratch,
            lam=lam,
        )
        entry = await self._scheduler.submit(_task(trial_id, job), priority=priority)
        if entry.outcome == "Ok":
            await self._reference_tested
            await self._test(role, replicate)

    async def _test_reference(self, prepared: Pending[None], surrogates: Pending[None]) -> None:
        await prepared
        await surrogates
        await self._test(REFERENCE)

    async def _test(self, role: str, replicate: int | None = None) -> None:
        """Evaluate a net on test."""
        trial_id = TrialId(stage="test", role=role, replicate=replicate)
        job = EvaluateNet(self._path, trial_id.net, self._scratch)
        await self._needed(trial_id, job, priority=FILLER)
        self._tested.add(role)

    def _needed(self, trial_id: TrialId, job: Runnable, *, priority: int) -> Pending[Entry]:
        return self._scheduler.submit(_task(trial_id, job, needed=True), priority=priority)


def _qualification(name: str, results: Sequence[Json]) -> Qualification:
    # With several references a trial's transfer is the mean over them.
    own = f"transfer_{name}" if f"transfer_{name}" in results[0] else "transfer"
    transfer = fmean(float(each[own]) for each in results)
    images = round(fmean(int(each[f"{own}_n"]) for each in results))
    return Qualification(
        accuracy=[float(each["accuracy"]) for each in results],
        transfer=wilson(transfer, images),
        testable=transfer >= TESTABLE,
    )


def _task(trial_id: TrialId, job: Runnable, *, needed: bool = False) -> Task:
    return Task(id=str(trial_id), stage=trial_id.arm, key=str(trial_id), job=job, needed=needed)


def _architecture(genotype: Genotype) -> Json:
    return {"family": "blueprint", "blueprint": genotype.blueprint().to_dict()}


def _mean(results: Sequence[Json]) -> Json:
    """Return the measures of several trainings of one architecture: means, whole numbers' least."""
    if len(results) == 1:
        return results[0]
    return {
        name: min(each[name] for each in results)
        if isinstance(value, int)
        else fmean(float(each[name]) for each in results)
        for name, value in results[0].items()
        if isinstance(value, int | float)
    }


def _mean_curve(results: Sequence[Json]) -> list[float]:
    """Return the mean accuracy on val after each epoch of several trainings."""
    curves = [each["curves"]["val_acc"] for each in results]
    return [fmean(accuracies) for accuracies in zip(*curves, strict=True)]
