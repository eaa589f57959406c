"""Carrying out a study in its run folder: runs of verbs first, then pieces, then the summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from experiments.executing import FREE
from experiments.options import run_verb
from experiments.pieces import carry_out
from experiments.reproduce.claims import Claim
from experiments.reproduce.registry import find
from experiments.reproduce.saved import checked
from experiments.reproduce.study import Exhibit, Plan, Study, VerbRun
from experiments.summaries import check_summary
from robustkit.errors import RunError
from robustkit.runs import RunFolder
from robustkit.runs.folder import finished


def run_study(folder: RunFolder, say: Callable[[str], None]) -> dict[str, Any]:
    """Do what `folder` does not yet hold of the study its settings name; returns the summary.

    The summary's `claims` are the verdicts. Raises `RunError` where a piece ends in anything but a
    result; what is done stays done.
    """
    study, exhibit = find(folder.config["name"])
    plan = _plan(folder)
    wanted = exhibit.needs if exhibit is not None else _everything
    results = {run.id: _verb_run(run, folder, say) for run in study.runs(plan) if wanted(run.id)}
    phases = [[piece for piece in phase if wanted(piece.id)] for phase in study.phases(plan)]
    if any(phases):
        trials = carry_out(phases, folder, arm="study", say=say)
        results |= {trial.id: trial.result or {} for trial in trials}
    summary = {
        "scale": plan.scale,
        "exhibit": None if exhibit is None else exhibit.name,
        **study.summarise(results),
    }
    told = {**summary, **checked(study, summary, f"{folder.path}: its results")}
    claims = [each.to_dict() for each in judged(study, exhibit, told)]
    return {**summary, "claims": claims}


def judged(study: Study, exhibit: Exhibit | None, summary: Mapping[str, Any]) -> list[Claim]:
    """The claims of a study, or of one exhibit of it. A rehearsal decides none of them."""
    claims = study.judge(summary)
    if summary.get("scale") == "smoke":
        claims = [replace(each, holds=None) for each in claims]
    return [each for each in claims if exhibit is None or each.exhibit == exhibit.name]


def _everything(identity: str) -> bool:
    return True


def _plan(folder: RunFolder) -> Plan:
    config = folder.config
    chosen = {name: config[name] for name in ("scale", "seed", "device", "weights", "images")}
    return Plan(folder=folder.path.resolve(), **chosen)


def _verb_run(run: VerbRun, folder: RunFolder, say: Callable[[str], None]) -> dict[str, Any]:
    """The summary of a run inside this one: made now, gone on with, or there already."""
    path = folder.file(run.name)
    where = [f"--{name.replace('_', '-')}={folder.config[name]}" for name in FREE[:2]]
    if not path.exists():
        new = [*run.arguments, f"--out={path}", f"--seed={folder.config['seed']}"]
        code = run_verb(run.verb, [*new, f"--device={folder.config['device']}", *where])
    elif RunFolder.open(path, verb=run.verb).summary() is None:
        code = run_verb(run.verb, [f"--resume={path}", *where])
    else:
        code = 0
        say(f"{run.id}: there already")
    if code != 0:
        raise RunError(f"{run.id}: `robustkit {run.verb}` ended with exit code {code}")
    inner = RunFolder.open(path, verb=run.verb)
    summary, file = finished(inner), str(inner.file("summary.json"))
    run.check(check_summary(summary, run.kind, file), file)
    return summary
