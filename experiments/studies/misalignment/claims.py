"""The publication's claims on evolutions away from several references, by rules fixed beforehand.

A gap or a difference agrees where its 95 % interval lies on the claimed side of its bound,
disagrees where it lies on the other, and is left open where it holds the bound. So is the accuracy
of "at equal accuracy": E is at most a point less accurate. Of a reference that is not testable
(below half of R's attacks transfer to R2 on validation) everything is left open.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import UnsetType
from scipy import stats

from evolution.report.comparison import COLOURS, SHOWN
from experiments.studies.base import NOT_GIVEN, Claim, below, beyond, clear_of, everywhere
from experiments.studies.misalignment.jobs import Attention, Evolution, Nets, Summary, Together
from experiments.studies.misalignment.searches import Searches
from robustkit.report import chart, format_estimate, format_percent, label, svg
from robustkit.stats import Estimate, Mean, Rate

GAP, STRUCTURE, ATTENTION = "misalignment-gap", "misalignment-structure", "misalignment-attention"
SEARCH, UNSEEN = "misalignment-search", "misalignment-unseen"
POINTS = 10.0  # of gap, published
KEPT = 0.01  # accuracy that "kept" may cost
NOTHING = "no image is classified correctly by every net"
ALTERNATIVES = {
    "F": "another family under the penalty",
    "F0": "another family",
    "P": "R behind an average pool under the penalty",
    "P0": "R behind an average pool",
    "M": "random architectures",
}
RANDOM = "the best of a random search"
# Of the cheap alternatives, all grey; open without the penalty.
MARKS = {"F": "s", "F0": "s", "P": "D", "P0": "D", "M": "^"}
OPEN = ("E0", "F0", "P0")


def claims(summary: Summary) -> list[Claim]:
    """Return claims for every reference, then for all together."""
    evolutions, attention = summary.evolutions, summary.attention
    return [
        *_gaps(evolutions),
        *_kept(evolutions),
        *_searched(summary.searches, evolutions),
        *_unseen(summary.together),
        *_structure(evolutions),
        *_attention(attention),
    ]


def _gaps(evolutions: Mapping[str, Evolution]) -> Iterator[Claim]:
    holds = []
    for name, evolution in evolutions.items():
        gap = evolution.gap
        measured = gap.value is not None
        holds.append(clear_of(gap, POINTS) if measured and testable(evolution) else None)
        yield Claim(
            item=GAP,
            what=f"{name}: T(R→R′) − T(R→E) is more than {POINTS:g} points",
            published="more than 10 points",
            ours=gap_text(evolution) if measured else NOTHING,
            holds=holds[-1],
        )
    if evolutions:
        right = sum(answer is True for answer in holds)
        yield Claim(
            item=GAP,
            what="so it is for every reference",
            published="four references, ResNet and VGG among them (abstract)",
            ours=f"{right} of {len(holds)}",
            holds=everywhere(holds),
        )


def _kept(evolutions: Mapping[str, Evolution]) -> Iterator[Claim]:
    for name, each in evolutions.items():
        lost = accuracy_gained(each.nets)
        yield Claim(
            item=GAP,
            what=f"{name}: clean accuracy is kept (E at most {100 * KEPT:g} point below R2)",
            published="kept (abstract)",
            ours=f"{format_percent(lost, sign=True, unit=' points')}, {lost.n} trainings each, "
            f"{each.test_images:,} images",
            holds=clear_of(lost, -KEPT) if testable(each) else None,
        )


def testable(evolution: Evolution) -> bool:
    """Return whether all references qualified, as far as that was asked when it was run."""
    first, further = evolution.qualification, evolution.further_qualifications
    known = [] if isinstance(first, UnsetType) else [first]
    known += [] if isinstance(further, UnsetType) else further.values()
    return all(each.testable for each in known)


def _searched(
    searches: Mapping[str, Searches], evolutions: Mapping[str, Evolution]
) -> Iterator[Claim]:
    """Decide by intervals over searches and the trainings of what they are compared with."""
    cheap: dict[str, list[bool | None]] = {}
    for name, each in searches.items():
        qualified = name not in evolutions or testable(evolutions[name])
        for role, found in each.against.items():
            if role not in (*ALTERNATIVES, "RS"):
                continue
            holds = at_equal_accuracy(found.gain(), found.more_accurate()) if qualified else None
            if role in ALTERNATIVES:
                cheap.setdefault(name, []).append(holds)
            yield Claim(
                item=SEARCH,
                what=f"{name}: E transfers less than {ALTERNATIVES.get(role, RANDOM)} ({role}) at "
                "equal accuracy",
                published=NOT_GIVEN,
                ours=f"{format_estimate(found.gain(), '+.1f')} points less, accuracy "
                f"{format_estimate(found.more_accurate(), '+.1f')}, {found.gain().n} searches",
                holds=holds,
            )
        volume = each.volume_gained()
        yield Claim(
            item=SEARCH,
            what=f"{name}: evolution's trials dominate a larger area than random search's",
            published=NOT_GIVEN,
            ours=f"{format_estimate(volume, '+.2f')}, {each.seeds} searches",
            holds=clear_of(volume, 0.0) if qualified else None,
        )
    if cheap:
        beats = [everywhere(holds) for holds in cheap.values()]
        beaten, open_ones = beats.count(True), beats.count(None)
        whole = len(beats) == 4  # one reference of four says nothing of three of them
        decided = beaten >= 3 or beaten + open_ones < 3
        yield Claim(
            item=SEARCH,
            what="E beats every cheap alternative at equal accuracy for three references of four",
            published=NOT_GIVEN,
            ours=f"{beaten} of {len(cheap)}",
            holds=beaten >= 3 if whole and decided else None,
        )


def at_equal_accuracy(gain: Estimate, more_accurate: Estimate) -> bool | None:
    """Return whether E transfers less without being less accurate by more than `KEPT`, in points.

    By both intervals. False where it transfers more or costs accuracy; None where an interval holds
    its bound, or the other net is less accurate and transfers less for it.
    """
    less, kept = clear_of(gain, 0.0), clear_of(more_accurate, -100 * KEPT)
    if less is False and (more_accurate.value or 0.0) > 100 * KEPT:
        less = None
    return everywhere([less, kept])


def _unseen(together: Together | UnsetType) -> Iterator[Claim]:
    """Decide on attacks from nets that took no part, by the interval of the mean over these."""
    if isinstance(together, UnsetType) or isinstance(together.comparisons, UnsetType):
        return
    for role in ("R2", "Rp"):
        compared = together.comparisons.get(role)
        if compared is None or isinstance(compared.unseen, UnsetType):
            continue
        yield Claim(
            item=UNSEEN,
            what=f"attacks from nets that took no part fool E less than {SHOWN[role]} at equal "
            "accuracy",
            published=NOT_GIVEN,
            ours=f"{format_estimate(compared.unseen, '+.1f')} points less, accuracy "
            f"{format_estimate(compared.accuracy, '+.1f')}",
            holds=at_equal_accuracy(compared.unseen, compared.accuracy)
            if testable(together)
            else None,
        )
    unseen = {} if isinstance(together.unseen, UnsetType) else together.unseen
    plain, evolved = (unseen[role].mean if role in unseen else None for role in ("R2", "E"))
    if plain and evolved is not None:
        yield Claim(
            item=UNSEEN,
            what="at most half as often as R2",
            published=NOT_GIVEN,
            ours=f"E {100 * evolved:.1f} %, R2 {100 * plain:.1f} %, means over sources",
            holds=evolved <= plain / 2,
        )


def _structure(evolutions: Mapping[str, Evolution]) -> Iterator[Claim]:
    for name, each in evolutions.items():
        plain, evolved = (transfer(each, role) for role in ("R2", "E0"))
        yield Claim(
            item=STRUCTURE,
            what=f"{name}: the structure alone lowers transfer (E0, without penalty, below R2)",
            published="structure, too, matters much (report, section 4)",
            ours=f"E0 {format_percent(evolved, unit=' %')}, R2 {format_percent(plain, unit=' %')}, "
            f"n = {plain.n:,}",
            holds=beyond(plain, evolved),
        )


def _attention(attention: Mapping[str, Attention]) -> Iterator[Claim]:
    words = {"Rp": "R′", "E": "E"}
    for name, each in attention.items():
        for role, word in words.items():
            likeness = each.gradient[role]
            yield Claim(
                item=ATTENTION,
                what=f"{name}: {word} looks at other pixels than R, more so than R2 does",
                published="Figure 1: one image",
                ours=f"Spearman of input gradients with R's: {word} "
                f"{format_estimate(likeness.to_r)}, R2 "
                f"{format_estimate(each.gradient['R2'].to_r)}, n = {each.n:,}",
                holds=below(likeness.beyond_r2),
            )


def transfer(evolution: Evolution, role: str) -> Rate:
    """Return T(R→role) over the images that every net gets right."""
    measured = evolution.nets[role].transfer_from_R
    assert not isinstance(measured, UnsetType)  # checked when the summary was read
    return measured.headline


def gap_text(evolution: Evolution) -> str:
    """Return the gap in points, its interval, its n and the largest p over pairs of trainings."""
    gap = evolution.gap
    return f"{format_estimate(gap, '.1f', with_n=True)}, largest p = {gap.p_value:.1g}"


def accuracy_gained(nets: Nets) -> Mean:
    """Return E's clean accuracy minus R2's with Welch's 95 % interval over trainings."""
    evolved, plain = (nets[role].clean_acc_by_seed for role in ("E", "R2"))
    mean = sum(evolved) / len(evolved) - sum(plain) / len(plain)
    if min(len(evolved), len(plain)) < 2 or len({*evolved}) == len({*plain}) == 1:
        return Mean(value=mean, n=min(len(evolved), len(plain)), low=None, high=None)
    with warnings.catch_warnings():
        # scipy warns of a loss of precision where trainings come out alike.
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = stats.ttest_ind(evolved, plain, equal_var=False).confidence_interval(0.95)
    low, high = float(interval.low), float(interval.high)
    return Mean(value=mean, n=min(len(evolved), len(plain)), low=low, high=high)


def transfer_figure(evolutions: Mapping[str, Evolution]) -> str:
    """Return an SVG of T(R→net) with 95 % intervals over clean accuracy, R's own accuracy
    dotted.
    """
    with chart(2.3 * len(evolutions) + 0.6, 2.9) as drawing:
        axes: Any = drawing.subplots(1, len(evolutions), sharex=True, sharey=True, squeeze=False)
        for axis, (name, evolution) in zip(axes[0], evolutions.items(), strict=True):
            axis.set_title(label(f"away from {name}"))
            axis.axvline(100 * evolution.nets["R"].clean_acc, color="0.6", ls=":", lw=1)
            for role in evolution.nets:
                if role != "R":
                    _net(axis, role, evolution)
        axes[0, 0].set_ylabel("fooled by R's adversarials, %")
        axes[0, 0].set_ylim(bottom=0)
        drawing.supxlabel("accuracy on clean test images, % (dotted: R)", fontsize=9.5)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
        alt = "share fooled by R's adversarials against accuracy, of every net by reference"
        return str(svg(drawing, alt=alt))


def _net(axis: Any, role: str, evolution: Evolution) -> None:
    rate = transfer(evolution, role)
    if rate.value is None or rate.low is None or rate.high is None:
        return
    middle, low, high = (100 * value for value in (rate.value, rate.low, rate.high))
    axis.errorbar(
        100 * evolution.nets[role].clean_acc,
        middle,
        yerr=[[middle - low], [high - middle]],
        fmt=MARKS.get(role, "o"),
        # A ring, since E0 often lies where E is.
        markersize=8 if role == "E0" else 4.5,
        markerfacecolor="none" if role in OPEN else COLOURS[role],
        elinewidth=1,
        color=COLOURS[role],
        label=SHOWN[role],
    )
