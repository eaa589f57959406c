"""Metrics as lines of JSON, added while a run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustkit.errors import RunError
from robustkit.reading import Json, open_inside, parse_json, read_bounded
from robustkit.runs.atomic import is_disk_full

LARGEST = 1024 * 2**20  # bytes
_BLOCK = 2**16


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add `record` as one line to the file at `path`, which is no link.

    The rest of a line that a killed process left behind is removed first. Raises `ValueError` for
    NaN and infinities, `RunError` when the disk is full or the file cannot be written.
    """
    line = json.dumps(record, allow_nan=False) + "\n"
    try:
        with open_inside(path.parent, path.name, "append", error=RunError) as file:
            _drop_torn_line(file.fileno())
            file.write(line.encode())
    except OSError as error:
        why = "no space left on the device" if is_disk_full(error) else error.strerror
        raise RunError(f"cannot write {path}: {why}") from error


def read(path: Path) -> list[Json]:
    """Return all whole lines of the file at `path`; none if there is no such file.

    Raises `RunError` that names a line which is no JSON object.
    """
    if not os.path.lexists(path):
        return []
    content = read_bounded(path, error=RunError, limit=LARGEST, follow=False)
    records = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        record = parse_json(line, f"{path}: line {number}", error=RunError)
        if not isinstance(record, dict):
            raise RunError(f"{path}: line {number}: no JSON object")
        records.append(record)
    return records


def _drop_torn_line(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    if size > 0 and os.pread(descriptor, 1, size - 1) != b"\n":
        while size > 0:  # backwards, a block at a time
            begin = max(size - _BLOCK, 0)
            newline = os.pread(descriptor, size - begin, begin).rfind(b"\n")
            if newline >= 0:
                begin += newline + 1
                break
            size = begin
        os.ftruncate(descriptor, begin)
