"""The selected architectures as graphs: blocks from the image down to the logits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from evolution import Genotype
from evolution.report.comparison import BLUE, COLOURS
from evolution.report.format import (
    block_name,
    block_size,
    block_style,
    head_lines,
    measures_text,
    plural,
)
from evolution.report.run_data import Evidence
from robustkit.models.blueprint import Maps, Wiring, wire
from robustkit.report import Section, figure


def sketch(width: float, height: float, parts: Iterable[Markup], *, alt: str) -> Markup:
    """Return a drawing of `width` × `height` pixels; a wide one can be scrolled."""
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
    """Return a rounded box with centred lines of text, the first bold; `tip` as in `svg`."""
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
    title = str(escape(tip)).replace("\n", "&#10;")
    opened = Markup(f'<g data-tip="{title}" tabindex="0">') if tip else Markup("<g>")
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
    """Return one line of text."""
    weight, opacity = (600 if bold else 400), (0.68 if quiet else 1)
    shown = size - 1 if quiet else size
    return Markup(
        '<text x="{:.1f}" y="{:.1f}" text-anchor="{}" font-size="{}" font-weight="{}" '
        'opacity="{}">{}</text>'
    ).format(x, y, anchor, shown, weight, opacity, line)


def path(curve: str, *, colour: str = "currentColor", opacity: float = 0.45) -> Markup:
    """Return a line along `curve`, an SVG path of numbers."""
    return Markup('<path d="{}" fill="none" stroke="{}" opacity="{}" stroke-width="1.4"/>').format(
        curve, colour, opacity
    )


def arrowhead(x: float, y: float, *, pointing: str = "down") -> Markup:
    """Return a small filled head whose tip is at (x, y), pointing down or left."""
    corners = {
        "down": f"{x - 4:.1f},{y - 7:.1f} {x + 4:.1f},{y - 7:.1f}",
        "left": f"{x + 7:.1f},{y - 4:.1f} {x + 7:.1f},{y + 4:.1f}",
    }[pointing]
    return Markup('<polygon points="{:.1f},{:.1f} {}" fill="currentColor" opacity="0.6"/>').format(
        x, y, corners
    )


LEFT, WIDE, HIGH, GAP = 96, 212, 60, 40  # the shapes' column, a box, the space between boxes
IMAGE = 30  # height of the image's box
PILL = 17  # height of the label that says how inputs are merged
TOP = 34


def graph_section(evidence: Evidence) -> Section:
    """Return the graph of E and, where it is another one, of RS."""
    channels, side = evidence.gallery.clean.shape[1:3]
    shape = Maps(int(channels), int(side))
    evolved, sampled = evidence.selected("E"), evidence.selected("RS")
    drawings = [_labelled(evolved.candidate.genotype, shape, "E, evolved", COLOURS["E"])]
    note = "E0 is the same architecture trained without the penalty."
    if sampled.key == evolved.key:
        note += " The random search selected this architecture as well."
    else:
        drawings.append(
            _labelled(sampled.candidate.genotype, shape, "RS, random search", COLOURS["RS"])
        )
    row = Markup(
        '<div style="display:flex;flex-wrap:wrap;align-items:flex-start;gap:1.5rem">{}</div>'
    )
    caption = (
        "Blocks with weights show kernel, channels and stride, then normalisation and activation; "
        "beside each, its maps as channels × height × width. Where several blocks feed one, a "
        "label says how they are merged; curves on the right skip blocks."
    )
    html = figure(row.format(Markup().join(drawings)), caption)
    measured = "" if evolved.result is None else measures_text(evolved.result).replace("\n", ", ")
    if measured:
        html += Markup("<p><small>E as a trial, on validation: {}.</small></p>").format(measured)
    return Section("graph", "The architecture of E", html, note)


def _labelled(genotype: Genotype, shape: Maps, title: str, colour: str) -> Markup:
    blueprint = genotype.blueprint()
    nodes = wire(blueprint, shape.channels, shape.side)
    rows = {0: 0} | {wiring.node: row for row, wiring in enumerate(nodes, start=1)}
    longest = max(rows[w.node] - rows[s] for w in nodes for s in w.block.inputs)
    width = LEFT + WIDE + (_bulge(longest) + 8 if longest > 1 else 8)
    height = _y(len(nodes) + 2) + 4
    parts = [text(LEFT + WIDE / 2, 16, title, bold=True)]
    parts += [edge for wiring in nodes for edge in _edges(wiring, rows)]
    parts.append(_down(len(nodes), _y(len(nodes) + 1)))
    parts.append(box(LEFT, _y(0), WIDE, IMAGE, ["image"]))
    parts.append(_shape(0, shape))
    for row, wiring in enumerate(nodes, start=1):
        parts += [_node(row, wiring, colour), _shape(row, wiring.out)]
    parts.append(box(LEFT, _y(len(nodes) + 1), WIDE, HIGH, ["head", *head_lines(blueprint.head)]))
    alt = f"{title}: {plural(len(nodes), 'block')} from the image to the logits"
    return sketch(width, height, parts, alt=alt)


def _y(row: int) -> float:
    """Return the upper edge of a row's box; that of the image, row 0, is less high."""
    return TOP if row == 0 else TOP + IMAGE + GAP + (row - 1) * (HIGH + GAP)


def _bottom(row: int) -> float:
    return _y(row) + (IMAGE if row == 0 else HIGH)


def _bulge(span: int) -> float:
    """Return how far a curve over `span` rows extends to the side."""
    return 18 + 15 * span


def _node(row: int, wiring: Wiring, colour: str) -> Markup:
    block = wiring.block
    texts = (block_name(block), block_size(block), block_style(block))
    lines = [line for line in texts if line]
    fed = ", ".join("the image" if source == 0 else f"block {source}" for source in block.inputs)
    tip = f"block {wiring.node}: {' · '.join(lines)}\nfed by {fed}"
    if len(block.inputs) > 1:
        tip += f", {'added' if block.merge == 'add' else 'concatenated'}"
        if len({source.side for source in wiring.sources}) > 1:
            tip += f"\nlarger maps are pooled to {wiring.joined.side} × {wiring.joined.side} first"
        if block.merge == "add" and len({source.channels for source in wiring.sources}) > 1:
            tip += f"\n1×1 adapters bring them to {wiring.joined.channels} channels"
    edge = colour if block.kind not in ("pool", "identity") else "var(--line)"
    drawn = box(LEFT, _y(row), WIDE, HIGH, lines, tip=tip, colour=edge)
    return drawn + (_pill(row, block.merge) if len(block.inputs) > 1 else Markup())


def _pill(row: int, merge: str) -> Markup:
    """Return the label that says how a row's inputs become one."""
    x, y = LEFT + WIDE / 2, _y(row) - PILL - 3
    shape = Markup(
        '<rect x="{:.1f}" y="{:.1f}" width="58" height="{}" rx="8.5" fill="{}"/>'
        '<text x="{:.1f}" y="{:.1f}" text-anchor="middle" font-size="11" font-weight="600" '
        'style="fill:#fff">{}</text>'
    )
    return shape.format(x - 29, y, PILL, BLUE, x, y + 12.3, merge)


def _edges(wiring: Wiring, rows: dict[int, int]) -> list[Markup]:
    """Return the lines that reach a node: straight from the row above, curved from further up."""
    target = rows[wiring.node]
    merged = len(wiring.block.inputs) > 1
    end = _y(target) - (PILL + 3 if merged else 0)
    parts = []
    for source in (rows[index] for index in wiring.block.inputs):
        straight = target - source == 1
        parts.append(_down(source, end) if straight else _curve(source, target, merged))
    return parts


def _curve(source: int, target: int, merged: bool) -> Markup:
    """Return a curve from the right side of a box to a later one, or to its label of the merge."""
    side = LEFT + WIDE
    start = (_y(source) + _bottom(source)) / 2
    end_x: float = LEFT + WIDE / 2 + 29 if merged else side
    end_y = _y(target) + (-PILL / 2 - 3 if merged else HIGH / 2)
    out = side + _bulge(target - source) * 4 / 3
    line = path(
        f"M{side},{start:.1f} C{out:.1f},{start:.1f} {out:.1f},{end_y:.1f} {side},{end_y:.1f} "
        f"L{end_x + 6:.1f},{end_y:.1f}"
    )
    return line + arrowhead(end_x, end_y, pointing="left")


def _down(row: int, end: float) -> Markup:
    x = LEFT + WIDE / 2
    line = path(f"M{x},{_bottom(row):.1f} L{x},{end - 6:.1f}")
    return line + arrowhead(x, end)


def _shape(row: int, maps: Maps) -> Markup:
    middle = (_y(row) + _bottom(row)) / 2 + 4
    shown = f"{maps.channels} × {maps.side} × {maps.side}"
    return text(LEFT - 12, middle, shown, quiet=True, anchor="end")
