"""Images that a repair mended and broke, with what the model said of them."""

from __future__ import annotations

from markupsafe import Markup
from torch import Tensor

from experiments.pictures import picture
from experiments.repair.examples import KINDS, load_examples
from experiments.repair.result import Summary
from robustkit.data import to_unit
from robustkit.runs import RunFolder
from robustkit.runs.report import Section, image_uri

SIDE = 84  # pixels of the page


def gallery_section(folder: RunFolder, summary: Summary) -> Section:
    """The first images repaired, and the first broken."""
    kept, classes = load_examples(folder)
    totals = {
        "repaired": len(summary["repaired_indices"]),
        "broken": len(summary["broken_indices"]),
    }
    html = Markup()
    for kind in KINDS:
        shown, total = len(kept[f"{kind}.index"]), totals[kind]
        html += Markup("<h3>{}</h3>").format(f"{kind.capitalize()}: {shown} of {total:,}")
        html += _images(kept, kind, classes) if shown else Markup("<p>None.</p>")
    note = "Their class, and what the model said before and after."
    return Section("images", "Images", html, note)


def _images(kept: dict[str, Tensor], kind: str, classes: list[str]) -> Markup:
    figures = Markup()
    for row in range(len(kept[f"{kind}.index"])):
        pixels = picture(to_unit(kept[f"{kind}.image"][row]))
        true, before, after = (
            classes[int(kept[f"{kind}.{name}"][row])] for name in ("labels", "before", "after")
        )
        scale = max(1, round(2 * SIDE / max(pixels.shape[:2])))
        figures += Markup(
            '<div style="width:{}px">'
            '<img src="{}" alt="{}" width="{}" height="{}" style="display:block">'
            "<small><b>{}</b><br>{} → {}<br>image {}</small></div>"
        ).format(
            SIDE + 24,
            image_uri(pixels, scale),
            true,
            SIDE,
            SIDE,
            true,
            before,
            after,
            int(kept[f"{kind}.index"][row]),
        )
    return Markup('<div style="display:flex;flex-wrap:wrap;gap:12px">{}</div>').format(figures)
