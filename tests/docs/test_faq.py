"""Messages quoted in the FAQ are those that the code can print."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.docs.reading import ROOT, fenced, nodes

MESSAGES = [line for block in fenced((ROOT / "docs" / "faq.md").read_text(), "text")
            for line in block.splitlines()]  # fmt: skip
LEAST_FIXED = 15  # characters of a message that no value fills in: below that anything would match


@cache
def templates() -> tuple[re.Pattern[str], ...]:
    """Every text and f-string of the sources that has enough of its own, as a pattern."""
    made = (_pattern(node) for node in nodes())
    return tuple(re.compile(pattern) for pattern in made if pattern is not None)


def _pattern(node: ast.AST) -> str | None:
    values = node.values if isinstance(node, ast.JoinedStr) else [node]
    parts, fixed = "", 0
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            text = " ".join(f"x{value.value}x".split())[1:-1]
            parts, fixed = parts + re.escape(text), fixed + len(text)
        elif isinstance(value, ast.FormattedValue):
            parts += ".*"
        else:
            return None
    return parts if fixed >= LEAST_FIXED else None


def test_there_are_messages() -> None:
    assert len(MESSAGES) >= 25


@pytest.mark.parametrize("message", MESSAGES)
def test_the_code_says_so(message: str) -> None:
    said = message.removeprefix("robustkit: error: ")
    # A loader may put the data's name before what a part of it says.
    forms = (said, said.partition(": ")[2])
    in_code = any(pattern.fullmatch(form) for pattern in templates() for form in forms)
    assert in_code or said in (ROOT / "Makefile").read_text()
