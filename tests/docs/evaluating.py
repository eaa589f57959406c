"""What the page about Python evolves for: a function that worker processes can import."""

from __future__ import annotations

from robustkit.models import Blueprint


def evaluate(blueprint: Blueprint) -> float:
    """More blocks are better, for want of anything to train."""
    return float(len(blueprint.blocks))
