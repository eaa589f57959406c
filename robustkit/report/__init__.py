"""Reports: one HTML file that needs no network, made of sections, figures, tables and images.

A command builds its sections with the helpers here and calls `write_page`; matplotlib is imported
only when a figure is drawn.
"""

from robustkit.report.charts import PALETTE, figure, house_style, image, image_uri, label, svg
from robustkit.report.page import Section, drawings, render_report, write_page
from robustkit.report.tables import Cell, cards, duration, estimate, number, percent, table

__all__ = [
    "PALETTE",
    "Cell",
    "Section",
    "cards",
    "drawings",
    "duration",
    "estimate",
    "figure",
    "house_style",
    "image",
    "image_uri",
    "label",
    "number",
    "percent",
    "render_report",
    "svg",
    "table",
    "write_page",
]
