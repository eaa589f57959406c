"""The comparison of all nets: every rate with its interval and the number of images behind it."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from experiments.evolve.report.players import (
    ARROWS,
    COLOURS,
    DENOMINATORS,
    MEANINGS,
    SHOWN,
    SOURCES,
    present,
)
from experiments.evolve.report.words import compact, rate_text
from experiments.evolve.result import Nets, Summary, compared_net, net_of, rate_of
from experiments.summaries import Rate
from robustkit.attacks import wilson
from robustkit.runs.report import Section, figure, house_style, percent, svg, table

MARKS = {"headline": "o", "fooling": "s", "all": "D"}


def comparison_section(summary: Summary) -> Section:
    """Tables of all figures, and the transfer rates as a chart."""
    nets = summary["nets"]
    html = [
        _nets_table(nets, summary["test_images"]),
        figure(
            _chart(nets),
            "Share of adversarials that mislead each net, with 95 % Wilson intervals. Filled dots: "
            "headline; open squares: fooling; open diamonds: all. Point at a mark for its figures.",
        ),
        Markup("<h3>Transfer, in all three denominators</h3>"),
        _transfer_table(nets),
    ]
    note = (
        f"Every net is judged on the same {summary['test_images']:,} test images; "
        f"{summary['common_images']:,} of them are classified correctly by every training of every "
        "net. Lower transfer is better; higher accuracy is better."
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
    players = present(nets)
    for name in players:
        net = net_of(nets, name)
        first = None if name == "R" else rate_of(compared_net(nets, name), "transfer_from_R")
        rows.append(
            (
                SHOWN[name],
                _accuracy(net["clean_acc"], images),
                _accuracy(net["whitebox_acc"], images),
                _stacked(first) if first else "–",
                *map(_decimal, (net["cos_mean"], net["cos_abs_mean"], net["grad_norm_mean"])),
                compact(net["params"]),
                compact(net["macs"]),
                net["seeds"],
            )
        )
    caption = (
        f"Accuracies on {images:,} test images, transfer in the headline denominator, both as "
        "means over seeds with 95 % Wilson intervals; cosines and norms of input gradients, means "
        "over images and seeds."
    )
    strong = [players.index("E")]
    meanings = Markup("; ").join(
        Markup("<b>{}</b> {}").format(SHOWN[name], MEANINGS[name]) for name in players
    )
    return table(headers, rows, caption=caption, strong=strong) + Markup(
        "<p><small>{}.</small></p>"
    ).format(meanings)


def _transfer_table(nets: Nets) -> Markup:
    pairs = [(source, name) for source in SOURCES for name in present(nets)[1:]]
    rows = [
        (
            ARROWS[source].format(SHOWN[name]),
            *(_cell(rate_of(compared_net(nets, name), source, each)) for each in DENOMINATORS),
        )
        for source, name in pairs
    ]
    strong = [index for index, (_, name) in enumerate(pairs) if name == "E"]
    caption = (
        "S: the surrogate. R flipped: adversarials that follow R's gradient with its sign turned. "
        "–: no image to count, n = 0."
    )
    return table(("transfer", *DENOMINATORS), rows, caption=caption, strong=strong)


def _cell(rate: Rate) -> Markup:
    if rate["rate"] is None:
        return Markup("–")
    return percent(rate["rate"], rate["low"], rate["high"], rate["n"])


def _stacked(rate: Rate) -> Markup:
    """A rate with its interval below, so that a wide table stays readable."""
    low, high = rate["low"], rate["high"]
    if low is None or high is None:
        return Markup("–")
    return Markup("{}<br><small>[{}, {}], n = {}</small>").format(
        percent(rate["rate"]),
        f"{100 * low:.1f}",
        f"{100 * high:.1f}",
        f"{rate['n']:,}",
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
    from matplotlib.figure import Figure

    tips, others = {}, present(nets)[1:]
    with house_style():
        drawing = Figure(figsize=(10, 3.3), layout="constrained")
        panels = drawing.subplots(1, len(SOURCES), sharey=True)
        for axes, (source, title) in zip(panels, SOURCES.items(), strict=True):
            for row, name in enumerate(others):
                for shift, kind in zip((-0.2, 0.06, 0.26), DENOMINATORS, strict=True):
                    rate = rate_of(compared_net(nets, name), source, kind)
                    gid = f"{source}-{name}-{kind}"
                    if _mark(axes, rate, row + shift, name, kind, gid):
                        tips[gid] = f"{SHOWN[name]}, {title}\n{kind}: {rate_text(rate)}"
            axes.set(title=title, xlim=(-4, 104), xlabel="transfer (%)")
            axes.grid(axis="y", visible=False)
        panels[0].set_yticks(range(len(others)), [SHOWN[name] for name in others])
        panels[0].set_ylim(len(others) - 0.4, -0.6)
        alt = "Transfer to each net from R, the surrogate and R's flipped gradient, and to R"
        return svg(drawing, alt=alt, tips=tips)


def _mark(axes: Any, rate: Rate, y: float, name: str, kind: str, gid: str) -> bool:
    """A dot with its interval, quieter unless it is the headline's; return whether there is one."""
    middle, low, high = rate["rate"], rate["low"], rate["high"]
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
