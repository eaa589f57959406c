"""Names that tell things apart: class names of data and models, which do not know each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Return `names` in their order, each that stands more than once followed by its position.

    >>> distinct(("crane", "dog", "crane"))
    ('crane (0)', 'dog', 'crane (2)')
    """
    told = tuple(names)
    while len(set(told)) < len(told):
        counts = Counter(told)
        told = tuple(
            f"{name} ({index})" if counts[name] > 1 else name for index, name in enumerate(told)
        )
    return told


def numbered(count: int) -> tuple[str, ...]:
    """Return the names of classes that have none: their numbers."""
    return tuple(map(str, range(count)))
