"""Names of classes, which data and models both tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names in order, those that stand more than once with their index behind them.

    >>> distinct(["crane", "dog", "crane"])
    ('crane (0)', 'dog', 'crane (2)')
    """
    counts = Counter(names)
    return tuple(
        f"{name} ({index})" if counts[name] > 1 else name for index, name in enumerate(names)
    )


def numbered(count: int) -> tuple[str, ...]:
    """The names of classes that have none: their numbers."""
    return tuple(map(str, range(count)))
