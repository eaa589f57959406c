"""Models: one kind of classifier, the zoo, blueprints, and one file that holds a model.

Knows errors, compute and runs only; everything above (attacks, training, …) works on what is made
here.
"""

from robustkit.models.blueprint import Block, Blueprint, Head
from robustkit.models.build import build, new_card, rebuild
from robustkit.models.card import Card
from robustkit.models.classifier import Classifier, matched, reordered, resizing, wrap
from robustkit.models.cost import Cost, cost
from robustkit.models.defences import DEFENCES, Defence, defence, defended
from robustkit.models.files import digest, read_card, save
from robustkit.models.preprocessing import Normalise, Preprocess, Preprocessing
from robustkit.models.resolve import load, resolve
from robustkit.models.sources import SOURCES
from robustkit.models.zoo import ZOO

__all__ = [
    "DEFENCES",
    "SOURCES",
    "ZOO",
    "Block",
    "Blueprint",
    "Card",
    "Classifier",
    "Cost",
    "Defence",
    "Head",
    "Normalise",
    "Preprocess",
    "Preprocessing",
    "build",
    "cost",
    "defence",
    "defended",
    "digest",
    "load",
    "matched",
    "new_card",
    "read_card",
    "rebuild",
    "reordered",
    "resizing",
    "resolve",
    "save",
    "wrap",
]
