"""The result in sentences and cards: what was found, and what must not be concluded from it."""

from __future__ import annotations

from markupsafe import Markup

from evolution.protocol.reference import missing_words, published_words
from evolution.protocol.result import ComparedNet, Summary, compared_net, left_out_of, net_of
from evolution.report.comparison import RED, SHOWN
from evolution.report.format import rate_text, share
from robustkit.report import Section, cards, percent
from robustkit.runs.summaries import Gap, Rate
from robustkit.stats import wilson


def headline_section(summary: Summary) -> Section:
    """The cards and, below, what they say in plain words."""
    said = [
        reference_sentence(summary),
        gap_sentence(summary),
        accuracy_sentence(summary),
        robustness_sentence(summary),
        controls_sentence(summary),
        search_sentence(summary),
    ]
    html = Markup().join(Markup("<p>{}</p>").format(sentence) for sentence in said if sentence)
    return Section("result", "Result", _warnings(summary) + _cards(summary) + html)


def _warnings(summary: Summary) -> Markup:
    """What speaks against the whole run, before anything that it measured."""
    style = f"border-left:4px solid {RED};padding-left:.9rem"
    one = Markup(f'<p role="note" style="{style}"><strong>{{}}</strong>: {{}}.</p>')
    told = [("Warning", each) for each in summary.get("warnings", ())]
    if missing := missing_words(left_out_of(summary)):
        told.append(("Incomplete comparison", missing))
    return Markup().join(one.format(*each) for each in told)


def reference_sentence(summary: Summary) -> str:
    """What a given R is: its accuracy on validation beside the published one, and its notes."""
    reference = summary["reference"]
    if not reference.get("given"):
        return ""
    accuracy = wilson(reference["accuracy"], reference["validation_images"])
    published = published_words(reference["published"])
    told = Rate(rate=accuracy.value, n=accuracy.n, low=accuracy.low, high=accuracy.high)
    notes = "".join(f" {note[:1].upper()}{note[1:]}." for note in reference["notes"])
    return (
        "R was given trained and is taken as it is; on validation it is right on "
        f"{rate_text(told)}{published}.{notes}"
    )


def found(summary: Summary) -> int:
    """+1 where the gap's interval lies above zero, -1 where it lies below, 0 otherwise."""
    return 0 if summary["gap"] is None else side_of(summary["gap"])


def side_of(gap: Gap) -> int:
    """+1 where an interval lies above zero, -1 where it lies below, 0 otherwise."""
    low, high = gap["low"], gap["high"]
    if low is None or high is None:
        return 0
    return int(low > 0) - int(high < 0)


def gap_sentence(summary: Summary) -> str:
    """What the gap T(R→R′) − T(R→E) says, and how surely."""
    gap, nets = summary["gap"], summary["nets"]
    if gap is None:
        return penalty_sentence(summary)
    if gap["points"] is None:
        return (
            "No test image is classified correctly by every training of every net, so that "
            "transfer cannot be compared on a common set: there is no gap to speak of."
        )
    rates = {name: share(_headline(compared_net(nets, name))["rate"]) for name in ("Rp", "E")}
    measured = (
        f"Adversarials made on R mislead R′ on {rates['Rp']} and E on {rates['E']} of the "
        f"{gap['n']:,} test images that all nets get right: a gap of {gap['points']:+.1f} points, "
        f"95 % interval [{gap['low']:.1f}, {gap['high']:.1f}]. "
    )
    verdicts = {
        1: "The evolved architecture takes over fewer of R's adversarials than R's own "
        "architecture does under the same penalty.",
        0: "The interval includes zero: this run does not show that the evolved architecture "
        "differs from R's own under the same penalty.",
        -1: "This is a negative result: more of R's adversarials carry over to the evolved "
        "architecture than to R's own under the same penalty.",
    }
    return measured + verdicts[found(summary)] + _p_value(summary) + _single(summary)


def penalty_sentence(summary: Summary) -> str:
    """What the gap T(R→E0) − T(R→E) says, where there is no R′ to compare with."""
    gap, nets = summary["penalty_gap"], summary["nets"]
    if gap["points"] is None:
        return (
            "No test image is classified correctly by every training of every net, so that "
            "transfer cannot be compared on a common set."
        )
    rates = {"E0": rate_text(_headline(nets["E0"])), "E": rate_text(_headline(nets["E"]))}
    verdict = {
        1: "on the evolved architecture the penalty lowers the transfer",
        0: "it includes zero, so this run does not show that the penalty matters",
        -1: "on the evolved architecture the penalty raises the transfer",
    }[side_of(gap)]
    return (
        f"Adversarials made on R mislead E on {rates['E']}; E0, the same architecture without the "
        f"penalty, on {rates['E0']}. T(R→E0) − T(R→E) is {gap['points']:+.1f} points, 95 % "
        f"interval [{gap['low']:.1f}, {gap['high']:.1f}]: {verdict}. Whether R's own architecture "
        "would do the same under the penalty is not known."
    )


def _single(summary: Summary) -> str:
    """Said where the interval cannot know how much trainings differ."""
    if all(net_of(summary["nets"], name)["seeds"] > 1 for name in ("Rp", "E")):
        return ""
    return (
        " With a single training of R′ or E the interval covers the choice of images only, not "
        "how much one training differs from the next."
    )


def _p_value(summary: Summary) -> str:
    """Said where the strictest test and the interval disagree."""
    p_value = None if summary["gap"] is None else summary["gap"]["p_value"]
    if found(summary) == 0 or p_value is None or p_value < 0.05:
        return ""
    return (
        " Not for every pair of trainings, though: in the pair that differs least, McNemar's test "
        f"gives p = {p_value:.2g}. The trainings differ much between seeds."
    )


def accuracy_sentence(summary: Summary) -> str:
    """How much clean accuracy E has beside R."""
    ours, theirs = summary["nets"]["E"]["clean_acc"], summary["nets"]["R"]["clean_acc"]
    points = 100 * (ours - theirs)
    if points < -1:
        verdict = f"the low transfer is paid for with {-points:.1f} points of accuracy"
        if found(summary) <= 0:
            verdict = f"E is {-points:.1f} points less accurate"
    elif points <= 1:
        verdict = f"within one point ({points:+.1f})"
    else:
        verdict = f"E is {points:.1f} points more accurate"
    return f"On clean test images E is right on {share(ours)}, R on {share(theirs)}: {verdict}."


def robustness_sentence(summary: Summary) -> str:
    """That low transfer is not robustness, with the white-box figures that show it."""
    evolved, reference = summary["nets"]["E"], summary["nets"]["R"]
    ours, theirs = evolved["whitebox_acc"], reference["whitebox_acc"]
    direct = (
        f"Low transfer is not robustness. Attacked directly, through its own gradients and with "
        f"the same ε, E stays right on {share(ours)} of all test images (R on {share(theirs)})"
    )
    lost = 100 * (evolved["clean_acc"] - ours)
    if ours <= theirs + 0.01:
        return f"{direct}: whoever can see the net can fool it as easily as R."
    return (
        f"{direct}. That is {100 * (ours - theirs):.1f} points more than R, and still "
        f"{lost:.1f} points less than on clean images."
    )


def controls_sentence(summary: Summary) -> str:
    """What architecture and penalty do each on their own."""
    if "Rp" not in summary["nets"]:
        return ""
    players = ("R2", "Rp", "E", "E0")
    rates = {name: _headline(compared_net(summary["nets"], name))["rate"] for name in players}
    points = {name: 100 * rate for name, rate in rates.items() if rate is not None}
    if len(points) < len(players):
        return ""
    return (
        f"Of R's adversarials {points['R2']:.1f} % transfer where nothing is changed but the seed "
        f"(R2). The penalty alone brings this to {points['Rp']:.1f} % (R′), the architecture alone "
        f"to {points['E0']:.1f} % (E0), both together to {points['E']:.1f} % (E)."
    )


def search_sentence(summary: Summary) -> str:
    """Whether evolution did better than a random search of the same budget."""
    chosen = summary["selection"]
    if chosen["E"]["key"] == chosen["RS"]["key"]:
        return (
            "The random search chose the very same architecture (RS), so that this run says "
            "nothing for evolution over random sampling."
        )
    ours, theirs = _headline(summary["nets"]["E"]), _headline(summary["nets"]["RS"])
    gap = summary["search_gap"]
    if gap["points"] is None:
        return ""
    compared = f"E {rate_text(ours)}; RS, from a random search of equal budget, {rate_text(theirs)}"
    verdict = {
        1: "evolution found the net that takes over fewer adversarials",
        0: "that interval includes zero, so neither search can be called the better one",
        -1: "the random search found the net that takes over fewer adversarials",
    }[side_of(gap)]
    accuracy = [share(net_of(summary["nets"], name)["clean_acc"]) for name in ("E", "RS")]
    return (
        f"Transfer from R: {compared}; T(R→RS) − T(R→E) is {gap['points']:+.1f} points, 95 % "
        f"interval [{gap['low']:.1f}, {gap['high']:.1f}] over images and trainings: {verdict}. "
        f"Their clean accuracies are {accuracy[0]} and {accuracy[1]}."
    )


def _cards(summary: Summary) -> Markup:
    nets, selection = summary["nets"], summary["selection"]["E"]
    control, gap = "Rp", summary["gap"]
    if gap is None:
        control, gap = "E0", summary["penalty_gap"]
    shown = "–" if gap["points"] is None else f"{gap['points']:+.1f}"
    interval = (
        "no common images"
        if gap["points"] is None
        else f"T(R→{SHOWN[control]}) − T(R→E), [{gap['low']:.1f}, {gap['high']:.1f}], "
        f"n = {gap['n']:,}"
    )
    ours, theirs = nets["E"], nets["R"]
    transfer = _headline(ours)
    return cards(
        [
            ("gap, points" if control == "Rp" else "gap to E0, points", shown, interval),
            (
                "transfer T(R→E)",
                percent(transfer["rate"], transfer["low"], transfer["high"], transfer["n"]),
                f"{SHOWN[control]} {share(_headline(compared_net(nets, control))['rate'])}",
            ),
            ("clean accuracy, E", share(ours["clean_acc"]), f"R {share(theirs['clean_acc'])}"),
            (
                "white-box accuracy, E",
                share(ours["whitebox_acc"]),
                f"R {share(theirs['whitebox_acc'])}; low transfer is not robustness",
            ),
            (
                "E's size",
                f"{ours['params']:,}",
                f"parameters; R {theirs['params']:,}. Candidate {selection['number']} "
                "of the evolution",
            ),
        ]
    )


def _headline(net: ComparedNet) -> Rate:
    return net["transfer_from_R"]["headline"]
