"""Claims of publications, our figures beside them, and what follows by a rule fixed beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOT_GIVEN = "not given"  # what stands for a published figure where a claim is this house's own
VERDICTS = {True: "agrees", False: "disagrees", None: "not testable here"}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of the exhibit `exhibit`: `published` figures and `ours`, with n and intervals.

    `holds` comes from a rule of the study's `judge`; None where a figure is missing, or an
    interval leaves open which way it is.
    """

    exhibit: str
    what: str
    published: str
    ours: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        """`agrees`, `disagrees` or `not testable here`."""
        return VERDICTS[self.holds]

    def to_dict(self) -> dict[str, Any]:
        """As it stands in `summary.json` under `claims`."""
        return {
            "exhibit": self.exhibit,
            "claim": self.what,
            "published": self.published,
            "ours": self.ours,
            "verdict": self.verdict,
        }


def table(claims: Sequence[Claim]) -> str:
    """The claims in Markdown."""
    lines = ["| claim | published | ours | verdict |", "|---|---|---|---|"]
    lines += [
        f"| {each.what} | {each.published} | {each.ours} | {each.verdict} |" for each in claims
    ]
    return "\n".join(lines)


def counted(claims: Sequence[Claim]) -> dict[str, int]:
    """How many claims have each verdict, those without any included."""
    return {word: sum(each.verdict == word for each in claims) for word in VERDICTS.values()}


def clear_of(found: Mapping[str, Any], value: float) -> bool | None:
    """Whether an interval {low, high} lies above `value`; None where it holds it or is missing."""
    if found.get("low") is None or found["low"] <= value <= found["high"]:
        return None
    return bool(found["low"] > value)


def beyond(found: Mapping[str, Any], other: Mapping[str, Any]) -> bool | None:
    """Whether an interval {low, high} lies above another, False below it; None where they meet."""
    if found.get("low") is None or other.get("low") is None:
        return None
    if found["low"] > other["high"]:
        return True
    return False if found["high"] < other["low"] else None


def everywhere(verdicts: Sequence[bool | None]) -> bool | None:
    """True where all hold, False where one does not, None of nothing or of what is left open."""
    if False in verdicts:
        return False
    return None if None in verdicts or not verdicts else True
