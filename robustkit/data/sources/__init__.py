"""Where images come from: one file per kind of source, each registering itself in SOURCES."""

from robustkit.data.sources import cifar, digits, folder, gtsrb, images, mnist, npz, svhn
from robustkit.data.sources import cifar as cifar10c
from robustkit.data.sources import folder as imagenet

__all__ = [
    "cifar",
    "cifar10c",
    "digits",
    "folder",
    "gtsrb",
    "imagenet",
    "images",
    "mnist",
    "npz",
    "svhn",
]
