"""A mistake made on purpose: what it changes, and which tests have to notice."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


def of(file: str, *names: str) -> tuple[str, ...]:
    """The tests of `file` under tests/ that are called so: those that need no long training."""
    return tuple(f"tests/{file}::test_{name}" for name in names)


@dataclass(frozen=True)
class Mutant:
    """`old`, found exactly once in `file`, becomes `new`; then one of `tests` has to fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def mutated(self, source: str) -> str:
        """`source` with the mistake in it.

        Raises `ValueError` where `old` is not there exactly once, where the result is no Python,
        and where it is the same program.
        """
        times = source.count(self.old)
        if times != 1:
            raise ValueError(f"{self.name}: found {times} times in {self.file}, not once")
        made = source.replace(self.old, self.new)
        try:
            tree = ast.parse(made)
        except SyntaxError as error:
            raise ValueError(f"{self.name}: {self.file} is no Python any more: {error}") from None
        if ast.dump(tree) == ast.dump(ast.parse(source)):
            raise ValueError(f"{self.name}: the same program as before")
        return made
