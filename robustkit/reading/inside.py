"""Files of a run folder, which somebody else may have sent: no link leads out of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

from robustkit.errors import RobustkitError
from robustkit.reading.bounded import LIMIT, check_opened, kind, reason

Mode = Literal["read", "append", "lock"]

_FLAGS = {
    "read": os.O_RDONLY,
    "append": os.O_RDWR | os.O_APPEND | os.O_CREAT,
    "lock": os.O_RDWR | os.O_CREAT,  # never cut: a lock's contents are nobody's business
}
_OPENED = {"read": "rb", "append": "ab+", "lock": "rb+"}
_CAREFUL = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_IN_PLACE = (".jsonl", ".sqlite", ".sqlite-journal", ".sqlite-wal", ".sqlite-shm")


def open_inside(
    folder: Path | str,
    name: str,
    mode: Mode = "read",
    *,
    error: type[RobustkitError],
    limit: int | None = LIMIT,
) -> IO[bytes]:
    """Open the regular file `name` below `folder`, following no link on the way.

    `mode` is `read`, `append` (made where it is missing, read and added to) or `lock` (made where
    it is missing, never changed). Raises `error`, naming the file, for a link, a pipe or a device
    in any place of `name`, for `..` and absolute names, for a file with a second name elsewhere
    that would be added to, and for one of more than `limit` bytes that would be read.
    """
    where = f"{folder}/{name}"
    *folders, last = name.split("/")
    if not last or any(part in ("", ".", "..") for part in folders) or last in (".", ".."):
        raise error(f"{where}: leads out of the folder")
    held: list[int] = []
    try:
        held.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
        for part in folders:
            inner = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            held.append(os.open(part, inner, dir_fd=held[-1]))
        descriptor = os.open(last, _FLAGS[mode] | _CAREFUL, 0o666, dir_fd=held[-1])
    except (OSError, ValueError) as failure:
        raise error(f"{where}: {reason(failure)}") from None
    finally:
        for each in held:
            os.close(each)
    try:
        check_opened(descriptor, where, error=error, limit=limit if mode == "read" else None)
        if mode == "append":
            _check_own(os.fstat(descriptor), where, error)
        return os.fdopen(descriptor, _OPENED[mode])
    except BaseException:
        os.close(descriptor)
        raise


def check_plain_folder(folder: Path | str, *, error: type[RobustkitError]) -> None:
    """Check that below `folder` there are folders and regular files only.

    To be called before anything in a folder from elsewhere is written: raises `error`, naming the
    first symbolic link, pipe, socket or device, and the first file that is written in place and
    has a second name elsewhere.
    """
    for entry in _entries(str(folder), error):
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            if entry.name.endswith(_IN_PLACE):
                _check_own(status, entry.path, error)
        elif not stat.S_ISDIR(status.st_mode):
            raise error(
                f"{entry.path}: {kind(status.st_mode)}; a run folder holds files and folders only, "
                "and nothing in this one was touched"
            )


def _check_own(status: os.stat_result, where: str, error: type[RobustkitError]) -> None:
    if status.st_nlink > 1:
        raise error(
            f"{where}: has {status.st_nlink} names (hard links), and would be changed under all of "
            "them; copy the folder with cp -r and go on with the copy"
        )


def _entries(folder: str, error: type[RobustkitError]) -> Iterator[os.DirEntry[str]]:
    """All entries below a folder, each folder's by name; links are not followed."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as failure:
            raise error(f"{here}: {reason(failure)}") from None
        yield from entries
        waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
