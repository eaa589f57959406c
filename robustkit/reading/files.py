"""Regular files up to a size: no pipe that never ends, no device, nothing that fills the memory."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, Literal

from robustkit.errors import RobustkitError

MIB = 2**20
LIMIT = 64 * MIB
"""Bytes of a file that is read whole, where its reader names no other limit."""
ENDLESS = 2**63 - 1
JSON_LIMIT = 1024 * MIB
"""Bytes of a JSON file that a data set brings: COCO's own instances have 470 MB."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISLNK, "a symbolic link"),
)


def read_bounded(
    path: Path | str, *, error: type[RobustkitError], limit: int = LIMIT, follow: bool = True
) -> bytes:
    """Return the bytes of the regular file at `path`, of which there may be `limit`.

    Raises `error`, naming the file, for one that is missing, cannot be read, is no regular file or
    is larger; without `follow` also for a symbolic link.
    """
    with open_bounded(path, error=error, limit=limit, follow=follow) as file:
        try:
            content = file.read(limit + 1)
        except (OSError, MemoryError) as failure:
            raise error(f"{path}: {reason(failure)}") from None
    if len(content) > limit:  # it grew since it was opened, or is one of /proc's
        raise error(f"{path}: {too_large(limit)}")
    return content


def read_text(
    path: Path | str,
    *,
    error: type[RobustkitError],
    limit: int = LIMIT,
    follow: bool = True,
    encoding: str = "utf-8",
) -> str:
    """Return the same as text; raises `error` also for what is not text of `encoding`."""
    content = read_bounded(path, error=error, limit=limit, follow=follow)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as failure:
        raise error(f"{path}: not text in UTF-8 (byte {failure.start:,})") from None


def open_bounded(
    path: Path | str, *, error: type[RobustkitError], limit: int = ENDLESS, follow: bool = True
) -> BufferedReader:
    """Open the regular file at `path` for reading; raises `error` as `read_bounded` does.

    What a library reads is handed over as this open file, so that it is what was looked at.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as failure:
        raise error(f"{path}: {reason(failure)}") from None
    try:
        check_opened(descriptor, str(path), error=error, limit=limit)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_regular(
    path: Path | str, *, error: type[RobustkitError], limit: int = ENDLESS, follow: bool = True
) -> None:
    """Check the same of a file that a library opens by its name, as a rule of any size."""
    open_bounded(path, error=error, limit=limit, follow=follow).close()


def check_opened(
    descriptor: int, where: str, *, error: type[RobustkitError], limit: int | None = None
) -> None:
    """Raise `error` unless an open file is a regular one with at most `limit` bytes."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{where}: {kind(status.st_mode)}, not a regular file")
    if limit is not None and status.st_size > limit:
        raise error(f"{where}: {too_large(limit)}")


def too_large(limit: int) -> str:
    """Say that something has more bytes than may be read."""
    size = f"{limit / MIB:,.0f} MiB" if limit >= MIB else f"{limit:,} bytes"
    return f"larger than {size}, which is more than such a file holds"


def kind(mode: int) -> str:
    """Return what a file is by its mode, with an article."""
    return next((name for is_one, name in _KINDS if is_one(mode)), "a special file")


def reason(failure: Exception) -> str:
    """Return why a file cannot be opened or read, without its name."""
    if isinstance(failure, MemoryError):
        return "more than there is memory for"
    if isinstance(failure, OSError):
        if failure.errno == errno.ELOOP:
            return "a symbolic link, which is not followed"
        return failure.strerror or str(failure)
    return " ".join(str(failure).split())  # a NUL byte, or what the file system cannot spell


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
        for item in held:
            os.close(item)
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
    """Yield all entries below a folder, sorted in each folder; links are not followed."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as failure:
            raise error(f"{here}: {reason(failure)}") from None
        yield from entries
        waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
