"""Mending a trained net: localise the faulty weights, search a patch, prove what it changed.

A patch names the changed parameters only; applying one returns a new model and leaves the given
one as it was. Stands on `data`, `models`, `attacks` and `training`; `explain` is its neighbour,
and neither imports the other.
"""
