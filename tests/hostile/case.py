"""One case of the attack: what lies where, which command is given, and how it may end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.hostile.fixtures import made

REFUSED = (2,)
EITHER = (0, 2)


Send = Callable[[int], None]
"""Sends a signal to the command of a case; raises `ProcessLookupError` when it has ended."""


@dataclass(frozen=True)
class Place:
    """Where a case happens.

    The command runs in the folder `here`. `outside` is a folder whose files nothing may touch,
    `precious.txt` and `precious.jsonl` among them. `runs` holds finished runs, made when they are
    asked for.
    """

    here: Path
    outside: Path
    runs: Path

    def run(self, kind: str) -> Path:
        """Return the folder of the finished run `kind`, never to be changed."""
        return made(self.runs, kind)

    def copy(self, kind: str, name: str | None = None) -> Path:
        """Copy the finished run `kind` to this place, for the case to change; returns its path."""
        return Path(shutil.copytree(self.run(kind), self.here / (name or kind)))

    def unfinished(self, kind: str, name: str | None = None) -> Path:
        """Copy it without its summary, as if it had been killed before it wrote one."""
        path = self.copy(kind, name)
        (path / "summary.json").unlink()
        return path

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file at this place; returns its path."""
        path = self.here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path


@dataclass(frozen=True)
class Ending:
    """How a command ended: exit code, None if it had to be killed, and what it wrote."""

    code: int | None
    out: str
    err: str
    seconds: float


@dataclass(frozen=True)
class Case:
    """One command in one situation.

    `prepare` makes what the case needs and returns the command's arguments; `before` runs in the
    child just before the command (limits, closed streams); `after` returns a complaint about what
    is left, or nothing; `during` runs beside the command, to which it can send signals. One that is
    `fresh` begins in a new interpreter, for what only that looks at. `ends` are the exit codes that
    are right; it may take `seconds` and `memory` bytes more address space than the tests
    themselves. A `mute` one can write nothing to stderr, so that no line is asked of it.
    """

    name: str
    prepare: Callable[[Place], Sequence[str]]
    ends: tuple[int, ...] = REFUSED
    seconds: float = 60.0
    memory: int = 4 * 2**30
    env: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[Place], None] | None = None
    during: Callable[[Place, Send], None] | None = None
    fresh: bool = False
    mute: bool = False
    after: Callable[[Place, Ending], str | None] | None = None
    says: str = ""  # what the line of a refusal holds
