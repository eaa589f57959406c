"""Models: one kind of classifier, the zoo, blueprints, and one file that holds a model.

Knows errors, compute and runs only; everything above (attacks, training, …) works on what is made
here.
"""

from robustkit.models.blueprint import Block, Blueprint, Head
from robustkit.models.build import build, rebuild
from robustkit.models.card import Card
from robustkit.models.classifier import Classifier, Normalise
from robustkit.models.cost import Cost, cost
from robustkit.models.files import digest, load, read_card, save
from robustkit.models.resolve import resolve
from robustkit.models.zoo import ZOO

__all__ = [
    "ZOO",
    "Block",
    "Blueprint",
    "Card",
    "Classifier",
    "Cost",
    "Head",
    "Normalise",
    "build",
    "cost",
    "digest",
    "load",
    "read_card",
    "rebuild",
    "resolve",
    "save",
]
