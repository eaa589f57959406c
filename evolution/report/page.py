"""The page of an evolution's report: its sections in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from msgspec import UnsetType

from evolution.protocol.result import Summary
from evolution.report.comparison import MEANINGS, SHOWN, checks_section, comparison_section
from evolution.report.format import compact, plural, reference_name, share
from evolution.report.gallery import gallery_section
from evolution.report.genes import genes_section
from evolution.report.graph import graph_section
from evolution.report.headline import headline_section
from evolution.report.history import curves_section, history_section
from evolution.report.lineage import family_section
from evolution.report.outcomes import outcomes_section
from evolution.report.pareto import pareto_section
from evolution.report.run_data import Evidence, read_evidence
from robustkit.report import Section, duration, eps_text, number, table, write_page
from robustkit.runs import RunFolder

READING = (
    (
        "headline",
        "of the images that every training of every net classifies correctly when clean: one "
        "common set, so that differences between nets are paired. The gap is on this set",
    ),
    (
        "fooling",
        "of those images whose adversarial fools the net it was made on: how far a success "
        "carries over. Empty (n = 0) where the source is never fooled, as with a flipped gradient",
    ),
    (
        "all",
        "of all test images, also those that a net gets wrong without any attack: what a user of "
        "the net would see. Cannot fall below the clean error by much",
    ),
)

TRANSFER = (
    "T(S→M), the transfer from S to M, is the share of adversarials made on S alone, at fixed ε "
    "and never stopped early, that M gets wrong. It is a share of three sets:",
)
REST = (
    "White-box accuracy is the share of all test images that a net gets right both clean and under "
    "its own adversarials. An adversarial from R's flipped gradient steps the other way: a net "
    "whose gradient is minus R's would fall for it.",
    "Intervals are Wilson's, over images. The gap's resamples images and trainings together; its "
    "p-value is the largest of McNemar's over pairs of trainings.",
    "The nets:",
)


def selection_section(evidence: Evidence) -> Section:
    """Return the rule, what it selected, and from how many."""
    selections = evidence.summary.selection
    rows = []
    for role, selection in (("E", selections.E), ("RS", selections.RS)):
        validation = selection.validation
        rows.append(
            (
                SHOWN[role],
                f"candidate {selection.number}",
                f"{selection.considered}",
                share(validation.accuracy),
                share(validation.transfer),
                f"{validation.cos_abs:.3f}",
                compact(validation.macs),
                selection.key,
            )
        )
    headers = (
        "net",
        "selected",
        "out of",
        "accuracy",
        "transfer from R",
        "|cos|",
        "MACs",
        "key of the architecture",
    )
    html = Markup("<p>The rule: {}.</p>").format(selections.E.rule)
    if selections.RS.rule != selections.E.rule:
        html += Markup("<p>For RS: {}.</p>").format(selections.RS.rule)
    html += table(headers, rows, caption="On validation, which the rule saw. It saw no test image.")
    return Section("selection", "Selection", html)


def reading_section(summary: Summary) -> Section:
    """Return what the roles are and what a transfer rate is a share of."""
    terms = [(SHOWN[name], MEANINGS[name]) for name in summary.nets.roles]
    terms.append(("S", "a surrogate that took no part in any penalty, and attacks all others"))
    html = [*_paragraphs(TRANSFER), _terms(READING), *_paragraphs(REST), _terms(terms)]
    return Section("reading", "How to read the results", Markup("\n").join(html))


def settings_section(config: Mapping[str, object]) -> Section:
    """Return every setting."""
    rows = [(name, _value(value)) for name, value in config.items()]
    whole = Markup("<details><summary>All settings</summary>{}</details>")
    return Section("settings", "Settings", whole.format(table(("option", "value"), rows)))


def _paragraphs(texts: Sequence[str]) -> list[Markup]:
    return [Markup("<p>{}</p>").format(paragraph) for paragraph in texts]


def _terms(terms: Iterable[tuple[str, str]]) -> Markup:
    item = Markup("<li><b>{}</b>: {}.</li>")
    return Markup("<ul>{}</ul>").format(Markup().join(item.format(*term) for term in terms))


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else number(value)


def write_report(folder: RunFolder) -> Path:
    """Draw `report.html` of a finished run from its folder; return its path.

    Raises `RunError` when the run has not finished, or its ledger or gallery is damaged.
    """
    evidence = read_evidence(folder)
    summary = evidence.summary
    sections = [
        headline_section(summary),
        comparison_section(summary),
        checks_section(summary),
        gallery_section(evidence),
        history_section(evidence),
        pareto_section(evidence),
        graph_section(evidence),
        family_section(evidence),
        genes_section(evidence),
        selection_section(evidence),
        curves_section(evidence),
        outcomes_section(evidence),
        reading_section(summary),
        settings_section(folder.config),
    ]
    references = " and ".join(map(reference_name, evidence.config.reference))
    return write_page(
        folder,
        f"Evolution away from “{references}” on {summary.data}",
        sections,
        subtitle=_subtitle(evidence),
        facts={"test data": f"sha256 {summary.data_digest}"},
    )


def _subtitle(evidence: Evidence) -> str:
    config, summary = evidence.config, evidence.summary
    penalty = summary.penalty
    lam = config.lams[0] if isinstance(penalty, UnsetType) else penalty.lam
    return (
        f"{config.strategy}, {plural(config.generations, 'generation')} of {config.population} "
        f"and as many random candidates; λ = {lam:g}, {config.attack} with "
        f"ε = {eps_text(config.eps)}; {plural(config.final_seeds, 'seed')}; "
        f"{duration(summary.seconds['wall'])}"
    )
