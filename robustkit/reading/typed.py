"""Paths as people type them: in an option, a spec, a configuration."""

from __future__ import annotations

import os
from pathlib import Path

from robustkit.errors import RobustkitError
from robustkit.reading.bounded import reason
from robustkit.reading.printable import printable

_SHOWN = 80  # characters of a path that no file system takes


def typed_path(text: Path | str, *, error: type[RobustkitError]) -> Path:
    """Return the path that somebody typed, with `~` and `~user` at its start spelt out.

    There need not be anything at it. Raises `error` for no path at all, a user who has no home
    here, and what no file system takes: a NUL byte, or more characters than a name may have.
    """
    told = str(text)
    if not told:
        raise error("a path is empty")
    try:
        path = Path(told).expanduser()
    except RuntimeError:
        raise error(f"{_shown(told)}: no user {_shown(told.partition('/')[0])[1:]} here") from None
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return path  # which whoever opens it tells in its own words
    except (OSError, ValueError) as failure:
        raise error(f"{_shown(told)}: {reason(failure)}") from None
    return path


def _shown(text: str) -> str:
    return printable(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
