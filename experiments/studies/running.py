"""Carrying out a study in its run folder: runs of verbs first, then pieces, then the summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from experiments.studies.base import SCALES, Claim, Exhibit, Plan, Study, VerbRun, find
from robustkit.cli.context import FREE
from robustkit.cli.parser import run_command
from robustkit.compute.seeds import check_seed
from robustkit.errors import ConfigError, RunError
from robustkit.jobs.run import carry_out
from robustkit.reading import check_kind
from robustkit.runs import RunFolder
from robustkit.runs.folder import finished
from robustkit.runs.summaries import check_lines, check_summary, shown


class Settings(TypedDict):
    """What the settings of a study say of it."""

    name: str
    seed: int
    scale: NotRequired[str]


class Told(TypedDict):
    """What every summary of a study says."""

    study: str
    scale: NotRequired[str]


def of_settings(config: Mapping[str, Any], path: Path) -> tuple[Study, Exhibit | None]:
    """The study, and the exhibit of it, that the settings in the file `path` name.

    Raises `RunError`, naming the file, for settings that no study can have.
    """
    told = check_kind(config, Settings, str(path), error=RunError)
    try:
        study, exhibit = find(told["name"])
        check_scale(study, told.get("scale", "small"))
        check_seed(told["seed"])
    except ConfigError as error:
        raise RunError(f"{path}: {error}") from error
    return study, exhibit


def summary_of(study: Study, found: Mapping[str, Any], path: Path) -> Any:
    """What the file `path` holds of a finished run of `study`, as its `kind`, and its `scale`.

    Raises `RunError`, naming the file, for another's, and for what cannot be drawn.
    """
    told = check_kind(found, Told, str(path), error=RunError)
    if told["study"] != study.name:
        raise RunError(f"{path}: of the study {shown(told['study'])}, not of '{study.name}'")
    try:
        check_scale(study, told.get("scale", "small"))
    except ConfigError as error:
        raise RunError(f"{path}: {error}") from error
    return {**told, **checked(study, found, str(path))}


def checked(study: Study, found: Mapping[str, Any], where: str) -> Any:
    """A summary as the `kind` of `study`: all that it draws is there, and fits together.

    Raises `RunError`, which begins with `where` and names the entry.
    """
    summary = check_summary(found, study.kind, where)
    check_lines(summary, where)
    study.check(summary, where)
    return summary


def check_scale(study: Study, scale: str) -> None:
    """Raise `ConfigError` for a scale that the study does not have."""
    if scale not in SCALES:
        raise ConfigError(f"--scale {scale}: one of {', '.join(SCALES)}")
    if scale not in study.scales:
        raise ConfigError(
            f"--scale {scale}: '{study.name}' has {' and '.join(study.scales)} alone, "
            "since nothing is published"
        )


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
        code = run_command(run.verb, [*new, f"--device={folder.config['device']}", *where])
    elif RunFolder.open(path, verb=run.verb).summary() is None:
        code = run_command(run.verb, [f"--resume={path}", *where])
    else:
        code = 0
        say(f"{run.id}: there already")
    if code != 0:
        raise RunError(f"{run.id}: `robustkit {run.verb}` ended with exit code {code}")
    inner = RunFolder.open(path, verb=run.verb)
    summary, file = finished(inner), str(inner.file("summary.json"))
    run.check(check_summary(summary, run.kind, file), file)
    return summary
