"""Mistakes of the user, each explained in one line.

Every error of this tree ends at the command line as one line on stderr and exit code 2. Its
message says what was wrong, where, and what would be right. Anything else that is raised is a
bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RobustkitError(Exception):
    """Base of all errors that the user can fix."""


class ConfigError(RobustkitError):
    """An option, flag or configuration key that cannot be used."""


class DataError(RobustkitError):
    """Images, labels or splits that cannot be used."""


class ModelError(RobustkitError):
    """A model or model file that cannot be used."""


class AttackError(RobustkitError):
    """An attack, its parameters or its result that cannot be used."""


class RepairError(RobustkitError):
    """A repair that cannot be made, or a patch that cannot be used."""


class ExplainError(RobustkitError):
    """A layer, target or operation that cannot be explained."""


class RunError(RobustkitError):
    """A run folder, ledger or report that cannot be used."""


class DeviceError(RobustkitError):
    """A device or executor that is not there."""


LISTED, NEAREST = 60, 12


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return a hint for a misspelt `name`: the nearest of `options`, and the list of them.

    Of more than `LISTED` options the nearest ones are listed and the others counted. Returns a
    sentence fragment that starts with a semicolon, to be put at the end of a message.

    >>> did_you_mean("smal", ["small", "vgg3"])
    "; did you mean 'small'? (known: small, vgg3)"
    >>> did_you_mean("n7", [f"n{number}" for number in range(100)])[-14:]
    'and 88 others)'
    """
    known = sorted(options)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    if len(known) <= LISTED:
        return f"{hint} (known: {', '.join(known)})"
    nearest = difflib.get_close_matches(name, known, n=NEAREST, cutoff=0.0)
    others = len(known) - len(nearest)
    return f"{hint} (known: {', '.join(sorted(nearest))} and {others} others)"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; its type where it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
