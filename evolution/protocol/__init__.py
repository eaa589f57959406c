"""The main experiment: evolve nets that attacks on a reference do not transfer to.

`config` says what can be set, `pipeline` what depends on what, `jobs` and `judging` do the work in
worker processes, `comparison` and `summary` turn verdicts into figures.
"""

from evolution.protocol.config import EvolveConfig
from evolution.protocol.run import evolve

__all__ = ["EvolveConfig", "evolve"]
