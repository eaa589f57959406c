"""The page: every section in the order in which a reader asks."""

from __future__ import annotations

from pathlib import Path

from experiments.evolve.report.checks import checks_section
from experiments.evolve.report.comparison import comparison_section
from experiments.evolve.report.curves import curves_section
from experiments.evolve.report.evidence import Evidence, read_evidence
from experiments.evolve.report.family import family_section
from experiments.evolve.report.gallery import gallery_section
from experiments.evolve.report.genes import genes_section
from experiments.evolve.report.graph import graph_section
from experiments.evolve.report.guide import reading_section, selection_section, settings_section
from experiments.evolve.report.headline import headline_section
from experiments.evolve.report.history import history_section
from experiments.evolve.report.outcomes import outcomes_section
from experiments.evolve.report.pareto import pareto_section
from experiments.evolve.report.words import plural, reference_name
from experiments.pages import eps_text
from robustkit.runs import RunFolder, write_text
from robustkit.runs.report import duration, render_report


def write_report(folder: RunFolder) -> Path:
    """Draw `report.html` of a finished run from its folder; returns its path.

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
    page = render_report(
        f"Evolution away from “{reference_name(evidence.config.reference)}” on {summary['data']}",
        sections,
        subtitle=_subtitle(evidence),
        env=folder.env | {"test data": f"sha256 {summary['data_digest']}"},
        command=folder.command,
    )
    path = folder.file("report.html")
    write_text(path, page)
    return path


def _subtitle(evidence: Evidence) -> str:
    config, summary = evidence.config, evidence.summary
    return (
        f"{config.strategy}, {plural(config.generations, 'generation')} of {config.population} "
        f"and as many random candidates; λ = {config.lam:g}, {config.attack} with "
        f"ε = {eps_text(config.eps)}; {plural(config.final_seeds, 'seed')}; "
        f"{duration(summary['seconds']['wall'])}"
    )
