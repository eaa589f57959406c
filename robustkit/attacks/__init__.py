"""Attacks: pure functions from a model and images to adversarials, and what they say of a model.

Stands on data and models. FGSM, PGD and MI-FGSM are our own; sets crafted on one model are kept
and scored on any other.
"""

from robustkit.attacks.apgd import APGD
from robustkit.attacks.base import Attack, verify, violations
from robustkit.attacks.cache import Store
from robustkit.attacks.components import COMPONENTS, Component, component
from robustkit.attacks.crafting import AdversarialSet, craft, to_levels
from robustkit.attacks.ensemble import FUSES, Ensemble
from robustkit.attacks.files import ExternalSet, export_npz, export_png, import_npz
from robustkit.attacks.gradients import LOSSES, loss_gradient
from robustkit.attacks.iterative import DIFGSM, FGSM, MIFGSM, NIFGSM, PGD, TIFGSM, Iterative
from robustkit.attacks.libraries.torchattacks import TorchAttack, library_attacks
from robustkit.attacks.norms import NORMS
from robustkit.attacks.predictions import correct, predict, predicted_classes
from robustkit.attacks.queries import HopSkipJump
from robustkit.attacks.registry import ATTACKS, catalogue, make
from robustkit.attacks.universal import Patch, Universal

__all__ = [
    "APGD",
    "ATTACKS",
    "COMPONENTS",
    "DIFGSM",
    "FGSM",
    "FUSES",
    "LOSSES",
    "MIFGSM",
    "NIFGSM",
    "NORMS",
    "PGD",
    "TIFGSM",
    "AdversarialSet",
    "Attack",
    "Component",
    "Ensemble",
    "ExternalSet",
    "HopSkipJump",
    "Iterative",
    "Patch",
    "Store",
    "TorchAttack",
    "Universal",
    "catalogue",
    "component",
    "correct",
    "craft",
    "export_npz",
    "export_png",
    "import_npz",
    "library_attacks",
    "loss_gradient",
    "make",
    "predict",
    "predicted_classes",
    "to_levels",
    "verify",
    "violations",
]
