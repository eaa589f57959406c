"""Where a candidate comes from."""

from __future__ import annotations

from collections.abc import Iterable

from evolution.candidate import Candidate


def pedigree(candidates: Iterable[Candidate], number: int) -> list[Candidate]:
    """Candidate `number` and all its ancestors, each once, oldest first.

    Raises `KeyError` where it or an ancestor is not among `candidates`.
    """
    known = {candidate.number: candidate for candidate in candidates}
    family: dict[int, Candidate] = {}
    waiting = [number]
    while waiting:
        member = known[waiting.pop()]
        if member.number not in family:
            family[member.number] = member
            waiting.extend(member.parents)
    return [family[each] for each in sorted(family)]
