"""What mistakes are made in, by the name of the formula."""

from __future__ import annotations

from tests.mutants.cav import CAV
from tests.mutants.denominators import DENOMINATORS
from tests.mutants.localisation import LOCALISATION
from tests.mutants.penalty import PENALTY
from tests.mutants.voc import VOC

AREAS = {
    "penalty": PENALTY,
    "denominators": DENOMINATORS,
    "cav": CAV,
    "localisation": LOCALISATION,
    "voc": VOC,
}
