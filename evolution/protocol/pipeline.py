"""The protocol: R → baselines → search → final training → test evaluation, in one script.

R, unless it is given, and the surrogate are trained; R's gradients and adversarials are prepared;
R's architecture is trained at trial budget, which sets the searches' accuracy threshold (R itself
does where its architecture cannot be built again); the search and its random control run; the
selected nets and all controls are trained in full and evaluated on test. The parts are coroutines:
nothing waits for a phase to end that it does not depend on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from evolution.genotype import Trial
from evolution.halving import rungs
from evolution.protocol.jobs import EvaluateNet, PrepareReference, TrainNet
from evolution.protocol.reference import Recipe, open_reference, recipe
from evolution.protocol.roles import PENALISED, REFERENCE, SEARCHES, SURROGATE, TrialId
from evolution.protocol.search import CandidateTasks, Search, context_of, reusable, run_search
from evolution.protocol.selection import AccuracyThreshold, Selection, ranked
from evolution.protocol.workspace import Workspace, make_scratch
from evolution.runner import Pending, Scheduler, Task, trial_of
from robustkit import models
from robustkit.compute import derive_seed
from robustkit.errors import RunError
from robustkit.jobs import Executor, Runnable
from robustkit.reading import Json
from robustkit.runs import Entry, Ledger

# Smaller goes first: what others wait for, then the searches, then what merely has to be done.
FIRST, SEARCH, SELECTED, CONTROL, FILLER = range(5)


class Protocol:
    """One run of the protocol.

    `reference` says what R is. After `run()`, `prepared` is R's result of `PrepareReference`;
    `baseline` the trials of R's architecture without ("R2") and with the penalty ("Rp"), empty
    where it cannot be built again; `selections` has the roles E, E0 and RS for keys.
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
        self.baseline: dict[str, Json] = {}
        self.selections: dict[str, Selection] = {}
        self._lower = (
            rungs(self.config.epochs, self.config.halving)[:-1] if self.config.halving else ()
        )
        self._path, self._scratch = str(space.folder.path.resolve()), str(space.scratch)
        self._executor, self._ledger = executor, ledger
        reused = reusable(space.folder.config.get("reuse"))
        self._scheduler = Scheduler(executor, ledger, on_entry, reused)
        self.reference = open_reference(space)
        self._roles = [role for role in PENALISED if role not in self.reference.left_out]
        self._recipe = recipe(REFERENCE, self.config.reference, space, given=self.reference.given)
        self._tested: set[str] = set()

    def run(self) -> None:
        """Run the whole protocol, from where the ledger ends."""
        make_scratch(self.space.scratch)
        self.space.share_images(self._executor)  # views are written once, before workers map them
        self._scheduler.run(self._script())
        self._scheduler.check()
        for role in self._roles:
            if role not in self._tested:
                raise RunError(f"no training of {role} succeeded: see {self._path}'s ledger")

    async def _script(self) -> None:
        start = self._scheduler.start
        prepared = start(self._prepare_reference())
        surrogate = start(self._train_surrogate())
        self._reference_tested = start(self._test_reference(prepared, surrogate))
        finals: list[Pending[None]] = []
        if "R2" in self._roles:
            finals.append(start(self._final("R2", self._recipe, "reference", priority=FILLER)))

        await prepared
        baseline = start(self._baseline())
        if "Rp" in self._roles:
            finals.append(start(self._final("Rp", self._recipe, "reference", priority=FILLER)))

        measured, context = await baseline, context_of(self.space)
        for name, priority in (("evolve", SEARCH), ("random", CONTROL)):
            finals.append(start(self._search(name, measured, context, priority=priority)))
        for final in (self._reference_tested, *finals):
            await final

    # ------------------------------------------------------------------ R, surrogate, baselines

    async def _prepare_reference(self) -> None:
        """Train R unless it is given; compute its gradients, and its adversarials on val."""
        if not self.reference.given:
            await self._train(REFERENCE, self._recipe)
        job = PrepareReference(self._path, self._scratch)
        entry = await self._needed(TrialId(stage="prepare"), job, priority=FIRST)
        self.prepared = entry.result or {}
        self.space.share_gradients(self._executor)

    async def _train_surrogate(self) -> None:
        await self._train(SURROGATE, recipe(SURROGATE, self.config.surrogate, self.space))

    async def _train(self, role: str, recipe: Recipe) -> None:
        """Train R or the surrogate on the training split."""
        job = TrainNet(
            run_path=self._path,
            architecture=recipe.architecture,
            seed=derive_seed(self.config.seed, "net", role),
            part="train",
            penalised=False,
            final=True,
            name=role,
            preprocessing=recipe.preprocessing,
            scratch=self._scratch,
        )
        await self._needed(TrialId(stage="reference", role=role), job, priority=FIRST)

    async def _baseline(self) -> Mapping[str, Mapping[str, float]]:
        """Train R's architecture at trial budget; return what the searches need of it.

        That are accuracy and MACs of "R2", and of "R2/EPOCHS" on each lower rung. The trial with
        the penalty ("Rp") is needed by the report alone, and not waited for.
        """
        if self.reference.left_out:
            size = models.cost(self.space.net(REFERENCE), self.space.splits.train.shape)
            itself = {"accuracy": self.prepared["accuracy"], "macs": size.macs}
            return dict.fromkeys(("R2", *(f"R2/{epochs}" for epochs in self._lower)), itself)
        needed = [self._scheduler.start(self._baseline_trial("R2"))]
        self._scheduler.start(self._baseline_trial("Rp"))
        needed += [
            self._scheduler.start(self._baseline_trial("R2", epochs)) for epochs in self._lower
        ]
        for handle in needed:
            await handle
        return self.baseline

    async def _baseline_trial(self, role: str, epochs: int | None = None) -> None:
        """Train R's architecture as a candidate, for the `epochs` of a lower rung if given."""
        job = TrainNet(
            run_path=self._path,
            architecture=self._recipe.architecture,
            seed=derive_seed(self.config.seed, "reference", 0),
            part="trial",
            penalised=PENALISED[role],
            final=False,
            scored=True,
            epochs=epochs,
            preprocessing=self._recipe.preprocessing,
            scratch=self._scratch,
        )
        name = TrialId(stage="baseline", role=role, epochs=epochs)
        entry = await self._needed(name, job, priority=FIRST)
        self.baseline[role if epochs is None else f"{role}/{epochs}"] = entry.result or {}

    # ------------------------------------------------------------------------ search, selection

    async def _search(
        self,
        name: str,
        baseline: Mapping[str, Mapping[str, float]],
        context: str,
        *,
        priority: int,
    ) -> None:
        """Search and select; train the selected architecture in full and evaluate it on test."""
        search = Search(
            name=name,
            run_path=self._path,
            scratch=self._scratch,
            seed=self.config.seed,
            context=context,
        )
        trials = await run_search(
            search,
            self.config,
            self.space.splits,
            baseline,
            self._scheduler,
            self._ledger,
            priority=priority,
        )
        selection = self._select(name, trials)
        if self.config.promote:
            order = ranked(trials, selection.threshold.value)
            selection = await self._promote(search, order[: self.config.promote], selection)
        genotype = selection.trial.candidate.genotype
        built_of = Recipe({"family": "blueprint", "blueprint": genotype.blueprint().to_dict()})
        finals = []
        for role in SEARCHES[name]:
            self.selections[role] = selection
            final = self._final(role, built_of, genotype.key(), priority=SELECTED)
            finals.append(self._scheduler.start(final))
        for pending in finals:
            await pending

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
            threshold = AccuracyThreshold(control, accuracy, self.config.tolerance)
        return Selection(ranked(trials, threshold.value)[0], threshold, len(trials))

    async def _promote(
        self, search: Search, promoted: Sequence[Trial], otherwise: Selection
    ) -> Selection:
        """Train the best again at the budget of final training, and select among them.

        Where every such trial fails, return `otherwise`, selected from the trials alone, except
        where those inherited.
        """
        tasks = CandidateTasks(search)
        entries = [
            self._scheduler.submit(tasks.promotion(trial.candidate), priority=SELECTED)
            for trial in promoted
        ]
        again = [
            trial_of(trial.candidate, await entry)
            for trial, entry in zip(promoted, entries, strict=True)
        ]
        threshold = self._reference_threshold()
        order = ranked([trial for trial in again if trial.values is not None], threshold.value)
        if order:
            return Selection(order[0], threshold, len(order))
        if self.config.inherit and self.config.halving is None:
            raise RunError(
                f"every promoted candidate of the arm '{search.name}' failed, and the others have "
                "inherited: see the ledger's reasons"
            )
        return otherwise

    def _reference_threshold(self) -> AccuracyThreshold:
        accuracy, tolerance = self.prepared["accuracy"], self.config.tolerance
        return AccuracyThreshold("R's validation accuracy", accuracy, tolerance)

    # ------------------------------------------------------------- final training, test evaluation

    async def _final(self, role: str, recipe: Recipe, key: str, *, priority: int) -> None:
        """Train a role's nets from scratch on train and val, and evaluate each on test.

        Nets of one `key` start from the same weights, with or without penalty. A training that
        fails is left out; R is evaluated first, which crafts the adversarials that all others meet.
        """

        async def train_and_test(replicate: int) -> None:
            name = TrialId(stage="final", role=role, replicate=replicate)
            job = TrainNet(
                run_path=self._path,
                architecture=recipe.architecture,
                seed=derive_seed(self.config.seed, key, "final", replicate),
                part="all",
                penalised=PENALISED[role],
                final=True,
                name=name.net,
                preprocessing=recipe.preprocessing,
                scratch=self._scratch,
            )
            trained = await self._scheduler.submit(_task(name, job), priority=priority)
            if trained.outcome == "Ok":
                await self._reference_tested
                await self._test(role, replicate)

        for final in [
            self._scheduler.start(train_and_test(replicate))
            for replicate in range(self.config.final_seeds)
        ]:
            await final

    async def _test_reference(self, prepared: Pending[None], surrogate: Pending[None]) -> None:
        await prepared
        await surrogate
        await self._test(REFERENCE)

    async def _test(self, role: str, replicate: int | None = None) -> None:
        """Evaluate a net on test."""
        name = TrialId(stage="test", role=role, replicate=replicate)
        await self._needed(name, EvaluateNet(self._path, name.net, self._scratch), priority=FILLER)
        self._tested.add(role)

    def _needed(self, name: TrialId, job: Runnable, *, priority: int) -> Pending[Entry]:
        return self._scheduler.submit(_task(name, job, needed=True), priority=priority)


def _task(name: TrialId, job: Runnable, *, needed: bool = False) -> Task:
    return Task(id=str(name), stage=name.arm, key=str(name), job=job, needed=needed)
