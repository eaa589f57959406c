"""Figures and images that live inside the page."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

from robustkit.reading import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = ("#3b7dd8", "#e07b39", "#2f9e77", "#c8506b", "#8a6cc4", "#8b9099")
"""Colours that can be told apart on light and dark ground: blue, orange, green, red, violet, grey.
"""


LONGEST = 80  # letters of a name in a figure: more than the page is wide


@contextmanager
def chart(width: float, height: float) -> Iterator[Figure]:
    """Give a new matplotlib figure, in inches, to be drawn in the report's style in the block."""
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib.figure import Figure

    style: Any = {
        "axes.prop_cycle": cycler(color=PALETTE),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.7,
        "axes.titlesize": 10.5,
        "axes.titlelocation": "left",
        "axes.titlepad": 10,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": PALETTE[-1],
        "grid.alpha": 0.22,
        "grid.linewidth": 0.6,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "font.size": 9.5,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "lines.markersize": 5,
    }
    with mpl.rc_context(style):
        yield Figure(figsize=(width, height), layout="constrained")


def svg(figure: Figure, *, alt: str, tips: Mapping[str, str] | None = None) -> Markup:
    """A matplotlib figure as inline SVG, the same bytes every time.

    Text stays text. Black and white follow the page's colours, so that figures fit light and dark.
    `alt` says what is seen. `tips` maps the gid of an artist (`artist.set_gid`) to a text that
    appears when a reader points at it, touches it or tabs to it; newlines are kept. Raises
    `ValueError` for a tip whose gid is not in the figure.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with (
        mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "robustkit"}),
        warnings.catch_warnings(),
    ):
        # Text stays text: whoever looks at it has a font for it, or sees that there is none.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        # Nor is it news that long names leave little room: the drawing is as large as it has to be.
        warnings.filterwarnings("ignore", "constrained_layout not applied")
        figure.savefig(
            buffer, format="svg", transparent=True, bbox_inches="tight", metadata=nothing
        )
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = drawn.replace("#000000", "currentColor").replace("#ffffff", "var(--ground, #fff)")
    drawn = _with_tips(drawn, tips or {})
    role = f'<svg role="img" aria-label="{escape(alt)}"'
    return Markup(role + _with_own_ids(drawn).removeprefix("<svg"))


def _with_tips(drawn: str, tips: Mapping[str, str]) -> str:
    shown = {gid: str(escape(tip)).replace("\n", "&#10;") for gid, tip in tips.items()}
    missing = shown.keys() - set(re.findall(r'id="([^"]*)"', drawn))
    if missing:
        raise ValueError(f"no artist of the figure has the gid '{min(missing)}'")

    def tipped(match: re.Match[str]) -> str:
        tip = shown.get(match[1])
        return match[0] if tip is None else f'{match[0]} data-tip="{tip}" tabindex="0"'

    return re.sub(r'id="([^"]*)"', tipped, drawn) if shown else drawn


def label(text: str) -> str:
    """A text for a figure as it is, in one line: what is longer than 80 letters is shortened.

    matplotlib would read `$…$` as mathematics, and hide `_…`.
    """
    told = printable(text)
    if len(told) > LONGEST:
        told = f"{told[: LONGEST // 2]}…{told[1 - LONGEST // 2 :]}"
    return ("\u200b" if told.startswith("_") else "") + told.replace("$", r"\$")


def image_uri(image: np.ndarray[Any, Any], scale: int = 1) -> str:
    """An image as a PNG inside a data URI, every pixel drawn as `scale` × `scale` pixels.

    `image` is uint8 of shape (H, W), (H, W, 1) or (H, W, 3). Raises `ValueError` otherwise.
    """
    from PIL import Image

    grey = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1)
    if image.dtype != np.uint8 or not (grey or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(
            f"an image is uint8 (H, W) or (H, W, 1 or 3), not {image.dtype} {image.shape}"
        )
    pixels = image.reshape(image.shape[:2]) if grey else image
    enlarged = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(enlarged).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def image(pixels: np.ndarray[Any, Any], *, scale: int = 1, alt: str) -> Markup:
    """An image element of `pixels`; see `image_uri`. `alt` says what is seen."""
    return Markup('<img src="{}" alt="{}">').format(image_uri(pixels, scale), alt)


def figure(content: Markup, caption: str = "") -> Markup:
    """A figure with its caption; ten inches of matplotlib are the width of the page."""
    inside = Markup('<div class="scroll">{}</div>').format(content)
    below = Markup("<figcaption>{}</figcaption>").format(caption) if caption else Markup()
    return Markup("<figure>") + inside + below + Markup("</figure>")


def _with_own_ids(drawn: str) -> str:
    """The drawing with ids that no other drawing of the page has: all start with its hash."""
    prefix = "f" + hashlib.sha256(drawn.encode()).hexdigest()[:10] + "-"
    drawn = re.sub(r'\bid="', f'id="{prefix}', drawn)
    return re.sub(r'(url\(|href=")#', rf"\1#{prefix}", drawn)
