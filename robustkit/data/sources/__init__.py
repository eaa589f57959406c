"""Where images come from: one file per kind of source, each registering itself in SOURCES."""

from robustkit.data.sources import (
    cifar,
    cifar10c,
    digits,
    folder,
    gtsrb,
    imagenet,
    images,
    mnist,
    npz,
    svhn,
)

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
