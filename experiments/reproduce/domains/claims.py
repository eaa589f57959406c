"""The source's claims on adversarially trained source detectors, by rules.

An interval over seeds clear of 0, or for "no gain" one that rules out `SLIGHT`; left open where a
figure or its interval is missing, or does not decide. That for "no gain" was made when the first of
the committed trainings had been seen, the others beforehand. On rendered domains the mechanism is
tested; the published figures are those of photographs and can be met on them alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from experiments.reproduce.claims import NOT_GIVEN, Claim, clear_of
from experiments.reproduce.domains.figures import CLAIMED, TARGETS, advised, gain, ratio
from experiments.reproduce.domains.result import Pair, Summary, World, Worlds
from experiments.wording import percent

GAINS, ALIGNED, DISTANCE = "source-training", "source-alignment", "domain-distance"
SLIGHT = 0.05  # a gain in AP50 that would matter
BELOW = f"a gain of {100 * SLIGHT:g} points is ruled out"
REPORT = "report, section 4 (2)"


def judge(summary: Summary) -> list[Claim]:
    """On the published pair of domains where it was run, else on the rendered ones."""
    if "pair" in summary:
        return list(_published(summary["pair"]))
    return list(_rendered(summary["worlds"]))


def _rendered(worlds: Worlds) -> Iterator[Claim]:
    marked, bare = worlds["texture"], worlds["no texture"]
    rows: list[tuple[str, str, str, dict[str, Any], Any]] = [
        (
            GAINS,
            "adversarial training beats as many plain steps on clipart",
            f"VOC to Clipart1k: about +6 mAP ({REPORT})",
            gain(marked, CLAIMED, "clipart"),
            above,
        ),
        (
            GAINS,
            "one step of attack does, too",
            NOT_GIVEN,
            gain(marked, "fast", "clipart"),
            above,
        ),
        (
            GAINS,
            f"without a texture to take away it does not help on clipart ({BELOW})",
            f"it discards non-robust features ({REPORT})",
            gain(bare, CLAIMED, "clipart"),
            no_gain,
        ),
        (
            GAINS,
            f"on fog, which is near, it does not help ({BELOW})",
            f"some pairs get worse ({REPORT})",
            gain(marked, CLAIMED, "fog"),
            no_gain,
        ),
        (
            ALIGNED,
            "alignment adds to it on clipart",
            f"VOC to Clipart1k: from about +6 to about +12 mAP ({REPORT})",
            gain(marked, "adversarial+aligned", "clipart", base=CLAIMED),
            above,
        ),
    ]
    for exhibit, what, published, found, rule in rows:
        yield Claim(
            exhibit=exhibit,
            what=what,
            published=published,
            ours=_points(found),
            holds=rule(found),
        )
    yield from _distances(marked)


def _distances(marked: World) -> Iterator[Claim]:
    gains = {target: gain(marked, CLAIMED, target)["mean"] for target in TARGETS}
    ratios = {target: ratio(marked, target) for target in TARGETS}
    known = None not in (*gains.values(), *ratios.values())
    told = "not all trained"
    if known:
        ordered = sorted(TARGETS, key=lambda target: ratios[target] or 0.0)
        told = "; ".join(
            f"{target} {ratios[target]:.1f}: {100 * gains[target]:+.1f}" for target in ordered
        )
    yield Claim(
        exhibit=DISTANCE,
        what="the gain grows with the distance over the four targets",
        published=f"the farther the domains, the larger the gain ({REPORT})",
        ours=told,
        holds=all(gains[b] > gains[a] for a, b in pairwise(ordered)) if known else None,
    )
    yield Claim(
        exhibit=DISTANCE,
        what="the advice predicts the sign of the gain on every target",
        published="a threshold on Fréchet's distance, not given (abstract)",
        ours=told,
        holds=all((gains[target] > 0) == advised(marked, target) for target in TARGETS)
        if known
        else None,
    )


def _published(pair: Pair) -> Iterator[Claim]:
    """VOC to Clipart1k: a published gain is met where ours is one, and its interval reaches it."""
    recipes = pair["recipes"]
    plain = "longer" if "longer" in recipes else "source"
    for exhibit, recipe, points in (
        (GAINS, CLAIMED, 6.0),
        (ALIGNED, f"{CLAIMED}+aligned", 12.0),
    ):
        nothing = {"mean": None, "low": None, "high": None}
        found = recipes.get(recipe, {}).get("gain", {}).get("target", nothing)
        yield Claim(
            exhibit=exhibit,
            what=f"`{recipe}` gains about {points:g} mAP over `{plain}`, VOC to Clipart1k",
            published=f"about +{points:g} mAP ({REPORT})",
            ours=_points(found),
            holds=reached(found, points / 100),
        )


def above(found: Mapping[str, Any]) -> bool | None:
    """Whether a gain's interval lies above 0."""
    return clear_of(found, 0.0)


def reached(found: Mapping[str, Any], published: float) -> bool | None:
    """False where a gain, a fraction, lies below the published one; None where it may be none."""
    if found["low"] is None:
        return None
    if found["high"] < published:
        return False
    return True if found["low"] > 0 else None


def no_gain(found: Mapping[str, Any]) -> bool | None:
    """True where a gain of `SLIGHT` can be ruled out, False where there is a gain."""
    if found["low"] is None or found["low"] <= 0 <= SLIGHT <= found["high"]:
        return None
    return bool(found["low"] <= 0)


def _points(found: Mapping[str, Any]) -> str:
    if found["mean"] is None:
        return "not trained"
    seeds = f", {found['n']} trainings" if "n" in found else ""
    return f"{percent(found, sign=True)} points of AP50{seeds}"
