"""What a patch does besides: robustness to PGD, and how far attacks transfer to and fro."""

from __future__ import annotations

from typing import Any

from experiments.repair.config import RepairOptions
from experiments.repair.subject import Subject
from robustkit import attacks
from robustkit.compute import derive_seed
from robustkit.data import stratified_sample
from robustkit.models import Classifier

STEPS = 20


def side_effects(
    subject: Subject, repaired: Classifier, options: RepairOptions
) -> dict[str, Any] | None:
    """Robust accuracy of both nets, and the transfer of MI-FGSM between them; None if not asked.

    On images of the held-out set, or of the repair set where there is none.
    """
    images = subject.held_out if subject.held_out is not None else subject.images
    count = max(options.attack_images, images.num_classes)
    if options.attack_images == 0:
        return None
    if count < len(images):
        seed = derive_seed(options.seed, "side effects")
        images = images.subset(stratified_sample(images.labels, count, seed))
    nets = {"before": subject.model, "after": repaired}
    pgd = attacks.PGD(eps=options.eps, steps=STEPS)
    found: dict[str, Any] = {"n": len(images), "eps": options.eps, "attack": pgd.to_dict()}
    found["robust"] = {}
    for name, net in nets.items():
        judged = attacks.worst_case(net, images, [pgd], seed=options.seed)
        rate = attacks.wilson(float(judged.survivors.double().mean()), len(images))
        doubts = [each.to_dict() for each in attacks.diagnosis.read(judged)]
        found["robust"][name] = {**rate.to_dict(), "diagnostics": doubts}
    mifgsm = attacks.MIFGSM(eps=options.eps)
    matrix = attacks.transfer_matrix(nets, nets, images, mifgsm, seed=options.seed)
    found["transfer"] = {
        f"{source} -> {target}": matrix.rates(source, target)["headline"].to_dict()
        for source in nets
        for target in nets
    }
    return found
