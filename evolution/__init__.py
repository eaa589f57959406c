"""Architecture search: genotypes, their variation, objectives, strategies and the search engine.

`optimize` searches for any function that says how good a network is. `evolution.runner` is the
engine below it, `evolution.protocol` the misalignment experiment on top.
"""

from evolution.genes import GeneEffect, gene_effects
from evolution.genotype import Candidate, Genotype, Trial, pedigree
from evolution.objectives import MEASURES, Objective, fitness_of, front, parse_objectives
from evolution.optimize import Study, optimize
from evolution.sampling import sample
from evolution.space import SearchSpace
from evolution.strategies import STRATEGIES, SearchSettings, Strategy, open_strategy
from evolution.variation import crossover, mutate

__all__ = [
    "MEASURES",
    "STRATEGIES",
    "Candidate",
    "GeneEffect",
    "Genotype",
    "Objective",
    "SearchSettings",
    "SearchSpace",
    "Strategy",
    "Study",
    "Trial",
    "crossover",
    "fitness_of",
    "front",
    "gene_effects",
    "mutate",
    "open_strategy",
    "optimize",
    "parse_objectives",
    "pedigree",
    "sample",
]
