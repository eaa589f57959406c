"""What a search asks about and what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evolution.genotype import Genotype


@dataclass(frozen=True)
class Candidate:
    """A network to be evaluated.

    `number` counts from 0 in the order asked; `parents` are the numbers it was bred from, none
    for a sampled one; `operator` says how ("sample", "crossover", "crossover+gene", …).
    """

    number: int
    genotype: Genotype
    parents: tuple[int, ...]
    operator: str
    generation: int


@dataclass(frozen=True)
class Scored:
    """A candidate with the kind of its outcome ("Ok", "Diverged", …) and, if Ok, its numbers."""

    candidate: Candidate
    outcome_kind: str
    values: Mapping[str, float] | None = None
