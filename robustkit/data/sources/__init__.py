"""Where images come from: one file per kind of source, each registering itself in SOURCES."""

from robustkit.data.sources import cifar10, digits, folder, gtsrb, mnist, npz

__all__ = ["cifar10", "digits", "folder", "gtsrb", "mnist", "npz"]
