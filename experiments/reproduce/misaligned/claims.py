"""The publication's claims on evolutions away from several references, by rules fixed beforehand.

A gap or a difference agrees where its 95 % interval lies on the claimed side of its bound,
disagrees where it lies on the other, and is left open where it holds the bound.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from scipy import stats

from experiments.reproduce.claims import Claim, beyond, clear_of, everywhere
from experiments.reproduce.misaligned.result import Attention, Evolution, Nets, Summary
from experiments.wording import number

GAP, STRUCTURE, ATTENTION = "misalignment-gap", "misalignment-structure", "misalignment-attention"
POINTS = 10.0  # of gap, published
KEPT = 0.01  # accuracy that "kept" may cost
NOTHING = "no image is classified correctly by every net"

Found = Mapping[str, Any]


def judge(summary: Summary) -> list[Claim]:
    """Claims for every reference, then for all together."""
    evolutions, attention = summary["evolutions"], summary["attention"]
    return [
        *_gaps(evolutions),
        *_kept(evolutions),
        *_structure(evolutions),
        *_attention(attention),
    ]


def _gaps(evolutions: Mapping[str, Evolution]) -> Iterator[Claim]:
    verdicts = []
    for name, each in evolutions.items():
        gap = each["gap"]
        known = gap["points"] is not None
        verdicts.append(clear_of(gap, POINTS) if known else None)
        yield Claim(
            exhibit=GAP,
            what=f"{name}: T(R→R′) − T(R→E) is more than {POINTS:g} points",
            published="more than 10 points",
            ours=gap_text(each) if known else NOTHING,
            holds=verdicts[-1],
        )
    if evolutions:
        right = sum(each is True for each in verdicts)
        yield Claim(
            exhibit=GAP,
            what="so it is for every reference",
            published="four references, ResNet and VGG among them (abstract)",
            ours=f"{right} of {len(verdicts)}",
            holds=everywhere(verdicts),
        )


def _kept(evolutions: Mapping[str, Evolution]) -> Iterator[Claim]:
    for name, each in evolutions.items():
        lost = accuracy_gained(each["nets"])
        yield Claim(
            exhibit=GAP,
            what=f"{name}: clean accuracy is kept (E at most {100 * KEPT:g} point below R2)",
            published="kept (abstract)",
            ours=f"{_points(lost)}, {lost['n']} trainings each, {each['test_images']:,} images",
            holds=clear_of(lost, -KEPT),
        )


def _structure(evolutions: Mapping[str, Evolution]) -> Iterator[Claim]:
    for name, each in evolutions.items():
        plain, evolved = (transfer(each, player) for player in ("R2", "E0"))
        yield Claim(
            exhibit=STRUCTURE,
            what=f"{name}: the structure alone lowers transfer (E0, without penalty, below R2)",
            published="structure, too, matters much (report, section 4)",
            ours=f"E0 {rate_text(evolved)}, R2 {rate_text(plain)}, n = {plain['n']:,}",
            holds=beyond(plain, evolved),
        )


def _attention(attention: Mapping[str, Attention]) -> Iterator[Claim]:
    words = {"Rp": "R′", "E": "E"}
    for name, each in attention.items():
        for player, word in words.items():
            found = each["gradient"][player]
            below = clear_of(found["beyond_R2"], 0.0)
            yield Claim(
                exhibit=ATTENTION,
                what=f"{name}: {word} looks at other pixels than R, more so than R2 does",
                published="Figure 1: one image",
                ours=f"Spearman of input gradients with R's: {word} {number(found['like_R'])}, R2 "
                f"{number(each['gradient']['R2']['like_R'])}, n = {each['n']:,}",
                holds=None if below is None else not below,
            )


def transfer(evolution: Evolution, player: str) -> Found:
    """T(R→player) over the images that every net gets right."""
    found: Found = evolution["nets"][player]["transfer_from_R"]["headline"]
    return found


def rate_text(rate: Found) -> str:
    """A rate with its interval, in percent."""
    if rate["rate"] is None:
        return "–"
    low, high = 100 * rate["low"], 100 * rate["high"]
    return f"{100 * rate['rate']:.1f} % [{low:.1f}, {high:.1f}]"


def gap_text(evolution: Evolution) -> str:
    """The gap in points, its interval, its n and the largest p over pairs of trainings."""
    gap = evolution["gap"]
    interval = f"[{gap['low']:.1f}, {gap['high']:.1f}]"
    return f"{gap['points']:.1f} {interval}, n = {gap['n']:,}, largest p = {gap['p_value']:.1g}"


def accuracy_gained(nets: Nets) -> dict[str, Any]:
    """{mean, low, high, n}: E's clean accuracy less R2's, Welch's 95 % interval over trainings."""
    evolved, plain = (nets[player]["clean_acc_by_seed"] for player in ("E", "R2"))
    mean = sum(evolved) / len(evolved) - sum(plain) / len(plain)
    if min(len(evolved), len(plain)) < 2 or len({*evolved}) == len({*plain}) == 1:
        return {"mean": mean, "low": None, "high": None, "n": min(len(evolved), len(plain))}
    with warnings.catch_warnings():
        # Trainings that come out alike are told of as a loss of precision.
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = stats.ttest_ind(evolved, plain, equal_var=False).confidence_interval(0.95)
    ends = {"low": float(interval.low), "high": float(interval.high)}
    return {"mean": mean, **ends, "n": min(len(evolved), len(plain))}


def _points(found: Found) -> str:
    text = f"{100 * found['mean']:+.1f} points"
    if found["low"] is None:
        return text
    return f"{text} [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"
