"""Which candidate of a search goes on: the stated rule, and nothing but validation figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evolution.candidate import Candidate


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
