"""Where images come from: one file per kind of source, each registering itself in SOURCES."""

from robustkit.data.sources import digits, named, npz

__all__ = ["digits", "named", "npz"]
