"""A study's run as its files hold it: foreign, edited and incomplete ones are refused in a line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.reproduce.registry import find
from experiments.reproduce.study import SCALES, Exhibit, Study
from experiments.wording import EDITED
from robustkit.compute.seeds import check_seed
from robustkit.errors import ConfigError, RunError


class Summary(dict[str, Any]):
    """A summary out of the file `path`: a part of it that is missing is no bug of who reads it."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._path = path

    def __missing__(self, name: str) -> Any:
        raise RunError(f"{self._path}: '{name}' is missing; {EDITED}")


def of_settings(config: Mapping[str, Any], path: Path) -> tuple[Study, Exhibit | None]:
    """The study, and the exhibit of it, that the settings in the file `path` name.

    Raises `RunError`, naming the file, for settings that no study can have.
    """
    for name, kind in (("name", str), ("seed", int)):
        if not isinstance(config.get(name), kind):
            raise RunError(f"{path}: '{name}' is missing or wrong; {EDITED}")
    try:
        study, exhibit = find(config["name"])
        check_scale(study, config.get("scale", "small"))
        check_seed(config["seed"])
    except ConfigError as error:
        raise RunError(f"{path}: {error}") from error
    return study, exhibit


def summary_of(study: Study, found: Mapping[str, Any], path: Path) -> Summary:
    """What the file `path` holds of a finished run of `study`; raises `RunError` for another's."""
    if found.get("study") != study.name:
        raise RunError(f"{path}: of the study {found.get('study')!r}, not of '{study.name}'")
    try:
        check_scale(study, found.get("scale", "small"))
    except ConfigError as error:
        raise RunError(f"{path}: {error}") from error
    return Summary(path, found)


def check_scale(study: Study, scale: Any) -> None:
    """Raise `ConfigError` for a scale that the study does not have."""
    if scale not in SCALES:
        raise ConfigError(f"--scale {scale}: one of {', '.join(SCALES)}")
    if scale not in study.scales:
        raise ConfigError(
            f"--scale {scale}: '{study.name}' has {' and '.join(study.scales)} alone, "
            "since nothing is published"
        )
