"""The roles of the nets compared, the two searches, and what the ledger's ids consist of."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from robustkit.runs import Entry

REFERENCE, SURROGATE = "R", "S"
PENALISED = {
    "R2": False,
    "Rp": True,
    "E": True,
    "E0": False,
    "RS": True,
    "F": True,
    "F0": False,
    "P": True,
    "P0": False,
    "M": False,
}
"""The roles beside R, and whether their nets are trained with the penalty."""
ROLES = (REFERENCE, *PENALISED)
COMPARED = (REFERENCE, "R2", "Rp", "E", "E0", "RS")
"""The roles whose trainings have to get an image right for it to be in the common set."""
CONTROLS = ("R2", "Rp")
"""The roles of R's architecture, trained by the run."""
BASELINES = {
    "architecture": CONTROLS,
    "family": ("F", "F0"),
    "pool": ("P", "P0"),
    "random": ("M",),
}
"""What an evolved net is compared with, and the roles: R's own architecture, and the cheap
alternatives: another family of nets, R's architecture behind a 2x2 average pool, random ones."""
SEARCHES = {"evolve": ("E", "E0"), "random": ("RS",)}
"""The searches, and the roles whose architecture each of them finds."""


@dataclass(frozen=True, kw_only=True)
class TrialId:
    """The fields of an id in the ledger: `str` writes it, `parse` reads it.

    `stage` is one of "reference" (references and surrogates are trained), "prepare" (the
    references' gradients and adversarials), "qualification" (a reference's architecture trained
    again as it was), "baseline" (R's architecture at trial budget), "lambda" (the same with a
    weight of the penalty that may be chosen), "search", "rung" (a lower rung of successive
    halving), "promotion", "final" (final training) and "test" (test evaluation). Which other fields
    there are depends on it: the `role` of a net and its `replicate`; the `search` and the
    candidate's `number` in it; the `epochs` of a lower rung; `lam`, a weight of the penalty.
    """

    stage: str
    role: str = ""
    replicate: int | None = None
    search: str = ""
    number: int = 0
    epochs: int | None = None
    lam: float | None = None

    @property
    def arm(self) -> str:
        """Return the stage of the trial as recorded in the ledger."""
        of_search = {"search": "", "rung": "rungs-", "promotion": "promote-"}
        if self.stage in of_search:
            return f"{of_search[self.stage]}{self.search}"
        return {"prepare": "reference", "test": "judge"}.get(self.stage, self.stage)

    @property
    def net(self) -> str:
        """Return the name of the net: its role and, if it has several, the replicate."""
        return self.role if self.replicate is None else f"{self.role}-{self.replicate}"

    def __str__(self) -> str:
        if self.stage == "prepare":
            return "prepare"
        if self.lam is not None:
            return f"{self.arm}/{self.lam:g}-{self.replicate}"
        name = self.net or f"{self.number:04d}"
        return f"{self.arm}/{name}" if self.epochs is None else f"{self.arm}/{name}/{self.epochs}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the fields of an id; None for a text that is none."""
        for stage, pattern in _PATTERNS.items():
            if (match := pattern.fullmatch(text)) is not None:
                texts = {name: value for name, value in match.groupdict().items() if value}
                numbers = {name: int(texts.pop(name)) for name in _NUMBERS if name in texts}
                lam = float(texts.pop("lam")) if "lam" in texts else None
                trial_id = cls(stage=stage, lam=lam, **texts, **numbers)  # type: ignore[arg-type]
                of_reference = trial_id.role == REFERENCE
                single = stage != "test" or of_reference == (trial_id.replicate is None)
                return trial_id if single and str(trial_id) == text else None
        return None


_NUMBERS = ("replicate", "number", "epochs")
_ROLE, _SEARCH = rf"(?P<role>{'|'.join(PENALISED)})", rf"(?P<search>{'|'.join(SEARCHES)})"
_NUMBERED = r"(?:\.[2-9]|\.[1-9]\d)"
_FURTHER = rf"{REFERENCE}{_NUMBERED}"
_SOURCE = rf"(?:{REFERENCE}|{SURROGATE}){_NUMBERED}?"
_PATTERNS = {
    stage: re.compile(pattern)
    for stage, pattern in {
        "prepare": "prepare",
        "reference": rf"reference/(?P<role>{_SOURCE})",
        "qualification": rf"qualification/(?P<role>R2|{_FURTHER})-(?P<replicate>\d+)",
        "baseline": rf"baseline/(?P<role>{'|'.join(CONTROLS)})"
        r"(-(?P<replicate>\d+))?(/(?P<epochs>\d+))?",
        "lambda": r"lambda/(?P<lam>\d+(\.\d+)?(e[+-]\d+)?)-(?P<replicate>\d+)",
        "search": rf"{_SEARCH}/(?P<number>\d+)",
        "rung": rf"rungs-{_SEARCH}/(?P<number>\d+)/(?P<epochs>\d+)",
        "promotion": rf"promote-{_SEARCH}/(?P<number>\d+)",
        "final": rf"final/{_ROLE}-(?P<replicate>\d+)",
        "test": rf"judge/(?P<role>{'|'.join(ROLES)})(-(?P<replicate>\d+))?",
    }.items()
}


def source_names(role: str, count: int) -> tuple[str, ...]:
    """Return the names of `count` references or surrogates: R, R.2, R.3, …

    >>> source_names("S", 3)
    ('S', 'S.2', 'S.3')
    """
    return (role, *(f"{role}.{number}" for number in range(2, count + 1)))


def is_source(name: str) -> bool:
    """Return whether `name` is that of a reference or surrogate: R, R.2, S, S.2, …"""
    return re.fullmatch(_SOURCE, name) is not None


def id_of(entry: Entry) -> TrialId:
    """Return the fields of an entry's id; raises `ValueError` for one that no evolution writes."""
    trial_id = TrialId.parse(entry.id)
    if trial_id is None:
        raise ValueError(f"'{entry.id}' is no trial of an evolution")
    return trial_id


def tested_nets(entries: Iterable[Entry]) -> dict[str, list[str]]:
    """Return the names of the nets evaluated on test by role: {"R": ["R"], "E": ["E-0", …], …}."""
    names: dict[str, list[str]] = {}
    for entry in entries:
        trial_id = id_of(entry)
        if trial_id.stage == "test" and entry.outcome == "Ok":
            names.setdefault(trial_id.role, []).append(trial_id.net)
    return names
