"""A study's run as its files hold it: foreign, edited and incomplete ones are refused in a line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from experiments.reproduce.registry import find
from experiments.reproduce.study import SCALES, Exhibit, Study
from experiments.summaries import check_lines, check_summary, shown
from robustkit.compute.seeds import check_seed
from robustkit.errors import ConfigError, RunError
from robustkit.reading import check_kind


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
