"""The drawings of a finished report as files of their own."""

from __future__ import annotations

import re

_SECTION = re.compile(r'<section id="([\w-]+)">(.*?)</section>', re.DOTALL)
_DRAWING = re.compile(r"<svg\b.*?</svg>", re.DOTALL)


def drawings(page: str) -> dict[str, str]:
    """Every SVG drawing of a report, by the name of its section ("front", "genes-2", …).

    `page` is the report's HTML. The drawings stand on white and need nothing of the page; images
    made of pixels are not among them.
    """
    found: dict[str, str] = {}
    for section, content in _SECTION.findall(page):
        for number, drawing in enumerate(_DRAWING.findall(content), start=1):
            name = section if number == 1 else f"{section}-{number}"
            found[name] = _alone(drawing)
    return found


def _alone(drawing: str) -> str:
    opaque = drawing.replace("var(--ground, #fff)", "#fff")
    opened = re.sub(r"^<svg\b", '<svg style="color:#111;background:#fff"', opaque)
    if "xmlns=" not in opened.partition(">")[0]:
        opened = re.sub(r"^<svg\b", '<svg xmlns="http://www.w3.org/2000/svg"', opened)
    return opened + "\n"
