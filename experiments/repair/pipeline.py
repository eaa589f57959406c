"""From a subject and the options to a repair, its patch and its summary."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from experiments.repair.config import RepairOptions
from experiments.repair.examples import keep_examples
from experiments.repair.searches import search_all
from experiments.repair.side_effects import side_effects
from experiments.repair.subject import Subject
from robustkit import models, repair
from robustkit.repair import Repair, Verdict
from robustkit.runs import RunFolder

Say = Callable[[str], None]


def run_repair(
    subject: Subject, options: RepairOptions, folder: RunFolder, say: Say, *, write_model: bool
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
