"""The ledger: the outcome of every trial, one row each, on the disk once it is recorded."""

from __future__ import annotations

import json
import math
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from robustkit.errors import RunError
from robustkit.reading import Json, check_regular, open_bounded, parse_json, printable
from robustkit.runs.atomic import atomic_path, is_disk_full

FORMAT = 2
LARGEST = 4 * 2**30
"""Bytes of a ledger: some ten thousand for each trial."""
APPLICATION = 0x524B4C47
"""What makes an SQLite file a ledger: "RKLG" in SQLite's application id."""

_SCHEMA = """
CREATE TABLE trials (
    id TEXT PRIMARY KEY, arm TEXT NOT NULL, key TEXT NOT NULL, payload TEXT NOT NULL,
    outcome TEXT NOT NULL, reason TEXT NOT NULL, result TEXT, seconds REAL NOT NULL,
    number INTEGER
) WITHOUT ROWID
"""
_INDEX = "CREATE UNIQUE INDEX by_number ON trials (number)"
# Format 1 had no numbers: its trials get them in the order of their ids.
_TO_FORMAT_2 = (
    "ALTER TABLE trials ADD COLUMN number INTEGER",
    "UPDATE trials SET number = told.place FROM "
    "(SELECT id, row_number() OVER (ORDER BY id) AS place FROM trials) AS told "
    "WHERE told.id = trials.id",
    _INDEX,
)
# What a ledger may hold, and nothing else: no view, no trigger, no column that computes.
_KNOWN = {"".join(item.split()) for item in (_SCHEMA, _INDEX)}
_KNOWN_1 = {item.replace(",numberINTEGER", "") for item in _KNOWN}
_SIDE_FILES = ("-journal", "-wal", "-shm")
_JOURNAL_END = bytes.fromhex("d9d505f920a163d7")  # of a journal that names another file
_LONGEST_ENTRY = 64 * 2**20  # bytes
_LONGEST_QUERY = 600.0  # seconds
_STEPS = 100_000  # of SQLite's machine between two looks at the clock
_STRANGE = (
    "SELECT count(*) FROM trials "
    "WHERE typeof(number) IS NOT 'integer' OR number NOT BETWEEN 1 AND 9007199254740992"
)
_COLUMNS = "id, arm, key, payload, outcome, reason, result, seconds"
_OF_STAGE = "WHERE arm = coalesce(?, arm)"  # None is any arm


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of a ledger: a trial, the stage of the run it belongs to, and its outcome.

    `id` is unique in the run; `stage` is the part of the run it belongs to; `key` is equal for
    trials of the same thing. `payload` (what was tried) and `result` are JSON objects without NaN
    and infinities. `outcome` is the name of an outcome, as in `robustkit.jobs.outcomes`.
    """

    id: str
    stage: str
    key: str
    payload: Json
    outcome: str
    reason: str = ""
    result: Json | None = None
    seconds: float = 0.0


class Ledger:
    """The trials of a run in one SQLite file.

    A trial is on the disk when `record` returns, so a killed run loses nothing it has recorded.
    All methods raise `RunError` when the disk is full or the file turns out to be damaged.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        copy: TemporaryDirectory[str] | None = None,
    ) -> None:
        self.path = path
        self._connection = connection
        self._copy = copy

    @classmethod
    def create(cls, path: Path | str) -> Ledger:
        """Create an empty ledger at `path`; raises `RunError` if there is a file already."""
        path = Path(path)
        if path.exists():
            raise RunError(f"{path} exists already; a ledger is never overwritten")
        with (
            atomic_path(path) as temporary,
            cls(path, _connect(temporary, "rwc")) as ledger,
            ledger._transaction() as connection,
        ):
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.execute(_SCHEMA)
            connection.execute(_INDEX)
        return cls(path, _connect(path, "rw"))

    @classmethod
    def open(cls, path: Path | str) -> Ledger:
        """Open the ledger at `path` for reading and adding, checked from end to end.

        Raises `RunError` for a file that is missing, no ledger, damaged, or of a newer format.
        """
        path = _safe_path(path)
        return cls(path, _connect(path, "rw"))._checked()

    @classmethod
    def read(cls, path: Path | str) -> Ledger:
        """Open the ledger at `path` for reading only: nothing in its folder changes.

        What a killed process left half done, and an older format, are put right in a copy that ends
        with the ledger. Raises `RunError` as `open` does.
        """
        path = _safe_path(path)
        if _is_settled(path):
            return cls(path, _connect(path, "ro"))._checked()
        copy = TemporaryDirectory(prefix="robustkit-")
        try:
            for file in (path, *_side_files(path)):
                shutil.copyfile(file, Path(copy.name) / file.name)
            connection = _connect(Path(copy.name) / path.name, "rw")
        except BaseException:
            copy.cleanup()
            raise
        return cls(path, connection, copy)._checked()

    def record(self, trial: Entry) -> None:
        """Add `trial`; a trial that is there already, with the same contents, is left as it is.

        Raises `ValueError` for NaN or infinities in it, and `RunError` if there is a different
        trial with its id. The time a trial took does not count as a difference.
        """
        row = _to_row(trial)
        with self._transaction() as connection:
            query = f"SELECT {_COLUMNS} FROM trials WHERE id = ?"
            old = connection.execute(query, (trial.id,)).fetchone()
            if old is None:
                last = connection.execute("SELECT max(number) FROM trials").fetchone()[0] or 0
                values = (*row, last + 1)
                connection.execute(f"INSERT INTO trials VALUES ({'?, ' * 8}?)", values)
            elif tuple(old[:-1]) != row[:-1]:
                raise RunError(f"{self.path}: trial '{trial.id}' is recorded with other contents")

    def get(self, trial_id: str) -> Entry | None:
        """Return the trial with this id, or None."""
        rows = self._select(f"SELECT {_COLUMNS} FROM trials WHERE id = ?", trial_id)
        return _from_row(rows[0], self.path) if rows else None

    def trials(self, stage: str | None = None) -> list[Entry]:
        """Return all trials, or those of one stage, in the order of their ids."""
        rows = self._select(f"SELECT {_COLUMNS} FROM trials {_OF_STAGE} ORDER BY id", stage)
        return [_from_row(row, self.path) for row in rows]

    def in_order(self, stage: str | None = None) -> list[Entry]:
        """Return the same in the order in which they were recorded."""
        rows = self._select(f"SELECT {_COLUMNS} FROM trials {_OF_STAGE} ORDER BY number", stage)
        return [_from_row(row, self.path) for row in rows]

    def counts(self, stage: str | None = None) -> dict[str, int]:
        """Return how many trials, or trials of one stage, ended in each outcome, by name."""
        query = f"SELECT outcome, COUNT(*) FROM trials {_OF_STAGE} GROUP BY 1 ORDER BY 1"
        return dict(self._select(query, stage))

    def close(self) -> None:
        """Close the file; the ledger cannot be used any more."""
        self._connection.close()
        if self._copy is not None:
            self._copy.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _select(self, query: str, *values: str | None) -> list[Any]:
        with self._errors_in_one_line(), _limited(self._connection):
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Carry out all statements of the block, or none."""
        with self._errors_in_one_line():
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                yield self._connection

    @contextmanager
    def _errors_in_one_line(self) -> Iterator[None]:
        """Turn errors of SQLite into one line that names the file."""
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            full, reason = "no space left on the device", " ".join(str(error).split())
            why = full if is_disk_full(error) else reason
            raise RunError(f"ledger {self.path} cannot be used: {why}") from error

    def _checked(self) -> Self:
        try:
            self._check()
        except BaseException:
            self.close()
            raise
        return self

    def _check(self) -> None:
        with self._errors_in_one_line(), _limited(self._connection):
            (application,) = self._connection.execute("PRAGMA application_id").fetchone()
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            held = self._connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        if application != APPLICATION:
            raise RunError(f"{self.path} is not a ledger of robustkit")
        if version < 1:
            raise RunError(f"{self.path} has ledger format {version}, which there never was")
        if version > FORMAT:
            raise RunError(
                f"{self.path} has ledger format {version}, this robustkit reads up to {FORMAT}; "
                "use a newer robustkit"
            )
        # Before any other statement: what a view or a trigger says would be carried out by it.
        for kind, name, sql in held:
            if "".join(str(sql).split()) not in (_KNOWN if version > 1 else _KNOWN_1):
                raise RunError(
                    f"ledger {self.path} holds a {printable(kind)} '{printable(name)}' that no "
                    "ledger has; it was not made by robustkit, or changed since"
                )
        if (version > 1) + 1 != len(held):
            raise RunError(f"ledger {self.path} is damaged: it lacks its table of trials")
        with self._errors_in_one_line(), _limited(self._connection):
            (state,) = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
            (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
            (size,) = self._connection.execute("PRAGMA page_size").fetchone()
            (strange,) = self._connection.execute(
                _STRANGE if version > 1 else "SELECT 0"
            ).fetchone()
        # SQLite reads what a cut file lacks as zeros, and calls a short empty table sound.
        if state == "ok" and self.path.stat().st_size < pages * size:
            state = f"it has {self.path.stat().st_size} bytes of {pages * size}"
        if state == "ok" and strange:
            state = f"{strange} trials have no number in the order in which they were recorded"
        if state != "ok":
            raise RunError(f"ledger {self.path} is damaged: {' '.join(state.split())}")
        if version < 2:
            with self._transaction() as connection:
                for statement in _TO_FORMAT_2:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {FORMAT}")


def _safe_path(path: Path | str) -> Path:
    """Return the path of a ledger that is safe for SQLite, which follows links and journals.

    Raises `RunError` for one that is missing, and for one with a file beside it that is no regular
    file or leads SQLite to others.
    """
    path = Path(path)
    if not os.path.lexists(path):
        raise RunError(f"{path} is missing; a run that was started has a ledger")
    check_regular(path, error=RunError, follow=False, limit=LARGEST)
    for file in _side_files(path):
        # A journal may name a second one, which SQLite deletes when it has rolled back.
        with open_bounded(file, error=RunError, follow=False, limit=LARGEST) as opened:
            size = os.fstat(opened.fileno()).st_size
            if size >= len(_JOURNAL_END) and file.name.endswith("-journal"):
                opened.seek(-len(_JOURNAL_END), os.SEEK_END)
                if opened.read() == _JOURNAL_END:
                    raise RunError(f"{file} names another file, as no journal of a ledger does")
    return path


def _side_files(path: Path) -> list[Path]:
    """Return the files that SQLite left beside a database when its process was killed."""
    places = (path.with_name(path.name + suffix) for suffix in _SIDE_FILES)
    return [candidate for candidate in places if os.path.lexists(candidate)]


def _is_settled(path: Path) -> bool:
    """Return whether a ledger has today's format and no rest of a killed process."""
    if _side_files(path):
        return False
    with open_bounded(path, error=RunError, follow=False) as file:
        header = file.read(100)
    return header[60:64] == FORMAT.to_bytes(4, "big") and header[18:20] == b"\x01\x01"


@contextmanager
def _limited(connection: sqlite3.Connection) -> Iterator[None]:
    """Interrupt statements that take longer than any over a ledger's rows."""
    end = time.monotonic() + _LONGEST_QUERY
    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
    try:
        yield
    finally:
        with suppress(sqlite3.ProgrammingError):  # closed meanwhile
            connection.set_progress_handler(None, 0)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Return a connection whose commits wait for the disk and that runs nothing of a file's."""
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=30, isolation_level=None
        )
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_ENTRY)
        connection.execute("PRAGMA trusted_schema = OFF")
        if mode != "ro":
            connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = FULL")
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise RunError(f"ledger {path} cannot be used: {' '.join(str(error).split())}") from error
    return connection


def _to_row(trial: Entry) -> tuple[Any, ...]:
    def text(value: Any) -> str | None:
        return None if value is None else json.dumps(value, sort_keys=True, allow_nan=False)

    payload, result = text(trial.payload), text(trial.result)
    kept = (trial.id, trial.stage, trial.key, payload, trial.outcome, trial.reason, result)
    return (*kept, trial.seconds)


def _from_row(row: tuple[Any, ...], path: Path) -> Entry:
    trial_id, stage, key, payload, outcome, reason, result, seconds = row
    where = f"{path}: trial {printable(repr(trial_id))}"
    try:
        entry = Entry(
            id=trial_id,
            stage=stage,
            key=key,
            payload=parse_json(payload, where, error=RunError),
            outcome=outcome,
            reason=reason,
            result=None if result is None else parse_json(result, where, error=RunError),
            seconds=float(seconds),
        )
    except (TypeError, ValueError) as error:
        raise RunError(f"{where} is damaged: {printable(error)}") from None
    texts = (entry.id, entry.stage, entry.key, entry.outcome, entry.reason)
    plain = isinstance(entry.payload, dict) and isinstance(entry.result, dict | None)
    if not 0 <= entry.seconds < math.inf:
        raise RunError(f"{where} is damaged: it took {entry.seconds} seconds")
    plain = plain and isinstance(seconds, int | float)
    if not plain or not all(isinstance(text, str) for text in texts):
        raise RunError(f"{where} is damaged: an entry is of the wrong type")
    return entry
