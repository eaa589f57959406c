"""Where models come from: one file per kind of source, each registering itself in SOURCES.

A source brings architecture, weights, preprocessing and the names of the classes.
"""

from robustkit.models.sources import factory, robustbench, timm, torchvision
from robustkit.models.sources.base import SOURCES, Request, SourceNet, Spec

__all__ = [
    "SOURCES",
    "Request",
    "SourceNet",
    "Spec",
    "factory",
    "robustbench",
    "timm",
    "torchvision",
]
