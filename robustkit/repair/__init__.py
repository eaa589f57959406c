"""Repair of trained models: localise faulty weights, search a patch, measure its effect.

A patch names the changed parameters only; applying one returns a new model and leaves the given
one as it was. Stands on `data`, `models`, `attacks` and `training`; `explain` is its neighbour,
and neither imports the other.
"""

from robustkit.repair.config import ARACHNE, HISTORY, RepairConfig
from robustkit.repair.fitness import FITNESS
from robustkit.repair.localise import Impacts, Localisation, impacts, localise
from robustkit.repair.methods import METHODS, Method
from robustkit.repair.patch import Patch, difference, make_patch
from robustkit.repair.repair import (
    PatchEffect,
    Repair,
    RepairMetrics,
    RepairResult,
    Run,
    accuracy_after,
    conclude,
    locate,
    repair,
)
from robustkit.repair.scoring import Scorer, make_scorer
from robustkit.repair.search import Search, SearchResult, search
from robustkit.repair.sets import RepairSets, drop_shared, gather, repair_sets
from robustkit.repair.swarm import PRESETS, SwarmConfig, Swarms, preset
from robustkit.repair.tuning import TuneConfig, Tuned, conclude_tuning, tune, tune_run
from robustkit.repair.weights import Selection, repairable, select

__all__ = [
    "ARACHNE",
    "FITNESS",
    "HISTORY",
    "METHODS",
    "PRESETS",
    "Impacts",
    "Localisation",
    "Method",
    "Patch",
    "PatchEffect",
    "Repair",
    "RepairConfig",
    "RepairMetrics",
    "RepairResult",
    "RepairSets",
    "Run",
    "Scorer",
    "Search",
    "SearchResult",
    "Selection",
    "SwarmConfig",
    "Swarms",
    "TuneConfig",
    "Tuned",
    "accuracy_after",
    "conclude",
    "conclude_tuning",
    "difference",
    "drop_shared",
    "gather",
    "impacts",
    "localise",
    "locate",
    "make_patch",
    "make_scorer",
    "preset",
    "repair",
    "repair_sets",
    "repairable",
    "search",
    "select",
    "tune",
    "tune_run",
]
