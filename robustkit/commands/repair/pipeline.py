"""From a subject and the options to a repair, its patch and its summary."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from robustkit import attacks, evaluation, models, repair, stats
from robustkit.commands.repair.config import RepairOptions
from robustkit.commands.repair.search import search_all
from robustkit.commands.repair.subject import Subject
from robustkit.compute import derive_seed
from robustkit.compute.tensorfiles import (
    Shapes,
    check_range,
    check_shapes,
    read_tensors,
    write_tensors,
)
from robustkit.data import stratified_sample
from robustkit.errors import RunError
from robustkit.evaluation import diagnosis
from robustkit.jobs import Log
from robustkit.models import Classifier
from robustkit.repair import Repair, Verdict
from robustkit.runs import RunFolder

SHOWN = 12
KINDS = ("repaired", "broken")
SAID = ("labels", "before", "after")
_FILE = "examples.safetensors"
_SHAPES: Shapes = {
    f"{kind}.{name}": (torch.int64, (kind,)) for kind in KINDS for name in ("index", *SAID)
} | {f"{kind}.image": (torch.uint8, (kind, "c", "h", "w")) for kind in KINDS}


def keep_examples(subject: Subject, found: Repair, folder: RunFolder) -> None:
    """Keep the first images repaired and broken, with what was said of them before and after."""
    verdict = found.runs[found.best].verdict
    kept: dict[str, Tensor] = {}
    for kind in KINDS:
        chosen = torch.nonzero(getattr(verdict, kind)).squeeze(1)[:SHOWN]
        kept[f"{kind}.index"] = chosen
        kept[f"{kind}.image"] = subject.images.images[chosen]
        for name in SAID:
            kept[f"{kind}.{name}"] = getattr(verdict, name)[chosen]
    classes = "\n".join(subject.images.classes)
    write_tensors(folder.file(_FILE), kept, {"classes": classes})


def load_examples(folder: RunFolder) -> tuple[dict[str, Tensor], list[str]]:
    """What `keep_examples` kept, and the names of the classes; raises `RunError` if damaged."""
    path = folder.file(_FILE)
    tensors, notes = read_tensors(path, error=RunError)
    if "classes" not in notes:
        raise RunError(f"{path}: no examples: it lacks the names of the classes")
    classes = notes["classes"].split("\n")
    lengths = check_shapes(tensors, _SHAPES, str(path), error=RunError)
    if lengths["c"] not in (1, 3) or lengths["h"] * lengths["w"] == 0:
        raise RunError(f"{path}: no images of 1 or 3 channels")
    for kind in KINDS:
        if lengths[kind] > SHOWN:
            raise RunError(f"{path}: '{kind}.index': {lengths[kind]} images, of {SHOWN} at most")
        for name, end in (("index", 2**53), *dict.fromkeys(SAID, len(classes)).items()):
            where = f"{path}: '{kind}.{name}'"
            check_range(tensors[f"{kind}.{name}"], 0, end, where, error=RunError)
    return tensors, classes


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
        judged = evaluation.worst_case(net, images, [pgd], seed=options.seed)
        rate = stats.wilson(float(judged.survivors.double().mean()), len(images))
        doubts = [each.to_json() for each in diagnosis.read(judged)]
        found["robust"][name] = {**rate.to_json(), "diagnostics": doubts}
    mifgsm = attacks.MIFGSM(eps=options.eps)
    matrix = evaluation.transfer_matrix(nets, nets, images, mifgsm, seed=options.seed)
    found["transfer"] = {
        f"{source} -> {target}": matrix.rates(source, target)["headline"].to_json()
        for source in nets
        for target in nets
    }
    return found


def run_repair(
    subject: Subject, options: RepairOptions, folder: RunFolder, say: Log, *, write_model: bool
) -> dict[str, Any]:
    """Repair, write `patch.safetensors` and what else is asked for; returns the summary."""
    found = search_all(subject, options, folder, folder.config, say)
    provenance = {"method": options.method, "data": folder.config["data"], "seed": options.seed}
    replace(found.patch, provenance=provenance).save(folder.file("patch.safetensors"))
    repaired = found.patch.apply(subject.model)
    if write_model:
        models.save(
            repaired,
            folder.file("model.safetensors"),
            parent=found.patch.parent,
            repair=folder.config,
        )
    keep_examples(subject, found, folder)
    summary = summarise(subject, options, found)
    if options.attack_images:
        say("side effects on attacks")
    summary["side_effects"] = side_effects(subject, repaired, options)
    return summary


def summarise(subject: Subject, options: RepairOptions, found: Repair) -> dict[str, Any]:
    """Everything that is known of the repair, as plain values."""
    located = found.localisation
    summary: dict[str, Any] = {
        "method": options.method,
        "protocol": options.protocol,
        **found.report,
        "unchanged": len(found.patch) == 0,
        "scored_by": found.how,
        "parent": found.patch.parent,
        "child": found.patch.child,
        "localisation": None
        if located is None
        else {"top": located.top, "sizes": dict(located.sizes), "notes": list(located.notes)},
        "per_class": _per_class(found.runs[found.best].verdict, subject.images.classes),
        "best": found.best,
        "runs": [_run(run) for run in found.runs],
    }
    if summary["held_out"] is not None:
        summary["held_out"]["dropped"] = subject.dropped
    return summary


def _run(run: repair.Run) -> dict[str, Any]:
    return {
        **run.verdict.to_dict(),
        "held_out": None if run.held_out is None else run.held_out.to_dict(),
        "changed": len(run.patch),
        "iterations": run.iterations,
        "fitness": None if run.found is None else _finite(run.found.fitness),
        "fitness_before": None if run.found is None else run.found.original,
        "trace": [] if run.found is None else [_finite(each) for each in run.found.trace],
    }


def _finite(value: float) -> float | None:
    """JSON knows no infinity, the fitness of candidates that say nothing but NaN."""
    return value if math.isfinite(value) else None


def _per_class(verdict: Verdict, classes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Of every class: how many images, right before and after, repaired and broken."""
    counted = {
        "n": torch.ones_like(verdict.neg),
        "right_before": verdict.pos,
        "right_after": verdict.after == verdict.labels,
        "repaired": verdict.repaired,
        "broken": verdict.broken,
    }
    return {
        name: {
            what: int((mask & (verdict.labels == number)).sum()) for what, mask in counted.items()
        }
        for number, name in enumerate(classes)
    }
