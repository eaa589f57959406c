"""Numbers as the field writes them: `0.03`, `1e-3` and `8/255`, none that would fill the memory."""

from __future__ import annotations

import re
from fractions import Fraction

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
        if any(len(each) > LONGEST or int(each) > _LARGEST_EXPONENT for each in powers):
            raise ValueError(f"'{value[:50]}' is larger or smaller than any number of use here")
        if len(value) > LONGEST:
            raise ValueError(f"a number of {len(value):,} characters")
    try:
        return float(Fraction(value))
    except ZeroDivisionError:
        raise ValueError(f"division by zero in '{value}'") from None
    except OverflowError:  # an infinity, or more than a float holds
        raise ValueError(f"'{value}' is not a finite number") from None
