"""A repair from the loaded subject to its patch, its examples and its result."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from msgspec import structs
from torch import Tensor

from robustkit import attacks, evaluation, models, repair, stats
from robustkit.commands.repair.config import RepairOptions
from robustkit.commands.repair.result import (
    ClassResult,
    HeldOut,
    LocalisationResult,
    RobustRate,
    RunResult,
    SideEffects,
    Summary,
)
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
from robustkit.repair import PatchEffect, Repair
from robustkit.runs import RunFolder

SHOWN = 12
STEPS = 20
KINDS = ("repaired", "broken")
PREDICTIONS = ("labels", "before", "after")
_FILE = "examples.safetensors"
_SHAPES: Shapes = {
    f"{kind}.{name}": (torch.int64, (kind,)) for kind in KINDS for name in ("index", *PREDICTIONS)
} | {f"{kind}.image": (torch.uint8, (kind, "c", "h", "w")) for kind in KINDS}


def keep_examples(subject: Subject, repaired: Repair, folder: RunFolder) -> None:
    """Write the first images repaired and broken with their predictions before and after."""
    effect = repaired.runs[repaired.best].effect
    kept: dict[str, Tensor] = {}
    for kind in KINDS:
        chosen = torch.nonzero(getattr(effect, kind)).squeeze(1)[:SHOWN]
        kept[f"{kind}.index"] = chosen
        kept[f"{kind}.image"] = subject.images.images[chosen]
        for name in PREDICTIONS:
            kept[f"{kind}.{name}"] = getattr(effect, name)[chosen]
    classes = "\n".join(subject.images.classes)
    write_tensors(folder.file(_FILE), kept, {"classes": classes})


def load_examples(folder: RunFolder) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors that `keep_examples` wrote, and the names of the classes.

    Raises `RunError` if they are damaged.
    """
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
        for name, end in (("index", 2**53), *dict.fromkeys(PREDICTIONS, len(classes)).items()):
            where = f"{path}: '{kind}.{name}'"
            check_range(tensors[f"{kind}.{name}"], 0, end, where, error=RunError)
    return tensors, classes


def side_effects(
    subject: Subject, repaired: Classifier, options: RepairOptions
) -> SideEffects | None:
    """Return both models' robust accuracy and the transfer of MI-FGSM; None if not asked for.

    The images are of the held-out set, or of the repair set where there is none.
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
    robust = {}
    for name, net in nets.items():
        robustness = evaluation.worst_case(net, images, [pgd], seed=options.seed)
        rate = stats.wilson(float(robustness.survivors.double().mean()), len(images))
        findings = list(diagnosis.read(robustness))
        robust[name] = RobustRate(**structs.asdict(rate), diagnostics=findings)
    mifgsm = attacks.MIFGSM(eps=options.eps)
    matrix = evaluation.transfer_matrix(nets, nets, images, mifgsm, seed=options.seed)
    transfer = {
        f"{source} -> {target}": matrix.rates(source, target)["headline"]
        for source in nets
        for target in nets
    }
    return SideEffects(len(images), options.eps, pgd.to_dict(), robust, transfer)


def run_repair(
    subject: Subject, options: RepairOptions, folder: RunFolder, log: Log, *, write_model: bool
) -> Summary:
    """Repair, write the patch, examples and, if asked for, the model; return the summary."""
    found = search_all(subject, options, folder, folder.config, log)
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
    if options.attack_images:
        log("side effects on attacks")
    return summarise(subject, options, found, side_effects(subject, repaired, options))


def summarise(
    subject: Subject, options: RepairOptions, found: Repair, effects: SideEffects | None
) -> Summary:
    """Return the result of the command."""
    result, located = found.result, found.localisation
    held_out = result.held_out
    chosen = structs.asdict(result) | {
        "held_out": None
        if held_out is None
        else HeldOut(**structs.asdict(held_out), dropped=subject.dropped)
    }
    return Summary(
        **chosen,
        method=options.method,
        protocol=options.protocol,
        unchanged=len(found.patch) == 0,
        scored_by=found.scored_by,
        parent=found.patch.parent,
        child=found.patch.child,
        localisation=None
        if located is None
        else LocalisationResult(located.top, dict(located.sizes), list(located.notes)),
        per_class=_per_class(found.runs[found.best].effect, subject.images.classes),
        best=found.best,
        runs=[_run(run) for run in found.runs],
        side_effects=effects,
    )


def _run(run: repair.Run) -> RunResult:
    result = run.search
    return RunResult(
        **structs.asdict(run.effect.metrics()),
        held_out=None if run.held_out is None else run.held_out.metrics(),
        changed=len(run.patch),
        iterations=run.iterations,
        fitness=None if result is None else _finite(result.fitness),
        fitness_before=None if result is None else result.original,
        trace=[] if result is None else [_finite(fitness) for fitness in result.trace],
    )


def _finite(value: float) -> float | None:
    """Return None for an infinity, the fitness of logits that are NaN: JSON has none."""
    return value if math.isfinite(value) else None


def _per_class(effect: PatchEffect, classes: tuple[str, ...]) -> dict[str, ClassResult]:
    masks = {
        "n": torch.ones_like(effect.neg),
        "right_before": effect.pos,
        "right_after": effect.after == effect.labels,
        "repaired": effect.repaired,
        "broken": effect.broken,
    }
    return {
        name: ClassResult(
            **{field: int((mask & (effect.labels == label)).sum()) for field, mask in masks.items()}
        )
        for label, name in enumerate(classes)
    }
