"""Numbers as the field writes them: `0.03`, `1e-3` and `8/255`, none that would fill the memory."""

from __future__ import annotations

import os
import re
import unicodedata
from fractions import Fraction
from pathlib import Path

from robustkit.errors import RobustkitError
from robustkit.reading.files import reason

LONGEST = 100
"""Characters of a number."""
_LARGEST_EXPONENT = 400  # a float's is 308


def parse_real(value: str | float) -> float:
    """Return a number, or the fraction of two that a text writes.

    Raises `ValueError` for what is no finite number, and for one of more than 100 characters or
    with an exponent beyond 400: a fraction keeps every digit.

    >>> parse_real("8/255") == 8 / 255
    True
    """
    if isinstance(value, str):
        powers = re.findall(r"[eE][-+]?([0-9_]+)", value)
        if any(len(power) > LONGEST or int(power) > _LARGEST_EXPONENT for power in powers):
            raise ValueError(f"'{value[:50]}' is larger or smaller than any number of use here")
        if len(value) > LONGEST:
            raise ValueError(f"a number of {len(value):,} characters")
    try:
        return float(Fraction(value))
    except ZeroDivisionError:
        raise ValueError(f"division by zero in '{value}'") from None
    except OverflowError:  # an infinity, or more than a float holds
        raise ValueError(f"'{value}' is not a finite number") from None
    except (TypeError, ValueError):
        raise ValueError(f"expected a number or a fraction, not {printable(value)!r}") from None


# Control characters, format characters (which turn, hide or join letters), lone surrogates (bytes
# that are no UTF-8), and separators of lines and paragraphs.
_UNFIT = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d\u00ad"  # which words and signs of some scripts need


def printable(text: object) -> str:
    """Return `text` in one line, with whatever a terminal would act on spelt out.

    >>> printable("a\\x1b[2Jb\\ncafé")
    'a\\\\x1b[2Jb\\\\ncafé'
    """
    shown = str(text)
    if is_printable(shown):
        return shown
    return "".join(character if _is_fit(character) else _spelt(character) for character in shown)


def is_printable(text: str) -> bool:
    """Return whether `text` is one line of characters that only show."""
    return text.isprintable() or all(map(_is_fit, text))


def _is_fit(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) not in _UNFIT


def _spelt(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


_SHOWN = 80  # characters of a path that no file system takes


def typed_path(text: Path | str, *, error: type[RobustkitError]) -> Path:
    """Return the path that the user typed, with `~` and `~user` at its start spelt out.

    There need not be anything at it. Raises `error` for no path at all, a user who has no home
    here, and what no file system takes: a NUL byte, or more characters than a name may have.
    """
    typed = str(text)
    if not typed:
        raise error("a path is empty")
    try:
        path = Path(typed).expanduser()
    except RuntimeError:
        raise error(
            f"{_shown(typed)}: no user {_shown(typed.partition('/')[0])[1:]} here"
        ) from None
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return path  # which whoever opens it tells in its own words
    except (OSError, ValueError) as failure:
        raise error(f"{_shown(typed)}: {reason(failure)}") from None
    return path


def _shown(text: str) -> str:
    return printable(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
