"""What the tests read from Markdown: fenced blocks, commands, headings, links, tables."""

from __future__ import annotations

import ast
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("robustkit", "evolution", "adaptation", "experiments")
PAGES = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        ROOT / "experiments" / "results" / "README.md",
    ]
)
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@cache
def nodes() -> tuple[ast.AST, ...]:
    """Every node of the four packages' sources."""
    files = (file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    return tuple(node for file in files for node in ast.walk(ast.parse(file.read_text())))


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def fenced(text: str, *languages: str) -> list[str]:
    """The contents of fenced blocks in one of `languages`, "" being none."""
    return [body for language, body in _FENCE.findall(text) if language in languages]


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return _FENCE.sub("", text)


def commands(text: str) -> list[list[str]]:
    """The arguments of every `robustkit …` in a fenced block; an ellipsis is no argument."""
    found = []
    for block in fenced(text, "", "sh", "bash", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ")
            if line.startswith("robustkit "):
                words = shlex.split(line.partition(" > ")[0], comments=True)[1:]
                found.append([word for word in words if word != "…"])
    return found


def inline_commands(text: str) -> list[list[str]]:
    """The words of every `robustkit verb …` in the running text."""
    codes = (" ".join(code.split()) for code in _CODE.findall(prose(text)))
    return [code.split()[1:] for code in codes if re.match(r"robustkit [a-z]+", code)]


def headings(text: str) -> list[tuple[int, str]]:
    """Level and words of every heading."""
    found = re.findall(r"^(#{1,6}) +(.+?) *$", prose(text), re.MULTILINE)
    return [(len(marks), words) for marks, words in found]


def anchors(text: str) -> set[str]:
    """What the hosting site calls the headings of a page."""
    seen: Counter[str] = Counter()
    made = set()
    for _, words in headings(text):
        slug = re.sub(r"[^\w\- ]", "", _LINK.sub("", words).lower()).replace(" ", "-")
        made.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return made


def links(text: str) -> list[str]:
    """The targets of links and pictures that lead to files of ours."""
    found = _LINK.findall(_CODE.sub("", prose(text)))
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def summary_keys(text: str) -> Iterator[str]:
    """The keys in the first column of tables headed `summary.json`."""
    inside = False
    for line in prose(text).splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            inside = False
        elif cells[0] == "`summary.json`":
            inside = True
        elif inside:
            yield from _CODE.findall(cells[0])
