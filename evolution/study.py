"""The result of a search over architectures: every trial, and which are on the front."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from evolution.candidate import Candidate, Scored
from evolution.genotype import Genotype
from evolution.objectives import Objective
from evolution.pareto import front
from robustkit.errors import RobustkitError, RunError, first_line
from robustkit.models import Blueprint
from robustkit.reading import parse_json, printable

FORMAT = 1


@dataclass(frozen=True)
class StudyTrial:
    """A network that was evaluated: `values` by name where its `outcome` is "Ok", else `reason`.

    `outcome` is the kind of an outcome: Ok, Diverged (a value is not finite), Invalid (the function
    raised), OutOfMemory, Timeout or Lost. `seconds` is what the evaluation took.
    """

    candidate: Candidate
    outcome: str
    values: Mapping[str, float] | None
    reason: str = ""
    seconds: float = 0.0

    @property
    def number(self) -> int:
        """Its place in the order asked, from 0."""
        return self.candidate.number

    @property
    def blueprint(self) -> Blueprint:
        """The network."""
        return self.candidate.genotype.blueprint()


@dataclass(frozen=True)
class Study:
    """Every trial of a search, by number, and what it was after."""

    objectives: tuple[Objective, ...]
    trials: tuple[StudyTrial, ...]

    @cached_property
    def front(self) -> tuple[StudyTrial, ...]:
        """The trials that no other one dominates, by number; failed ones are never among them."""
        scored = [Scored(each.candidate, each.outcome, each.values) for each in self.trials]
        best = {each.candidate.number for each in front(scored, self.objectives)}
        return tuple(each for each in self.trials if each.number in best)

    def to_json(self) -> str:
        """Return the study as JSON that `from_json` reads."""
        plain = {
            "format": FORMAT,
            "objectives": [asdict(each) for each in self.objectives],
            "trials": [
                {**described(each.candidate), **_ended(each), "seconds": each.seconds}
                for each in self.trials
            ],
        }
        return json.dumps(plain, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Study:
        """Return the study that `to_json` wrote; raises `RunError` for anything else."""
        try:
            plain = parse_json(text, "no study", error=RunError)
            if plain["format"] != FORMAT:
                raise RunError(
                    f"study of format {printable(plain['format'])}; "
                    f"this robustkit reads format {FORMAT}"
                )
            objectives = tuple(Objective(**each) for each in plain["objectives"])
            trials = tuple(
                StudyTrial(
                    candidate_of(each),
                    each["outcome"],
                    each["values"],
                    each["reason"],
                    each["seconds"],
                )
                for each in plain["trials"]
            )
        except RunError:
            raise
        except (ValueError, KeyError, TypeError, RobustkitError) as error:
            raise RunError(f"no study: {first_line(error)}") from None
        return cls(objectives, trials)


def described(candidate: Candidate) -> dict[str, Any]:
    """The candidate as plain values."""
    return {
        "number": candidate.number,
        "genotype": candidate.genotype.to_dict(),
        "parents": list(candidate.parents),
        "operator": candidate.operator,
        "generation": candidate.generation,
    }


def candidate_of(plain: Mapping[str, Any]) -> Candidate:
    """The inverse of `described`; raises `ModelError` for no genotype."""
    genotype = Genotype.from_dict(plain["genotype"])
    parents = tuple(plain["parents"])
    return Candidate(plain["number"], genotype, parents, plain["operator"], plain["generation"])


def _ended(trial: StudyTrial) -> dict[str, Any]:
    values = None if trial.values is None else dict(trial.values)
    return {"outcome": trial.outcome, "values": values, "reason": trial.reason}
