"""Architecture search: genotypes, their variation, objectives and strategies.

Stands on `robustkit` and below `experiments`, where training, scoring and the run folder come in:
a search here only proposes networks and is told how they did; `optimize` runs one for any function.
"""

from evolution.genes import GeneEffect, gene_effects
from evolution.genotype import Candidate, Genotype, Scored, pedigree
from evolution.objectives import MEASURES, Objective, fitness_of, front, parse_objectives
from evolution.optimize import Study, StudyTrial, optimize
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
    "Scored",
    "SearchSettings",
    "SearchSpace",
    "Strategy",
    "Study",
    "StudyTrial",
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
