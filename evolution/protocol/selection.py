"""The selection of a search's candidate by a fixed rule over validation results alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evolution.genotype import Trial
from evolution.protocol.result import Selected, Validation


@dataclass(frozen=True)
class AccuracyThreshold:
    """The validation accuracy that a candidate should have: `accuracy` minus `tolerance`.

    `name` says whose accuracy it is; accuracies are in [0,1].
    """

    name: str
    accuracy: float
    tolerance: float

    @property
    def value(self) -> float:
        """Return the least accuracy that is good enough."""
        return self.accuracy - self.tolerance

    @property
    def rule(self) -> str:
        """Return the rule of `ranked`, in words."""
        return (
            "the least transfer from R on validation among candidates whose validation accuracy "
            f"is at least {self.value:.4f} ({self.name}, {self.accuracy:.4f}, minus "
            f"{self.tolerance:g}); of equals the more accurate; without any such candidate the "
            "most accurate one"
        )


def ranked(trials: Sequence[Trial], threshold: float) -> list[Trial]:
    """Return successful trials, the rule's choice first; `threshold` is an accuracy in [0,1]."""

    def order(trial: Trial) -> tuple[float, ...]:
        values = _values(trial)
        accuracy, transfer = values["accuracy"], values["transfer"]
        if accuracy >= threshold:
            return (0, transfer, -accuracy, trial.number)
        return (1, -accuracy, transfer, trial.number)

    return sorted(trials, key=order)


@dataclass(frozen=True)
class Selection:
    """The trial that was selected, by which rule, and from how many."""

    trial: Trial
    threshold: AccuracyThreshold
    considered: int

    def result(self) -> Selected:
        """Return what the summary says of it."""
        return Selected(
            number=self.trial.number,
            key=self.trial.candidate.genotype.key(),
            rule=self.threshold.rule,
            considered=self.considered,
            validation=Validation.from_json(dict(_values(self.trial)), "validation"),
            operator=self.trial.candidate.operator,
        )


def _values(trial: Trial) -> Mapping[str, float]:
    if trial.values is None:
        raise ValueError(f"the trial of candidate {trial.number} has failed: {trial.outcome}")
    return trial.values
