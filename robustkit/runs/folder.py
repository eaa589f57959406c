"""The run folder: one directory that says what was run, where, and what came out."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from robustkit.errors import RunError
from robustkit.reading import (
    Json,
    check_kind,
    check_plain_folder,
    is_printable,
    open_inside,
    printable,
    read_json,
    read_yaml,
)
from robustkit.runs import atomic, metrics
from robustkit.runs.environment import environment

FORMAT = 1


# Of a file of a run that lacks what this version writes into it.
EDITED = "it was edited, or written by another version of robustkit"


@dataclass(frozen=True)
class RunFolder:
    """A folder with `config.yaml`, `env.json`, and the files that its `command` adds.

    `config` is the resolved configuration as plain values (what YAML and JSON can say), `env` is
    `robustkit.runs.environment` at the run's start.
    """

    path: Path
    command: str
    config: Json
    env: Json

    @classmethod
    def create(
        cls, path: Path | str, *, command: str, config: Mapping[str, Any], argv: list[str]
    ) -> RunFolder:
        """Create a run folder at `path`, which must not exist or be an empty folder.

        `config.yaml` is written last: a folder that has it is complete. Raises `RunError` if there
        is something at `path` already or it cannot be written, `TypeError` or `ValueError` for a
        config that is not plain.
        """
        path = Path(path)
        run = cls(path, command, _plain(config), environment(argv))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _claimed(path) as target:
                replace(run, path=target)._describe()
        except OSError as error:
            raise RunError(f"cannot create {path}: {error.strerror}") from error
        return run

    def _describe(self) -> None:
        self.write_json("env.json", self.env)
        saved = {"format": FORMAT, "verb": self.command, "config": self.config}
        text = yaml.safe_dump(saved, sort_keys=False, allow_unicode=True)
        atomic.write_text(self.file("config.yaml"), text)

    @classmethod
    def open(cls, path: Path | str, *, command: str | None = None) -> RunFolder:
        """Open the run folder at `path`, of this `command` if one is given.

        Raises `RunError` for a folder that is missing, is no run folder, is damaged, belongs to
        another command, or has a newer format.
        """
        path = Path(path)
        if not os.path.lexists(path / "config.yaml"):
            missing = "it has no config.yaml" if path.is_dir() else "there is no such folder"
            raise RunError(f"{path} is not a run folder: {missing}")
        saved = read_config(path / "config.yaml")
        if command is not None and saved["verb"] != command:
            raise RunError(f"{path} is a run of '{saved['verb']}', not of '{command}'")
        return cls(path, saved["verb"], saved["config"], read_object(path / "env.json"))

    @property
    def argv(self) -> list[str]:
        """The command line of the run; raises `RunError` where `env.json` does not tell it."""
        where = f"{self.file('env.json')}: command"
        return check_kind(self.env.get("command"), list[str], where, error=RunError)

    def file(self, name: str) -> Path:
        """Return the path of the file `name` in this folder."""
        return self.path / name

    def write_json(self, name: str, value: Any) -> None:
        """Write `value` to the file `name`, whole or not at all."""
        atomic.write_json(self.file(name), value)

    def write_summary(self, values: Mapping[str, Any]) -> None:
        """Write `summary.json`: the run has finished. Adds the format and the verb."""
        self.write_json("summary.json", {"format": FORMAT, "verb": self.command, **values})

    def summary(self) -> Json | None:
        """Return the values of `summary.json`, or None while the run has not finished."""
        path = self.file("summary.json")
        return read_object(path) if os.path.lexists(path) else None

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add one line to `metrics.jsonl`. See `robustkit.runs.metrics`."""
        metrics.append(self.file("metrics.jsonl"), record)

    def metrics(self) -> list[Json]:
        """Return the records of `metrics.jsonl`, without a last line that was cut off."""
        return metrics.read(self.file("metrics.jsonl"))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only process that writes this run.

        Raises `RunError` if another one does, and for a folder with links, pipes or devices in it,
        of which none is followed. The lock ends with the process that holds it, however that ends.
        """
        check_plain_folder(self.path, error=RunError)
        with open_inside(self.path, ".lock", "lock", error=RunError) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(f"{self.path} is in use by another process") from None
            except OSError as error:
                raise RunError(f"{self.path} cannot be locked: {error.strerror}") from None
            yield


def check_same_config(saved: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Check that the options `given` when a run is resumed are those it was started with.

    Options that are not in `given` are not looked at. Raises `RunError` that names the first
    option that differs, with both values; options of nested configurations have dotted names.
    """
    before, now = _flat(_plain(saved)), _flat(_plain(given))
    for name, value in now.items():
        if name not in before:
            raise RunError(f"option '{name}' is {value!r}, but the saved run has no such option")
        if before[name] != value:
            raise RunError(
                f"option '{name}' is {value!r}, but the saved run has {before[name]!r}; "
                "leave it out to go on, or start a new run"
            )


@contextmanager
def _claimed(path: Path) -> Iterator[Path]:
    """Yield the folder to write into: beside `path`, which it becomes when it is complete.

    So a process that is killed leaves no half of a run, and of two that make one at a moment one is
    told. An empty folder that is there already is filled where it is. Raises `RunError`.
    """
    taken = RunError(f"{path} exists already and is never overwritten; choose another folder")
    if path.exists():
        if not path.is_dir() or any(path.iterdir()):
            raise taken
        yield path
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        try:
            temporary.rename(path)
        except OSError as error:
            if path.exists():
                raise taken from error
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _flat(config: Mapping[str, Any], prefix: str = "") -> Json:
    flat: Json = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _plain(config: Mapping[str, Any]) -> Json:
    """Return `config` as it will be read back, with lists for tuples."""
    return dict(json.loads(json.dumps(config, allow_nan=False)))


def read_config(path: Path) -> Json:
    """Return `format`, `verb` and `config` of a `config.yaml`; raises `RunError`, naming it."""
    saved = read_yaml(path, error=RunError, follow=False)
    kinds = {"format": int, "verb": str, "config": dict}
    for key, kind in kinds.items():
        if not isinstance(saved, dict) or type(saved.get(key)) is not kind:
            raise RunError(f"{path} is not the configuration of a run: '{key}' is missing or wrong")
    if saved["format"] > FORMAT:
        raise RunError(
            f"{path} has format {saved['format']}, this robustkit reads up to {FORMAT}; "
            "use a newer robustkit"
        )
    try:
        _plain(saved["config"])
    except (TypeError, ValueError):
        raise RunError(f"{path}: config: an infinity, or a key that is no text") from None
    if not is_printable(saved["verb"]):
        raise RunError(f"{path} is a run of {printable(repr(saved['verb']))}, which is no command")
    return dict(saved)


def read_object(path: Path) -> Json:
    """Return the JSON object that a file holds; raises `RunError`, naming the file."""
    value = read_json(path, error=RunError, follow=False)
    if not isinstance(value, dict):
        raise RunError(f"{path} is damaged: it holds no JSON object")
    return value


def finished(folder: RunFolder) -> Json:
    """Return the summary of a run; raises `RunError` when it has not finished."""
    summary = folder.summary()
    if summary is None:
        raise RunError(f"{folder.path}: not finished, there is nothing to report yet")
    return summary
