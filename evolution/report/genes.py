"""Rank correlations of genes with transfer, accuracy and orthogonal gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from evolution import GeneEffect, gene_effects
from evolution.report.comparison import BLUE, ORANGE
from evolution.report.run_data import PRESET, CandidateTrial, Evidence, distinct
from robustkit.report import Section, chart, figure, svg, table

METRICS = {"transfer": "transfer from R", "accuracy": "accuracy", "cos_abs": "|cos| with R"}
SHOWN = 14  # features in the chart; the table has them all
Feature = tuple[str, str]
Sample = dict[tuple[str, Feature], GeneEffect]


def genes_section(evidence: Evidence) -> Section:
    """Return rank correlations of genes with measures, over all networks and the sampled ones.

    The networks that random search sampled are shown on their own as well: neither selection nor
    a design has made their genes travel together.
    """
    sampled = [
        trial for trial in evidence.trials_of("random") if trial.candidate.operator != PRESET
    ]
    samples = {
        "all networks": _sample(evidence.trials),
        "random search only": _sample(sampled),
    }
    note = (
        "Spearman's rank correlation with 95 % bootstrap intervals. These are associations within "
        "one search, not causes: selection makes genes travel together, and of a hundred such "
        "intervals about five miss zero by chance. What stands out is a hypothesis for an ablation."
    )
    everything = samples["all networks"]
    if not everything:
        few = "Too few different networks were evaluated to correlate genes (8 are needed)."
        return Section("genes", "Genes and measures", Markup(f"<p>{few}</p>"), note)
    features = _strongest(everything)
    caption = (
        "Left of zero: more of the gene goes with less of the measure. For transfer and |cos| that "
        "is the better side, for accuracy the worse. Features ordered by their correlation with "
        f"transfer; the {len(features)} strongest in any measure are drawn."
    )
    details = Markup("<details><summary>All correlations as a table</summary>{}</details>")
    html = figure(_drawn(samples, features), caption) + details.format(_table(everything))
    return Section("genes", "Genes and measures", html, note)


def _sample(trials: Sequence[CandidateTrial]) -> Sample:
    networks = [
        (group[0].candidate.genotype, {name: group[0].value(name) for name in METRICS})
        for group in distinct([trial for trial in trials if trial.result is not None])
        if group[0].result is not None
    ]
    effects = gene_effects(networks, tuple(METRICS))
    return {(effect.metric, (effect.gene, effect.value)): effect for effect in effects}


def _strongest(sample: Sample) -> list[Feature]:
    """Return the features drawn, in the order of their correlation with transfer."""
    strength: dict[Feature, float] = {}
    for (_, feature), effect in sample.items():
        strength[feature] = max(strength.get(feature, 0.0), abs(effect.effect))
    strongest = sorted(strength, key=lambda feature: (-strength[feature], feature))[:SHOWN]

    def transfer(feature: Feature) -> float:
        effect = sample.get(("transfer", feature))
        return effect.effect if effect else 0.0

    return sorted(strongest, key=lambda feature: (transfer(feature), feature))


def _drawn(samples: dict[str, Sample], features: Sequence[Feature]) -> Markup:

    tips: dict[str, str] = {}
    with chart(10, 1.5 + 0.31 * len(features)) as drawing:
        panels = drawing.subplots(1, len(METRICS), sharey=True)
        for axes, (metric, title) in zip(panels, METRICS.items(), strict=True):
            axes.axvline(0, color="#000000", linewidth=0.8, alpha=0.6)
            for index, (name, sample) in enumerate(samples.items()):
                _column(axes, sample, features, metric, index, name, tips)
            axes.set(title=title, xlim=(-1.05, 1.05), xlabel="rank correlation")
            axes.grid(axis="y", visible=False)
        panels[0].set_yticks(range(len(features)), [_named(feature) for feature in features])
        panels[0].set_ylim(len(features) - 0.4, -0.6)
        handles, labels = panels[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=2)
        return svg(drawing, alt="Rank correlations of genes with three measures", tips=tips)


def _column(
    axes: Any,
    sample: Sample,
    features: Sequence[Feature],
    metric: str,
    index: int,
    name: str,
    tips: dict[str, str],
) -> None:
    """Draw one sample's dots and intervals in one panel; the second sample is drawn below, open."""
    colour = (BLUE, ORANGE)[index]
    label: str | None = name
    for row, feature in enumerate(features):
        effect = sample.get((metric, feature))
        if effect is None:
            continue
        y = row + (-0.14, 0.18)[index]
        axes.plot([effect.low, effect.high], [y, y], color=colour, lw=1.6 - 0.5 * index)
        (dot,) = axes.plot(
            [effect.effect],
            [y],
            "os"[index],
            color=colour,
            markersize=(6, 4)[index],
            markerfacecolor=(colour, "#ffffff")[index],
            label=f"{label}, n = {effect.n}" if label else None,
        )
        label = None
        gid = f"gene-{index}-{metric}-{feature[0]}-{feature[1]}"
        dot.set_gid(gid)
        tips[gid] = f"{_named(feature)} and {METRICS[metric]}, {name}\n{_said(effect)}"


def _named(feature: Feature) -> str:
    gene, value = feature
    return {
        "count": f"number of {gene}",
        "mean": f"mean {gene}" + (" size" if gene == "kernel" else ""),
        "hidden": "width of hidden layer",
        "flatten": "flattening head",
    }.get(value, f"{gene}: {value.replace('_', ' ')}")


def _said(effect: GeneEffect) -> str:
    return f"ρ = {effect.effect:+.2f} [{effect.low:+.2f}, {effect.high:+.2f}], n = {effect.n}"


def _table(sample: Sample) -> Markup:
    features = sorted({feature for _, feature in sample})
    rows = []
    for feature in features:
        cells = []
        for metric in METRICS:
            effect = sample.get((metric, feature))
            cells.append(
                "–"
                if effect is None
                else Markup("{:+.2f} <small>[{:+.2f}, {:+.2f}], n = {}</small>").format(
                    effect.effect, effect.low, effect.high, effect.n
                )
            )
        rows.append((_named(feature), *cells))
    return table(("gene", *METRICS.values()), rows)
