"""The result in sentences and cards, with what must not be concluded from it."""

from __future__ import annotations

from markupsafe import Markup

from evolution.protocol.reference import missing_words, published_words
from evolution.protocol.result import ComparedNet, Comparison, Summary
from evolution.protocol.roles import BASELINES, CONTROLS
from evolution.report.comparison import RED, SHOWN
from evolution.report.format import rate_text, share
from evolution.report.run_data import PRESET
from robustkit.report import Section, cards, format_estimate, percent, table
from robustkit.stats import Gap, Rate, wilson

CHEAP = [role for roles in BASELINES.values() for role in roles if role not in CONTROLS]


def headline_section(summary: Summary) -> Section:
    """Return the cards and, below them, the same in sentences."""
    sentences = [
        reference_sentence(summary),
        gap_sentence(summary),
        accuracy_sentence(summary),
        robustness_sentence(summary),
        controls_sentence(summary),
        search_sentence(summary),
    ]
    html = Markup().join(Markup("<p>{}</p>").format(sentence) for sentence in sentences if sentence)
    first = _warnings(summary) + _cards(summary) + questions_table(summary)
    return Section("result", "Result", first + html)


ANSWERS = {
    "better": "yes",
    "worse": "no: more of R's adversarials transfer to E",
    "undecided": "undecided: the interval includes zero",
}


def questions(summary: Summary) -> list[tuple[str, str, str]]:
    """Return the questions that decide whether the search was worth it, with role and answer.

    None for runs that knew no comparisons.
    """
    roles = [role for role in ("Rp", *CHEAP, "RS") if role in summary.comparisons]
    asked = [
        (
            f"Does E beat {_named(role)}?",
            role,
            answer(summary.comparisons[role], SHOWN[role], summary.tolerance),
        )
        for role in roles
    ]
    if "R2" in summary.comparisons:
        asked.append(
            (
                "Is R's accuracy kept (R2)?",
                "R2",
                _kept(summary.comparisons["R2"], summary.tolerance),
            )
        )
    return asked


def _kept(comparison: Comparison, tolerance: float) -> str:
    """Return whether E is as accurate as R's architecture, within the tolerance in [0,1]."""
    points, low = comparison.accuracy.value or 0.0, comparison.accuracy.low
    if comparison.verdict == "costs accuracy":
        return f"no: E is {-points:.1f} points less accurate"
    if low is not None and low >= -100 * tolerance:
        return "yes"
    return f"yes, as a mean; the interval includes more than {_allowed(tolerance)} less"


def _allowed(tolerance: float) -> str:
    return "a point" if tolerance == 0.01 else f"{100 * tolerance:g} points"


def answer(comparison: Comparison, other: str, tolerance: float) -> str:
    """Return the verdict of a comparison in words, with what its mean accuracy hides."""
    points = comparison.accuracy.value or 0.0
    if comparison.verdict == "costs accuracy":
        return f"no: E is {-points:.1f} points less accurate"
    low = comparison.accuracy.low
    if comparison.verdict == "better" and (low is None or low < -100 * tolerance):
        return f"yes; in accuracy the interval includes more than {_allowed(tolerance)} less"
    if comparison.verdict == "less accurate":
        return f"not at equal accuracy: {other} is {points:.1f} points less accurate"
    if comparison.transfer.value is None:
        return "no image is right in both nets"
    return ANSWERS[comparison.verdict]


def _named(role: str) -> str:
    return {
        "Rp": "R′, R's own architecture under the penalty",
        "RS": "random search (RS)",
        "F": "another family (F)",
        "F0": "another family, no penalty (F0)",
        "P": "R behind an average pool (P)",
        "P0": "R behind an average pool, no penalty (P0)",
        "M": "random architectures, no penalty (M)",
    }[role]


def questions_table(summary: Summary) -> Markup:
    """Return the questions with their answers and intervals; empty for runs that knew none."""
    rows = []
    for question, role, text in questions(summary):
        compared = summary.comparisons[role]
        transfer, accuracy = _points(compared.transfer), _points(compared.accuracy)
        rows.append((question, text, transfer, accuracy, compared.transfer.n))
    if not rows:
        return Markup()
    headers = ("question", "answer", "T(R→net) − T(R→E)", "accuracy, E − net", "n")
    caption = (
        "Points with 95 % intervals over images and trainings. Transfer over the n images that R, "
        "the net and E get right, the mean over pairs of trainings; accuracy over all test images. "
        "“Yes” means: less transfer to E, the interval clear of zero, at an accuracy of at least "
        "the net's minus the tolerance."
    )
    return table(headers, rows, caption=caption)


def _points(gap: Gap) -> str:
    return "–" if gap.value is None else format_estimate(gap, "+.1f")


def _warnings(summary: Summary) -> Markup:
    """Return the warnings about the whole run, before any of its results."""
    style = f"border-left:4px solid {RED};padding-left:.9rem"
    one = Markup(f'<p role="note" style="{style}"><strong>{{}}</strong>: {{}}.</p>')
    notes = [("Warning", warning) for warning in summary.warnings]
    if missing := missing_words(summary.left_out):
        notes.append(("Incomplete comparison", missing))
    for names in BASELINES.values():
        reasons = {role: summary.left_out[role] for role in names if role in summary.left_out}
        if reasons and names != CONTROLS:
            absent = " and ".join(SHOWN[role] for role in reasons)
            notes.append(("Left out", f"{absent}: {next(iter(reasons.values()))}"))
    return Markup().join(one.format(*note) for note in notes)


def reference_sentence(summary: Summary) -> str:
    """Return the accuracy of a given R beside the published one, and its notes."""
    reference = summary.reference
    if not reference.given:
        return ""
    accuracy = wilson(reference.accuracy, reference.validation_images)
    published = published_words(reference.published)
    notes = "".join(f" {note[:1].upper()}{note[1:]}." for note in reference.notes)
    return (
        "R was given trained and is taken as it is; on validation it is right on "
        f"{rate_text(accuracy)}{published}.{notes}"
    )


def gap_sign(summary: Summary) -> int:
    """Return +1 where the gap's interval lies above zero, -1 where it lies below, 0 otherwise."""
    return 0 if summary.gap is None else sign_of(summary.gap)


def sign_of(gap: Gap) -> int:
    """Return +1 where an interval lies above zero, -1 where it lies below, 0 otherwise."""
    low, high = gap.low, gap.high
    if low is None or high is None:
        return 0
    return int(low > 0) - int(high < 0)


def gap_sentence(summary: Summary) -> str:
    """Return the gap T(R→R′) − T(R→E), its interval, and what follows."""
    gap, nets = summary.gap, summary.nets
    if gap is None:
        return penalty_sentence(summary)
    if gap.value is None:
        return (
            "No test image is classified correctly by every training of every net, so that "
            "transfer cannot be compared on a common set: there is no gap."
        )
    rates = {name: share(_headline(nets.compared(name)).value) for name in ("Rp", "E")}
    measured = (
        f"Adversarials made on R fool R′ on {rates['Rp']} and E on {rates['E']} of the "
        f"{gap.n:,} test images that all nets get right: a gap of {gap.value:+.1f} points, "
        f"95 % interval [{gap.low:.1f}, {gap.high:.1f}]. "
    )
    conclusions = {
        1: "Fewer of R's adversarials transfer to the evolved architecture than to R's own "
        "under the same penalty.",
        0: "The interval includes zero: this run does not show that the evolved architecture "
        "differs from R's own under the same penalty.",
        -1: "This is a negative result: more of R's adversarials transfer to the evolved "
        "architecture than to R's own under the same penalty.",
    }
    return measured + conclusions[gap_sign(summary)] + _p_value(summary) + _single(summary)


def penalty_sentence(summary: Summary) -> str:
    """Return the gap T(R→E0) − T(R→E), where there is no R′ to compare with."""
    gap, nets = summary.control_gap, summary.nets
    if gap.value is None:
        return (
            "No test image is classified correctly by every training of every net, so that "
            "transfer cannot be compared on a common set."
        )
    rates = {"E0": rate_text(_headline(nets.E0)), "E": rate_text(_headline(nets.E))}
    conclusion = {
        1: "on the evolved architecture the penalty lowers the transfer",
        0: "it includes zero, so this run does not show that the penalty matters",
        -1: "on the evolved architecture the penalty raises the transfer",
    }[sign_of(gap)]
    return (
        f"Adversarials made on R fool E on {rates['E']}; E0, the same architecture without the "
        f"penalty, on {rates['E0']}. T(R→E0) − T(R→E) is {gap.value:+.1f} points, 95 % "
        f"interval [{gap.low:.1f}, {gap.high:.1f}]: {conclusion}. Whether R's own architecture "
        "would do the same under the penalty is not known."
    )


def _single(summary: Summary) -> str:
    """Return a caution where the interval cannot include the spread of trainings."""
    if all(summary.nets.of(name).seeds > 1 for name in ("Rp", "E")):
        return ""
    return (
        " With a single training of R′ or E the interval covers the choice of images only, not "
        "how much one training differs from the next."
    )


def _p_value(summary: Summary) -> str:
    """Return a caution where the strictest test and the interval disagree."""
    p_value = None if summary.gap is None else summary.gap.p_value
    if gap_sign(summary) == 0 or p_value is None or p_value < 0.05:
        return ""
    return (
        " Not for every pair of trainings, though: in the pair that differs least, McNemar's test "
        f"gives p = {p_value:.2g}. The trainings differ much between seeds."
    )


def accuracy_sentence(summary: Summary) -> str:
    """Return the clean accuracies of E and R."""
    ours, theirs = summary.nets.E.clean_acc, summary.nets.R.clean_acc
    points = 100 * (ours - theirs)
    if points < -1:
        conclusion = f"the low transfer costs {-points:.1f} points of accuracy"
        if gap_sign(summary) <= 0:
            conclusion = f"E is {-points:.1f} points less accurate"
    elif points <= 1:
        conclusion = f"within one point ({points:+.1f})"
    else:
        conclusion = f"E is {points:.1f} points more accurate"
    return (
        f"On clean test images E has an accuracy of {share(ours)}, R of {share(theirs)}: "
        f"{conclusion}."
    )


def robustness_sentence(summary: Summary) -> str:
    """Return the white-box accuracies: low transfer is not robustness."""
    evolved, reference = summary.nets.E, summary.nets.R
    ours, theirs = evolved.whitebox_acc, reference.whitebox_acc
    direct = (
        f"Low transfer is not robustness. Attacked directly, through its own gradients and with "
        f"the same ε, E stays right on {share(ours)} of all test images (R on {share(theirs)})"
    )
    lost = 100 * (evolved.clean_acc - ours)
    if ours <= theirs + 0.01:
        return f"{direct}: an attacker with access to the net can fool it as easily as R."
    return (
        f"{direct}. That is {100 * (ours - theirs):.1f} points more than R, and still "
        f"{lost:.1f} points less than on clean images."
    )


def controls_sentence(summary: Summary) -> str:
    """Return the transfer with the architecture alone, the penalty alone, and both."""
    if "Rp" not in summary.nets.roles:
        return ""
    roles = ("R2", "Rp", "E", "E0")
    rates = {name: _headline(summary.nets.compared(name)).value for name in roles}
    points = {name: 100 * rate for name, rate in rates.items() if rate is not None}
    if len(points) < len(roles):
        return ""
    return (
        f"Of R's adversarials {points['R2']:.1f} % transfer where nothing is changed but the seed "
        f"(R2). The penalty alone brings this to {points['Rp']:.1f} % (R′), the architecture alone "
        f"to {points['E0']:.1f} % (E0), both together to {points['E']:.1f} % (E)."
    )


def search_sentence(summary: Summary) -> str:
    """Return the gap between evolution and a random search of the same budget."""
    selections = summary.selection
    found = {"E": selections.E, "RS": selections.RS}
    given = [role for role, each in found.items() if each.operator == PRESET]
    start = (
        f" Found among the nets of known families that both searches start from: "
        f"{' and '.join(given)}." * bool(given)
    )
    if selections.E.key == selections.RS.key:
        return (
            "The random search selected the very same architecture (RS): this run is no "
            f"evidence for evolution over random sampling.{start}"
        )
    ours, theirs = _headline(summary.nets.E), _headline(summary.nets.RS)
    gap = summary.search_gap
    if gap.value is None:
        return ""
    compared = f"E {rate_text(ours)}; RS, from a random search of equal budget, {rate_text(theirs)}"
    conclusion = {
        1: "fewer adversarials transfer to the net that evolution found",
        0: "that interval includes zero, so neither search can be called the better one",
        -1: "fewer adversarials transfer to the net that the random search found",
    }[sign_of(gap)]
    accuracy = [share(summary.nets.of(name).clean_acc) for name in ("E", "RS")]
    return (
        f"Transfer from R: {compared}; T(R→RS) − T(R→E) is {gap.value:+.1f} points, 95 % "
        f"interval [{gap.low:.1f}, {gap.high:.1f}] over images and trainings: {conclusion}. "
        f"Their clean accuracies are {accuracy[0]} and {accuracy[1]}.{start}"
    )


def _cards(summary: Summary) -> Markup:
    nets, selection = summary.nets, summary.selection.E
    control, gap = summary.control, summary.control_gap
    shown = "–" if gap.value is None else f"{gap.value:+.1f}"
    interval = (
        "no common images"
        if gap.value is None
        else f"T(R→{SHOWN[control]}) − T(R→E), [{gap.low:.1f}, {gap.high:.1f}], n = {gap.n:,}"
    )
    ours, theirs = nets.E, nets.R
    transfer = _headline(ours)
    return cards(
        [
            ("gap, points" if control == "Rp" else "gap to E0, points", shown, interval),
            (
                "transfer T(R→E)",
                percent(transfer.value, transfer.low, transfer.high, transfer.n),
                f"{SHOWN[control]} {share(_headline(nets.compared(control)).value)}",
            ),
            ("clean accuracy, E", share(ours.clean_acc), f"R {share(theirs.clean_acc)}"),
            (
                "white-box accuracy, E",
                share(ours.whitebox_acc),
                f"R {share(theirs.whitebox_acc)}; low transfer is not robustness",
            ),
            (
                "E's size",
                f"{ours.params:,}",
                f"parameters; R {theirs.params:,}. Candidate {selection.number} of the evolution",
            ),
        ]
    )


def _headline(net: ComparedNet) -> Rate:
    return net.transfer_from_R.headline
