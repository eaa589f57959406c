"""The comparison of all nets: every rate with its interval and its number of images."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup
from msgspec import UNSET, UnsetType

from evolution.protocol.result import ComparedNet, Nets, Summary
from evolution.protocol.roles import REFERENCE, ROLES, SURROGATE
from evolution.report.format import compact, rate_text, share
from robustkit.report import (
    PALETTE,
    Section,
    chart,
    figure,
    format_estimate,
    percent,
    percent_of,
    svg,
    table,
)
from robustkit.stats import Rate, wilson

BLUE, ORANGE, GREEN, RED, VIOLET, GREY = PALETTE

SHOWN = {role: role for role in (*ROLES, "S")} | {"Rp": "R′"}
COLOURS = dict.fromkeys((*ROLES, "S"), GREY) | {
    "R2": VIOLET,
    "Rp": RED,
    "E": BLUE,
    "E0": GREEN,
    "RS": ORANGE,
}
MEANINGS = {
    "R": "the reference: every penalty and most attacks here are made on it",
    "R2": "R's architecture from other seeds, no penalty",
    "Rp": "R's architecture, trained with the penalty",
    "E": "the evolved architecture, trained with the penalty",
    "E0": "the evolved architecture, no penalty",
    "RS": "the best of an equal-budget random search, with the penalty",
    "F": "another family of nets, with the penalty",
    "F0": "the same family, no penalty",
    "P": "R's architecture behind a 2×2 average pool, with the penalty",
    "P0": "the same, no penalty",
    "M": "random architectures of the search's space, no penalty",
}
ARROWS = {
    "transfer_from_R": "R → {}",
    "transfer_from_surrogate": "S → {}",
    "transfer_from_R_flipped": "R flipped → {}",
    "transfer_to_R": "{} → R",
}
SOURCES = {
    "transfer_from_R": "from R",
    "transfer_from_surrogate": "from the surrogate",
    "transfer_from_R_flipped": "from R, gradient flipped",
    "transfer_to_R": "to R, from the net itself",
}
DENOMINATORS = ("headline", "fooling", "all")


MARKS = {"headline": "o", "fooling": "s", "all": "D"}


def comparison_section(summary: Summary) -> Section:
    """Return tables of all results, and the transfer rates as a chart."""
    nets = summary.nets
    html = [
        _nets_table(nets, summary.test_images),
        figure(
            _chart(nets),
            "Share of adversarials that fool each net, with 95 % Wilson intervals. Filled dots: "
            "headline; open squares: fooling; open diamonds: all. Point at a mark for its values.",
        ),
        Markup("<h3>Transfer, in all three denominators</h3>"),
        _transfer_table(nets),
        *_unseen_table(summary),
    ]
    note = (
        f"Every net is evaluated on the same {summary.test_images:,} test images; "
        f"{summary.common_images:,} of them are classified correctly by every training of R, R2, "
        "R′, E, E0 and RS. Lower transfer is better; higher accuracy is better."
    )
    return Section("comparison", "Comparison", Markup("\n").join(html), note)


def _nets_table(nets: Nets, images: int) -> Markup:
    headers = (
        "net",
        Markup("clean<br>accuracy"),
        Markup("white-box<br>accuracy"),
        Markup("transfer<br>from R"),
        Markup("cos<br>with R"),
        "|cos|",
        Markup("gradient<br>norm"),
        "parameters",
        "MACs",
        "seeds",
    )
    rows = []
    roles = nets.roles
    for name in roles:
        net = nets.of(name)
        first = None if name == "R" else nets.compared(name).rate("transfer_from_R")
        rows.append(
            (
                SHOWN[name],
                _accuracy(net.clean_acc, images),
                _accuracy(net.whitebox_acc, images),
                _stacked(first) if first else "–",
                *map(_decimal, (net.cos_mean, net.cos_abs_mean, net.grad_norm_mean)),
                compact(net.params),
                compact(net.macs),
                net.seeds,
            )
        )
    caption = (
        f"Accuracies on {images:,} test images, transfer in the headline denominator, both as "
        "means over seeds with 95 % Wilson intervals; cosines and norms of input gradients, means "
        "over images and seeds."
    )
    strong = [roles.index("E")]
    meanings = Markup("; ").join(
        Markup("<b>{}</b> {}").format(SHOWN[name], MEANINGS[name]) for name in roles
    )
    return table(headers, rows, caption=caption, strong=strong) + Markup(
        "<p><small>{}.</small></p>"
    ).format(meanings)


def _transfer_table(nets: Nets) -> Markup:
    pairs = [(source, name) for source in SOURCES for name in nets.roles[1:]]
    rows = [
        (
            ARROWS[source].format(SHOWN[name]),
            *(
                percent_of(nets.compared(name).rate(source, denominator), with_n=True)
                for denominator in DENOMINATORS
            ),
        )
        for source, name in pairs
    ]
    strong = [index for index, (_, name) in enumerate(pairs) if name == "E"]
    caption = (
        "S: the surrogate. R flipped: adversarials that follow R's gradient with its sign turned. "
        "–: no image to count, n = 0."
    )
    return table(("transfer", *DENOMINATORS), rows, caption=caption, strong=strong)


def _unseen_table(summary: Summary) -> list[Markup]:
    """Return the transfer from several surrogates, and what all sources are; [] for one of each."""
    references, surrogates = (
        {name: spec for name, spec in summary.sources.items() if name.partition(".")[0] == of}
        for of in (REFERENCE, SURROGATE)
    )
    if len(references) < 2 and len(surrogates) < 2:
        return []
    rows = []
    for role, unseen in summary.unseen.items():
        compared = summary.comparisons.get(role)
        gap = UNSET if compared is None else compared.unseen
        rows.append(
            (
                SHOWN[role],
                percent(unseen.mean),
                percent_of(unseen.worst, with_n=True),
                unseen.worst_source,
                "–"
                if isinstance(gap, UnsetType) or gap.value is None
                else format_estimate(gap, "+.1f"),
            )
        )
    headers = ("net", "mean", "highest", "from", "T(S→net) − T(S→E)")
    strong = [index for index, role in enumerate(summary.unseen) if role == "E"]
    named = [
        ", ".join(f"{name} {spec}" for name, spec in sources.items())
        for sources in (surrogates, references)
    ]
    caption = (
        f"Transfer from surrogates ({named[0]}), which took no part in any penalty, in the "
        "headline denominator: the mean over them, and from the one with most. Last, in points, "
        "the mean over them and over the images that the net and E get right, with a 95 % interval "
        "over images and trainings."
    )
    if len(references) > 1:
        caption += (
            f" Of the references ({named[1]}) all are in the penalty and in a trial's transfer; R "
            "alone in “from R” above."
        )
    return [
        Markup("<h3>Transfer from nets that took no part</h3>"),
        table(headers, rows, caption=caption, strong=strong),
    ]


def _stacked(rate: Rate) -> Markup:
    """Return a rate with its interval below, so that a wide table stays readable."""
    low, high = rate.low, rate.high
    if low is None or high is None:
        return Markup("–")
    return Markup("{}<br><small>[{}, {}], n = {}</small>").format(
        percent(rate.value),
        f"{100 * low:.1f}",
        f"{100 * high:.1f}",
        f"{rate.n:,}",
    )


def _accuracy(value: float, images: int) -> Markup:
    rate = wilson(value, images)
    if rate.low is None or rate.high is None:
        return Markup("–")
    span = f"[{100 * rate.low:.1f}, {100 * rate.high:.1f}]"
    return Markup("{}<br><small>{}</small>").format(percent(value), span)


def _decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _chart(nets: Nets) -> Markup:

    tips, other_roles = {}, nets.roles[1:]
    with chart(10, 1.3 + 0.4 * len(other_roles)) as drawing:
        panels = drawing.subplots(1, len(SOURCES), sharey=True)
        for axes, (source, title) in zip(panels, SOURCES.items(), strict=True):
            for row, name in enumerate(other_roles):
                for shift, kind in zip((-0.2, 0.06, 0.26), DENOMINATORS, strict=True):
                    rate = nets.compared(name).rate(source, kind)
                    gid = f"{source}-{name}-{kind}"
                    if _mark(axes, rate, row + shift, name, kind, gid):
                        tips[gid] = f"{SHOWN[name]}, {title}\n{kind}: {rate_text(rate)}"
            axes.set(title=title, xlim=(-4, 104), xlabel="transfer (%)")
            axes.grid(axis="y", visible=False)
        panels[0].set_yticks(range(len(other_roles)), [SHOWN[name] for name in other_roles])
        panels[0].set_ylim(len(other_roles) - 0.4, -0.6)
        alt = "Transfer to each net from R, the surrogate and R's flipped gradient, and to R"
        return svg(drawing, alt=alt, tips=tips)


def _mark(axes: Any, rate: Rate, y: float, name: str, kind: str, gid: str) -> bool:
    """Draw a rate and its interval, paler unless the headline; return whether there is one."""
    middle, low, high = rate.value, rate.low, rate.high
    if middle is None or low is None or high is None:
        return False
    first = kind == "headline"
    colour = COLOURS[name]
    alpha = 1.0 if first else 0.55
    span = [100 * low, 100 * high]
    axes.plot(span, [y, y], color=colour, alpha=alpha, linewidth=2.2 if first else 1.1)
    (dot,) = axes.plot(
        [100 * middle],
        [y],
        MARKS[kind],
        color=colour,
        alpha=alpha,
        markersize=7 if first else 4,
        markerfacecolor=colour if first else "#ffffff",
    )
    dot.set_gid(gid)
    return True


Row = tuple[str, str, str]
FINE, DOUBTFUL = "fine", "doubtful"


def checks_section(summary: Summary) -> Section:
    """Return the checks that evidence of robustness has to pass (Croce & Hein 2020)."""
    nets = summary.nets
    rows = [_attack(summary), _black_box(nets)]
    rows += [_zero_gradients(nets), _flipped(nets.E), _surrogate(nets)]
    note = (
        "A net can seem to resist transfer because its gradients vanish, because the attack is "
        "weak, or because its gradient has the opposite sign of R's."
    )
    html = table(("check", "result", "measured"), rows)
    return Section("checks", "Checks of the evaluation", html, note)


def _attack(summary: Summary) -> Row:
    fooled = summary.reference.fooled
    weak = fooled is None or fooled < 0.9
    measured = f"{share(fooled)} of R's own adversarials on validation fool R"
    return ("the attack works on R itself", _state(weak), measured)


def _black_box(nets: Nets) -> Row:
    """Return the check that no net is less accurate on R's adversarials than on its own."""
    right = {}
    for name in nets.roles[1:]:
        transfer = nets.compared(name).rate("transfer_from_R", "all").value
        right[name] = (
            nets.of(name).whitebox_acc,
            1.0 if transfer is None else 1 - transfer,
        )
    masked = any(white > black for white, black in right.values())
    values = [
        f"{SHOWN[n]} {share(white)} and {share(black)}" for n, (white, black) in right.items()
    ]
    measured = f"accuracy under its own and under R's: {'; '.join(values)}"
    return (
        "every net is hurt more by its own adversarials than by R's",
        _state(masked),
        measured,
    )


def _zero_gradients(nets: Nets) -> Row:
    zeros = {name: nets.of(name).zero_gradients or 0.0 for name in nets.roles}
    most = max(zeros, key=lambda name: zeros[name])
    worst = zeros[most]
    measured = f"at most {share(worst)} of the gradients are zero ({SHOWN[most]})"
    if worst == 0:
        measured = "no gradient of any net is zero"
    return ("input gradients do not vanish", _state(worst > 0.05), measured)


def _flipped(evolved: ComparedNet) -> Row:
    """Return the check of the opposite step, which fools a net with a cosine of -1."""
    flipped = evolved.transfer_from_R_flipped.headline
    turned, plain = flipped.value, evolved.transfer_from_R.headline.value
    bad = turned is None or plain is None or turned > max(plain, 0.05)
    title = "E has not merely reversed R's gradient"
    measured = f"transfer from the flipped gradient: {rate_text(flipped)}"
    return (title, _state(bad), measured)


def _surrogate(nets: Nets) -> Row:
    """Return the check that the surrogate's adversarials do not transfer more to E."""
    control = "Rp" if "Rp" in nets.roles else "E0"
    rates = {name: nets.compared(name).rate("transfer_from_surrogate") for name in (control, "E")}
    low, high = rates["E"].low, rates[control].high
    worse = low is None or high is None or low > high
    measured = f"E {rate_text(rates['E'])}; {SHOWN[control]} {rate_text(rates[control])}"
    title = f"the surrogate's adversarials fool E no more than {SHOWN[control]}"
    return (title, _state(worse), measured)


def _state(doubtful: bool) -> str:
    return DOUBTFUL if doubtful else FINE
