"""Boxes and lines as SVG that follows the page's colours: for graphs and family trees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape


def sketch(width: float, height: float, parts: Iterable[Markup], *, alt: str) -> Markup:
    """A drawing of `width` × `height` pixels; a wide one keeps its size and can be scrolled."""
    head = Markup(
        '<svg role="img" aria-label="{}" width="{:.0f}" height="{:.0f}" '
        'viewBox="0 0 {:.0f} {:.0f}" style="max-width:none" font-size="12">'
    )
    opened = head.format(alt, width, height, width, height)
    return opened + Markup().join(parts) + Markup("</svg>")


def box(
    x: float,
    y: float,
    width: float,
    height: float,
    lines: Sequence[str],
    *,
    tip: str = "",
    colour: str = "var(--line)",
    strong: bool = False,
) -> Markup:
    """A rounded box with its lines of text centred, the first one bold; `tip` as in `svg`."""
    shape = Markup(
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="7" '
        'fill="var(--raised)" stroke="{}" stroke-width="{}"/>'
    ).format(x, y, width, height, colour, 2 if strong else 1)
    step = 15.5
    top = y + height / 2 - step * (len(lines) - 1) / 2 + 4
    texts = [
        text(x + width / 2, top + step * row, line, bold=row == 0, quiet=row > 0)
        for row, line in enumerate(lines)
    ]
    said = str(escape(tip)).replace("\n", "&#10;")
    opened = Markup(f'<g data-tip="{said}" tabindex="0">') if tip else Markup("<g>")
    return opened + shape + Markup().join(texts) + Markup("</g>")


def text(
    x: float,
    y: float,
    line: str,
    *,
    bold: bool = False,
    quiet: bool = False,
    anchor: str = "middle",
    size: float = 12,
) -> Markup:
    """One line of text."""
    weight, opacity = (600 if bold else 400), (0.68 if quiet else 1)
    shown = size - 1 if quiet else size
    return Markup(
        '<text x="{:.1f}" y="{:.1f}" text-anchor="{}" font-size="{}" font-weight="{}" '
        'opacity="{}">{}</text>'
    ).format(x, y, anchor, shown, weight, opacity, line)


def path(curve: str, *, colour: str = "currentColor", opacity: float = 0.45) -> Markup:
    """A line along `curve`, an SVG path of numbers of our own making."""
    return Markup('<path d="{}" fill="none" stroke="{}" opacity="{}" stroke-width="1.4"/>').format(
        curve, colour, opacity
    )


def arrowhead(x: float, y: float, *, pointing: str = "down") -> Markup:
    """A small filled head whose tip is at (x, y), pointing down or left."""
    corners = {
        "down": f"{x - 4:.1f},{y - 7:.1f} {x + 4:.1f},{y - 7:.1f}",
        "left": f"{x + 7:.1f},{y - 4:.1f} {x + 7:.1f},{y + 4:.1f}",
    }[pointing]
    return Markup('<polygon points="{:.1f},{:.1f} {}" fill="currentColor" opacity="0.6"/>').format(
        x, y, corners
    )
