"""A transfer matrix as plain numbers."""

from __future__ import annotations

from typing import Any

from robustkit.attacks import TransferMatrix


def cells(matrix: TransferMatrix) -> dict[str, dict[str, dict[str, Any]]]:
    """source → target → the three rates (and `reached`, where labels were steered to)."""
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for source in matrix.sources:
        table[source] = {}
        for target in matrix.targets:
            rates = matrix.rates(source, target)
            if (source, target) in matrix.reached:
                rates["reached"] = matrix.reach(source, target)
            table[source][target] = {name: rate.to_dict() for name, rate in rates.items()}
    return table
