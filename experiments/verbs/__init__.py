"""One module per verb of the command line, named like the verb.

A verb is two functions: `add_arguments(parser)` declares its options on an
`experiments.options.VerbParser`, `run(options)` does the work and returns the exit code. A verb
that writes run folders has a third, `report(run)`, which draws `report.html` anew from what the
folder holds and returns its path. Modules are imported only when their verb is asked for.
"""

from __future__ import annotations

import importlib
from types import ModuleType

VERBS = {
    "train": "train a classifier, plainly, against attacks or away from another model's gradients",
    "evolve": "evolve a network that attacks on a reference do not transfer to",
    "attack": "measure robust accuracy of any models, and whether the figure is evidence",
    "transfer": "measure how far attacks made on some models mislead others",
    "repair": "mend failures of a trained model, and show what that broke",
    "explain": "show what a decision rests on, layer by layer, and how far to trust the maps",
    "adapt": "train detectors for a domain without labels, recipe by recipe",
    "detect": "measure the precision of a detector, also under attack, and show what it rests on",
    "shift": "measure how far a target domain is from a source, and advise",
    "report": "draw the report of a run folder anew",
    "runs": "list the run folders under a directory",
    "reproduce": "run a published experiment and set our figures beside the published ones",
    "bench": "measure what is claimed about speed, beside libraries that do the same",
    "doctor": "check this installation and print the fix for what is wrong",
}


def verb_module(verb: str) -> ModuleType:
    """The module that implements `verb`, one of `VERBS`."""
    return importlib.import_module(f"{__name__}.{verb}")


__all__ = ["VERBS", "verb_module"]
