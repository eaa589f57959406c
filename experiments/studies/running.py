"""Run a study in its run folder: other commands first, then its jobs, then the summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import msgspec

from experiments.studies.base import (
    SCALES,
    Claim,
    CommandRun,
    Header,
    PaperItem,
    Plan,
    Results,
    Study,
    StudyJob,
    StudySummary,
    find,
)
from robustkit.cli.context import FREE
from robustkit.cli.parser import run_command
from robustkit.compute.seeds import check_seed
from robustkit.errors import ConfigError, RunError
from robustkit.jobs import Log, run_phases
from robustkit.reading import Json, check_kind
from robustkit.runs import RunFolder
from robustkit.runs.folder import finished
from robustkit.runs.summaries import check_lines, check_summary, shown


class Settings(TypedDict):
    """The settings of a study's run that say which study it is."""

    name: str
    seed: int
    scale: NotRequired[str]


def of_settings(config: Mapping[str, Any], path: Path) -> tuple[Study, PaperItem | None]:
    """Return the study, and the item of it, that the settings in the file `path` name.

    Raises `RunError`, naming the file, for settings that no study can have.
    """
    settings = check_kind(config, Settings, str(path), error=RunError)
    try:
        study, item = find(settings["name"])
        check_scale(study, settings.get("scale", "small"))
        check_seed(settings["seed"])
    except ConfigError as error:
        raise RunError(f"{path}: {error}") from error
    return study, item


def summary_of(study: Study, value: Mapping[str, Any], path: Path) -> Any:
    """Return the summary of a finished run of `study` that the file `path` holds.

    Raises `RunError`, naming the file, for another study's, and for what cannot be drawn.
    """
    header = check_kind(value, StudySummary, str(path), error=RunError)
    if header.study != study.name:
        raise RunError(f"{path}: of the study {shown(header.study)}, not of '{study.name}'")
    try:
        check_scale(study, header.scale)
    except ConfigError as error:
        raise RunError(f"{path}: {error}") from error
    return checked(study, value, str(path))


def checked(study: Study, value: Mapping[str, Any], where: str) -> Any:
    """Return a plain summary as the type of `study`, complete and consistent.

    Raises `RunError`, which begins with `where` and names the entry.
    """
    summary = check_summary(value, study.summary, where)
    check_lines(summary.to_json(), where)
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


def run_study(folder: RunFolder, log: Log) -> dict[str, object]:
    """Do what `folder` does not yet hold of the study its settings name; return the summary.

    The summary's `claims` hold the verdicts. Raises `RunError` where a job ends in anything but a
    result; what is done stays done.
    """
    study, item = find(folder.config["name"])
    plan = _plan(folder)
    needs = (lambda job: True) if item is None else item.needs
    results = _results(study, plan, needs, folder, log)
    summary = _summarised(study, item, plan, results)
    typed = checked(study, summary, f"{folder.path}: its results")
    return {**summary, "claims": [claim.to_json() for claim in claims_of(study, item, typed)]}


def claims_of(study: Study, item: PaperItem | None, summary: StudySummary) -> list[Claim]:
    """Return the claims of a study, or of one item of it; a rehearsal decides none of them."""
    claims = study.claims(summary)
    if summary.scale == "smoke":
        claims = [replace(claim, holds=None) for claim in claims]
    return [claim for claim in claims if item is None or claim.item == item.name]


def _results(
    study: Study,
    plan: Plan,
    needs: Callable[[StudyJob | CommandRun], bool],
    folder: RunFolder,
    log: Log,
) -> Results:
    """Run what is needed of the commands and jobs of a study; return their typed results."""
    study.prepare(plan)
    results: list[tuple[StudyJob | CommandRun, Any]] = [
        (run, _run(run, folder, log)) for run in study.commands(plan) if needs(run)
    ]
    phases = [[job for job in jobs if needs(job)] for jobs in study.jobs(plan)]
    if any(phases):
        jobs_by_id = {job.id: job for jobs in phases for job in jobs}
        for entry in run_phases(phases, folder, stage="study", log=log):
            job = jobs_by_id[entry.id]
            where = f"{folder.file('ledger.sqlite')}: trial '{entry.id}'"
            results.append((job, check_summary(entry.result, job.kind, where)))
    return Results(results)


def _summarised(study: Study, item: PaperItem | None, plan: Plan, results: Results) -> Json:
    """Return the plain summary of a study's results."""
    exhibit = None if item is None else item.name
    header = Header(scale=plan.scale, exhibit=exhibit, study=study.name)
    if study.summarise is not None:
        return study.summarise(results, header).to_json()
    plain: Json = msgspec.to_builtins({**header, **results.by_id()})
    return plain


def _plan(folder: RunFolder) -> Plan:
    config = folder.config
    settings = {name: config[name] for name in ("scale", "seed", "device", "weights", "images")}
    return Plan(folder=folder.path.resolve(), **settings)


def _run(run: CommandRun, folder: RunFolder, log: Log) -> Any:
    """Start, resume or only read a command's run inside the study's folder; return its summary."""
    path = folder.file(run.name)
    options = [f"--{name.replace('_', '-')}={folder.config[name]}" for name in FREE[:2]]
    if not path.exists():
        new = [*run.arguments, f"--out={path}", f"--seed={folder.config['seed']}"]
        code = run_command(run.command, [*new, f"--device={folder.config['device']}", *options])
    elif RunFolder.open(path, command=run.command).summary() is None:
        code = run_command(run.command, [f"--resume={path}", *options])
    else:
        code = 0
        log(f"{run.id}: there already")
    if code != 0:
        raise RunError(f"{run.id}: `robustkit {run.command}` ended with exit code {code}")
    inner = RunFolder.open(path, command=run.command)
    file = str(inner.file("summary.json"))
    summary = check_summary(finished(inner), run.kind, file)
    run.check(summary, file)
    return summary
