"""Networks described by data: the model family that architecture search works in.

`spec` is the description, `shapes` what follows from it for given images, `modules` and `graph`
the network itself. Nothing here knows how blueprints are found.
"""

from robustkit.models.blueprint.modules import BlueprintNet, activation, norm
from robustkit.models.blueprint.spec import (
    ACTIVATIONS,
    BLOCKS,
    HEAD_POOLS,
    KINDS,
    MERGES,
    NORMS,
    POOLS,
    Block,
    Blueprint,
    Head,
    Kind,
    Maps,
    Wiring,
    wire,
)

__all__ = [
    "ACTIVATIONS",
    "BLOCKS",
    "HEAD_POOLS",
    "KINDS",
    "MERGES",
    "NORMS",
    "POOLS",
    "Block",
    "Blueprint",
    "BlueprintNet",
    "Head",
    "Kind",
    "Maps",
    "Wiring",
    "activation",
    "norm",
    "wire",
]
