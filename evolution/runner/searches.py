"""Which candidate of a search goes on: the stated rule, and nothing but validation figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from evolution import MEASURES
from evolution.genotype import Candidate, Scored
from evolution.halving import Halving, rungs
from evolution.objectives import Objective
from evolution.protocol.config import EvolveConfig
from evolution.protocol.trials import Search, candidate_task, heirloom, lower_rungs
from evolution.runner.scheduler import Agenda
from evolution.strategies import SearchSettings, open_strategy
from robustkit.compute import derive_seed
from robustkit.data import Splits
from robustkit.errors import RunError
from robustkit.runs import Entry, Ledger


@dataclass(frozen=True)
class Yardstick:
    """What a candidate's validation accuracy is held against; accuracies in [0,1]."""

    name: str
    accuracy: float
    tolerance: float

    @property
    def threshold(self) -> float:
        """The least accuracy that is good enough."""
        return self.accuracy - self.tolerance

    @property
    def rule(self) -> str:
        """The rule of `ranked`, in words."""
        return (
            "the least transfer from R on validation among candidates whose validation accuracy "
            f"is at least {self.threshold:.4f} ({self.name}, {self.accuracy:.4f}, minus "
            f"{self.tolerance:g}); of equals the more accurate; without any such candidate the "
            "most accurate one"
        )


@dataclass(frozen=True)
class Contender:
    """A candidate and what it measured on validation."""

    candidate: Candidate
    values: Mapping[str, Any]


def ranked(contenders: Sequence[Contender], threshold: float) -> list[Contender]:
    """All contenders, the rule's choice first; `threshold` is an accuracy in [0,1]."""

    def place(contender: Contender) -> tuple[Any, ...]:
        accuracy, transfer = contender.values["accuracy"], contender.values["transfer"]
        number = contender.candidate.number
        if accuracy >= threshold:
            return (0, transfer, -accuracy, number)
        return (1, -accuracy, transfer, number)

    return sorted(contenders, key=place)


@dataclass(frozen=True)
class Choice:
    """Who was chosen, by which rule, and from how many."""

    chosen: Contender
    yardstick: Yardstick
    considered: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the summary."""
        names = ("accuracy", "transfer", "cos_abs", "params", "macs")
        return {
            "number": self.chosen.candidate.number,
            "key": self.chosen.candidate.genotype.key(),
            "rule": self.yardstick.rule,
            "considered": self.considered,
            "validation": {name: self.chosen.values[name] for name in names},
        }


class Arm:
    """A strategy, where its candidates' tasks are entered, and what has come of them.

    `done` is handed all that succeeded, in the order of the candidates' numbers, at the end.
    """

    def __init__(
        self,
        search: Search,
        strategy: str,
        settings: SearchSettings,
        agenda: Agenda,
        *,
        priority: int,
        done: Callable[[list[Contender]], None],
    ) -> None:
        self._search = search
        self._strategy = open_strategy(strategy, settings)
        self._population = settings.population
        self._agenda, self._priority, self._done = agenda, priority, done
        self._contenders: list[Contender] = []
        self._heirlooms: dict[int, str] = {}

    def _enter(
        self,
        candidate: Candidate,
        then: Callable[[Candidate, Entry], None],
        epochs: int | None = None,
        *,
        related: bool = True,
    ) -> None:
        """Have the candidate tried; with `epochs`, on a lower rung than a trial's.

        Where the search inherits, who is not `related` starts from scratch and leaves nothing.
        """
        heirlooms = None
        # A search that breeds nothing shares no more than its first candidates with one that does.
        breeds = self._strategy.informed or candidate.number < self._population
        if self._search.inherit and related and breeds:
            heirlooms = [self._heirlooms[parent] for parent in candidate.parents]
        task = candidate_task(self._search, candidate, epochs=epochs, heirlooms=heirlooms)
        self._agenda.add(task, partial(then, candidate), priority=self._priority)

    def _take(self, candidate: Candidate, trial: Entry, *, contends: bool = True) -> Scored:
        """What the strategy is to be told of the trial; a success becomes a contender."""
        if trial.outcome != "Ok" or trial.result is None:
            return Scored(candidate, trial.outcome, None)
        self._heirlooms.setdefault(candidate.number, heirloom(trial.key))
        if contends:
            self._contenders.append(Contender(candidate, trial.result))
        values = {name: float(trial.result[name]) for name in MEASURES if name in trial.result}
        return Scored(candidate, trial.outcome, values)

    def _hand_over(self) -> None:
        self._done(sorted(self._contenders, key=lambda each: each.candidate.number))


class SearchArm(Arm):
    """Asks, has the candidates trained and scored, tells, until the strategy has no more.

    The strategy is told a generation at a time and in the order of the candidates' numbers, so
    that what it asks next does not depend on which worker was faster.
    """

    _awaited: int
    _told: dict[int, Scored]

    def advance(self) -> None:
        """Ask for the next candidates and enter their tasks; at the end, hand over the found."""
        candidates = self._strategy.ask()
        if not candidates:
            self._hand_over()
            return
        self._awaited, self._told = len(candidates), {}
        for candidate in candidates:
            self._enter(candidate, self._scored)

    def _scored(self, candidate: Candidate, trial: Entry) -> None:
        self._told[candidate.number] = self._take(candidate, trial)
        if len(self._told) == self._awaited:
            self._strategy.tell(dict(sorted(self._told.items())))
            self.advance()


class Wanted(NamedTuple):
    """A candidate and the rung on which it is to be tried."""

    candidate: Candidate
    rung: int = 0


class SteadyArm(Arm):
    """Keeps `in_flight` candidates under way, each bred from all that has ended when it is asked.

    No worker waits for a generation, and the course depends on which trial ends first. The ledger
    has that order: told the `recorded` trials in it, a fresh strategy asks for the very same
    candidates, so that a resumed run goes on where it stopped.
    """

    def __init__(self, *place: Any, in_flight: int, recorded: Sequence[Entry], **of: Any) -> None:
        super().__init__(*place, **of)
        self._in_flight, self._recorded = in_flight, recorded
        self._under_way: dict[tuple[int, int], Wanted] = {}

    def advance(self) -> None:
        """Ask for the first candidates, go through what is recorded, and enter what is missing.

        Raises `RunError` where the ledger holds other candidates than those asked for.
        """
        for _ in range(self._in_flight):
            self._ask()
        for trial in self._recorded:
            place = (trial.payload["number"], self._rung(trial))
            wanted = self._under_way.get(place)
            if wanted is None or wanted.candidate.genotype.key() != trial.payload["genotype_key"]:
                raise RunError(
                    f"trial '{trial.id}' is not what this search would have asked for: the ledger "
                    "was changed, or another version of robustkit wrote it; start the run anew"
                )
            self._agenda.recall(trial)
            self._end(wanted, trial)
            self._ask()
        for wanted in list(self._under_way.values()):
            self._try(wanted)
        if not self._under_way:
            self._hand_over()

    def _next(self) -> Wanted | None:
        """What is to be tried next; None at the end."""
        candidate = self._strategy.ask_one()
        return None if candidate is None else Wanted(candidate)

    def _rung(self, trial: Entry) -> int:
        """The rung that a trial of the ledger was on."""
        return 0

    def _try(self, wanted: Wanted) -> None:
        self._enter(wanted.candidate, partial(self._ended, wanted))

    def _tell(self, wanted: Wanted, trial: Entry) -> None:
        self._strategy.tell_one(self._take(wanted.candidate, trial))

    def _ask(self) -> Wanted | None:
        wanted = self._next()
        if wanted is not None:
            self._under_way[wanted.candidate.number, wanted.rung] = wanted
        return wanted

    def _end(self, wanted: Wanted, trial: Entry) -> None:
        del self._under_way[wanted.candidate.number, wanted.rung]
        self._tell(wanted, trial)

    def _ended(self, wanted: Wanted, candidate: Candidate, trial: Entry) -> None:
        self._end(wanted, trial)
        following = self._ask()
        if following is not None:
            self._try(following)
        elif not self._under_way:
            self._hand_over()


class HalvingArm(SteadyArm):
    """Trains `epochs[0]` first, and whoever is promoted from scratch for the epochs of its rung.

    The strategy breeds from what the lowest rung says, where all candidates can be compared; a
    promotion goes before a new candidate. `budget` is in epochs, all rungs together: the search
    ends when the next training does not fit. Contenders are those of the last rung alone, whose
    trials are what trials without halving are; `objectives` are those of the rungs below it.
    """

    def __init__(
        self,
        *place: Any,
        epochs: Sequence[int],
        rate: int,
        objectives: Sequence[Sequence[Objective]],
        budget: int,
        **of: Any,
    ) -> None:
        super().__init__(*place, **of)
        self._epochs, self._left = tuple(epochs), budget
        self._halving = Halving(objectives, rate)

    def _next(self) -> Wanted | None:
        promoted = self._halving.promote()
        rung = promoted[1] if promoted else 0
        self._left -= self._epochs[rung]
        if self._left < 0:
            return None
        if promoted:
            return Wanted(*promoted)
        candidate = self._strategy.ask_one()
        return None if candidate is None else Wanted(candidate)

    def _rung(self, trial: Entry) -> int:
        return self._epochs.index(trial.payload.get("epochs", self._epochs[-1]))

    def _try(self, wanted: Wanted) -> None:
        last = wanted.rung == len(self._epochs) - 1
        epochs = None if last else self._epochs[wanted.rung]
        then = partial(self._ended, wanted)
        self._enter(wanted.candidate, then, epochs, related=wanted.rung == 0)

    def _tell(self, wanted: Wanted, trial: Entry) -> None:
        last = wanted.rung == len(self._epochs) - 1
        scored = self._take(wanted.candidate, trial, contends=last)
        if wanted.rung == 0:
            self._strategy.tell_one(scored)
        self._halving.tell(wanted.rung, scored)


def open_arm(
    search: Search,
    config: EvolveConfig,
    splits: Splits,
    baseline: Mapping[str, Mapping[str, Any]],
    agenda: Agenda,
    ledger: Ledger,
    *,
    priority: int,
    done: Callable[[list[Contender]], None],
) -> SearchArm | SteadyArm:
    """The arm of `search`: "random" is the control, which has as many epochs and no halving.

    `baseline` has the trials of R's architecture: "R2", and with halving "R2/EPOCHS" of each rung
    below the last one. A steady arm goes on from what `ledger` has of it.
    """
    control = search.arm == "random"
    strategy = "random" if control else config.strategy
    macs = baseline["R2"]["macs"]
    settings = search_settings(config, splits, baseline=baseline["R2"]["accuracy"], macs=macs)
    common: dict[str, Any] = {"priority": priority, "done": done}
    if config.mode == "generational":
        return SearchArm(search, strategy, settings, agenda, **common)
    arms = (search.arm, lower_rungs(search.arm))
    steady: dict[str, Any] = {
        "in_flight": config.in_flight or 1,
        "recorded": [trial for trial in ledger.in_order() if trial.arm in arms],
    }
    if config.halving is None or control:
        return SteadyArm(search, strategy, settings, agenda, **steady, **common)
    epochs = rungs(config.epochs, config.halving)
    objectives = [
        config.objectives_above(baseline[f"R2/{each}"]["accuracy"]) for each in epochs[:-1]
    ]
    # As many as there would be if nobody were promoted: the epochs are what ends the search.
    most = -(-config.search_epochs // epochs[0] // config.population)
    return HalvingArm(
        search,
        strategy,
        replace(settings, objectives=objectives[0], generations=most),
        agenda,
        epochs=epochs,
        rate=config.halving,
        objectives=objectives,
        budget=config.search_epochs,
        **steady,
        **common,
    )


def search_settings(
    config: EvolveConfig, splits: Splits, *, baseline: float, macs: int
) -> SearchSettings:
    """What both searches start from.

    `baseline` is the accuracy that bounds feasibility, `macs` what R costs per image.
    """
    return SearchSettings(
        space=config.space(reference_macs=macs),
        input_shape=splits.train.shape,
        num_classes=splits.train.num_classes,
        objectives=config.objectives_above(baseline),
        population=config.population,
        generations=config.generations,
        screen=config.screen,
        seed=derive_seed(config.seed, "search"),
    )
