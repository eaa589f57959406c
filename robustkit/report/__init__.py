"""Reports: one HTML file that needs no network, made of sections, figures, tables and images.

A command builds its sections with the helpers here and calls `write_page`; matplotlib is imported
only when a figure is drawn.
"""

from robustkit.report.charts import PALETTE, chart, figure, image, image_uri, label, svg
from robustkit.report.format import (
    NOTHING,
    Cell,
    duration,
    eps_text,
    format_estimate,
    format_percent,
    number,
    percent,
    percent_of,
)
from robustkit.report.page import Section, drawings, render_report, write_page
from robustkit.report.tables import cards, markdown_table, table

__all__ = [
    "NOTHING",
    "PALETTE",
    "Cell",
    "Section",
    "cards",
    "chart",
    "drawings",
    "duration",
    "eps_text",
    "figure",
    "format_estimate",
    "format_percent",
    "image",
    "image_uri",
    "label",
    "markdown_table",
    "number",
    "percent",
    "percent_of",
    "render_report",
    "svg",
    "table",
    "write_page",
]
