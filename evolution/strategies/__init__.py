"""Search strategies, each behind the same `ask` and `tell`.

They use genotypes, variation and objectives, and know neither training nor run folders.
"""

from evolution.strategies.ageing import Ageing
from evolution.strategies.base import STRATEGIES, SearchSettings, Strategy, open_strategy
from evolution.strategies.local_search import LocalSearch
from evolution.strategies.mu_plus_lambda import MuPlusLambda
from evolution.strategies.nsga2 import NSGA2
from evolution.strategies.random_search import RandomSearch

__all__ = [
    "NSGA2",
    "STRATEGIES",
    "Ageing",
    "LocalSearch",
    "MuPlusLambda",
    "RandomSearch",
    "SearchSettings",
    "Strategy",
    "open_strategy",
]
