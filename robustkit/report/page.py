"""The page of a report: its sections in the template that all commands share."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from robustkit.runs import RunFolder, write_text

# What is no character of a page, nor of a drawing taken out of it: controls, and halves of pairs.
_UNSHOWN = dict.fromkeys(
    (*range(9), 11, 12, *range(14, 32), *range(127, 160), *range(0xD800, 0xE000)), "\ufffd"
)


@dataclass(frozen=True)
class Section:
    """A part of a report: `id` for links to it, `html` its content, `note` what to look for."""

    id: str
    title: str
    html: Markup
    note: str = ""


def write_page(
    folder: RunFolder,
    title: str,
    sections: Sequence[Section],
    *,
    subtitle: str = "",
    facts: Mapping[str, str] | None = None,
) -> Path:
    """Write the report of a run, `report.html` in its folder, and return its path.

    `facts` are shown beside the run's environment. Raises `RunError` for a damaged `env.json`.
    """
    env = folder.env | dict(facts or {})
    page = render_report(title, sections, subtitle=subtitle, env=env, command=folder.argv)
    path = folder.file("report.html")
    write_text(path, page)
    return path


def render_report(
    title: str,
    sections: Sequence[Section],
    *,
    subtitle: str = "",
    env: Mapping[str, Any],
    command: Sequence[str],
) -> str:
    """Return the report as one HTML document, readable offline, in light and dark, and on paper.

    `env` is that of a run folder; it and the `command` that makes the run again are the last
    section. Everything but `Section.html` is escaped. Raises `ValueError` for a repeated id.
    """
    ids = [section.id for section in sections]
    if len({*ids, "again"}) != len(ids) + 1:
        raise ValueError(f"sections need ids of their own, other than 'again': {ids}")
    jinja = Environment(
        loader=PackageLoader("robustkit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page: str = jinja.get_template("base.html").render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        command=shlex.join(command),
        facts=list(_facts(env)),
    )
    return page.translate(_UNSHOWN)


def _facts(env: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield the environment as names and values, those of nested values beside the others."""
    for name, value in env.items():
        if isinstance(value, dict):
            yield from _facts(value)
        elif name != "command" and value is not None:
            yield name.replace("_", " "), str(value)


_SECTION = re.compile(r'<section id="([\w-]+)">(.*?)</section>', re.DOTALL)
_DRAWING = re.compile(r"<svg\b.*?</svg>", re.DOTALL)


def drawings(page: str) -> dict[str, str]:
    """Return every SVG drawing of a report, by the name of its section ("front", "genes-2", …).

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
