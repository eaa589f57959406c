"""The main experiment: evolve nets to which attacks on a reference do not transfer.

`config` has the settings; `pipeline` is the protocol from R to the test evaluation; `jobs` are what
worker processes compute; `search` and `selection` are its searches and its rule; `summary` compares
the nets.
"""

from evolution.protocol.config import EvolveConfig
from evolution.protocol.run import evolve

__all__ = ["EvolveConfig", "evolve"]
