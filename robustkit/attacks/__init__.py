"""Attacks: pure functions from a model and images to adversarials, and what they say of a model.

Stands on data and models. FGSM, PGD and MI-FGSM are our own; sets crafted on one model are kept
and scored on any other.
"""

from robustkit.attacks.alignment import GradientAlignment, alignment, input_gradients
from robustkit.attacks.base import Attack, verify
from robustkit.attacks.crafting import AdversarialSet, craft, load_adversarials, save_adversarials
from robustkit.attacks.gradients import loss_gradient
from robustkit.attacks.iterative import FGSM, MIFGSM, PGD
from robustkit.attacks.losses import LOSSES
from robustkit.attacks.norms import NORMS
from robustkit.attacks.predict import predict
from robustkit.attacks.purity import pure
from robustkit.attacks.rates import Gap, Rate, mcnemar, paired_gap, pooled_rate, wilson
from robustkit.attacks.registry import ATTACKS, make
from robustkit.attacks.robustness import survivors

__all__ = [
    "ATTACKS",
    "FGSM",
    "LOSSES",
    "MIFGSM",
    "NORMS",
    "PGD",
    "AdversarialSet",
    "Attack",
    "Gap",
    "GradientAlignment",
    "Rate",
    "alignment",
    "craft",
    "input_gradients",
    "load_adversarials",
    "loss_gradient",
    "make",
    "mcnemar",
    "paired_gap",
    "pooled_rate",
    "predict",
    "pure",
    "save_adversarials",
    "survivors",
    "verify",
    "wilson",
]
