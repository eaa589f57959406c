"""Metrics as lines of JSON, added while a run goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from robustkit.errors import RunError
from robustkit.runs.atomic import is_disk_full


def append(path: Path, record: dict[str, Any]) -> None:
    """Add `record` as one line to the file at `path`.

    The rest of a line that a killed process left behind is removed first. Raises `ValueError` for
    NaN and infinities, `RunError` when the disk is full or the file cannot be written.
    """
    line = json.dumps(record, allow_nan=False) + "\n"
    try:
        with path.open("ab+") as file:
            _drop_torn_line(path, file.fileno())
            file.write(line.encode())
    except OSError as error:
        why = "no space left on the device" if is_disk_full(error) else error.strerror
        raise RunError(f"cannot write {path}: {why}") from error


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines of the file at `path`; none if there is no such file.

    Raises `RunError` that names a line which is no JSON object.
    """
    content = path.read_bytes() if path.exists() else b""
    records = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise RunError(f"{path} is damaged: line {number} is no JSON object")
        records.append(record)
    return records


def _drop_torn_line(path: Path, descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    if size > 0 and os.pread(descriptor, 1, size - 1) != b"\n":
        os.ftruncate(descriptor, path.read_bytes().rfind(b"\n") + 1)
