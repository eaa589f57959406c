"""A transfer matrix as plain numbers."""

from __future__ import annotations

from typing import Any

from robustkit.attacks import TransferMatrix


def cells(matrix: TransferMatrix) -> dict[str, dict[str, dict[str, Any]]]:
    """source → target → the three rates (and `reached`, where labels were steered to).

    What is known of gradients only is null, to be filled in where they are compared.
    """
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for source in matrix.sources:
        table[source] = {}
        for target in matrix.targets:
            rates = matrix.rates(source, target)
            if (source, target) in matrix.reached:
                rates["reached"] = matrix.reach(source, target)
            table[source][target] = {
                **{name: rate.to_dict() for name, rate in rates.items()},
                **dict.fromkeys(("cos_mean", "cos_abs_mean", "cos_quartiles")),
            }
    return table
