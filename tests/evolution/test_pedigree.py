"""Ancestors of a candidate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolution.genotype import Candidate, Genotype, pedigree
from robustkit.models.blueprint import Block

GENOTYPE = Genotype((Block(),))


@st.composite
def families(draw: st.DrawFn) -> list[Candidate]:
    def parents(number: int) -> tuple[int, ...]:
        earlier = st.sets(st.integers(0, number - 1), max_size=2) if number else st.just(set[int]())
        return tuple(sorted(draw(earlier)))

    count = draw(st.integers(1, 12))
    return [Candidate(number, GENOTYPE, parents(number), "", 0) for number in range(count)]


@given(families(), st.data())
def test_it_is_the_transitive_closure_of_the_parents(
    family: list[Candidate], data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(family) - 1))

    def ancestors(member: int) -> set[int]:
        return {member}.union(*(ancestors(parent) for parent in family[member].parents))

    found = pedigree(reversed(family), number)
    assert [member.number for member in found] == sorted(ancestors(number))


def test_an_unknown_candidate_is_a_bug() -> None:
    with pytest.raises(KeyError, match="4"):
        pedigree([Candidate(5, GENOTYPE, (4,), "gene", 1)], 5)
