"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from robustkit.errors import RunError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_TEXTS = ("No space left on device", "database or disk is full", "File too large")


def is_disk_full(error: BaseException) -> bool:
    """Return whether `error` says that the disk, a quota or a file-size limit is exhausted.

    Libraries that write through native code raise errors of their own, so the text counts too.
    """
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return any(text in str(error) for text in _FULL_TEXTS)


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`, whose place it takes when the block ends.

    Nobody ever sees a half-written file under `path`: the temporary file keeps the suffix, is
    flushed to the disk, and replaces `path` in one step; an exception removes it and leaves
    `path` as it was. Raises `RunError` when the folder is not there, cannot be written to, or the
    disk is full.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise RunError(f"cannot write {path}: {path.parent} is not a folder")
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except Exception as error:
        reason = _why_unwritable(error, temporary)
        if reason is None:
            raise
        raise RunError(f"cannot write {path}: {reason}") from error
    finally:
        # Where nothing may be written any more it has to stay; the error was raised above.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all. Raises `RunError` as `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` to `path` as indented JSON, whole or not at all.

    Raises `ValueError` for NaN and infinities, which JSON does not have: a missing number is None.
    Raises `RunError` as `atomic_path`.
    """
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    write_text(path, text + "\n")


def _flush(path: Path) -> None:
    """Wait until the file or folder at `path` is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _why_unwritable(error: Exception, temporary: Path) -> str | None:
    """Return why `temporary` cannot be written, or None where `error` is something else."""
    if is_disk_full(error):
        return "no space left on the device"
    if isinstance(error, PermissionError) and error.filename in (temporary, str(temporary)):
        return "permission denied"
    return None
