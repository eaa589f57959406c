"""Ledgers that somebody else made: databases that are none, and rows that no run records."""

from __future__ import annotations

import random
import shutil
import sqlite3
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from tests.hostile.case import EITHER, REFUSED, Case, Ending, Place

Change = Callable[[Path], object]
JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


def _sql(*statements: str) -> Change:
    """Change a ledger by statements, as anybody can; also its schema."""

    def change(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA writable_schema = ON")
            for statement in statements:
                connection.execute(statement)

    return change


_VIEW = "CREATE VIEW {} AS SELECT * FROM copy"
_RECURSION = (
    "CREATE VIEW trials AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) "
    "SELECT n AS id, 'evolve' AS arm, 'k' AS key, '{}' AS payload, 'Ok' AS outcome, '' AS reason, "
    "NULL AS result, 0.0 AS seconds, n AS number FROM c"
)
_COPY = ("CREATE TABLE copy AS SELECT * FROM trials", "DROP TABLE trials")
_NUL = r"UPDATE trials SET {} = CAST(x'00ff' AS TEXT)"
SCHEMAS: dict[str, tuple[str, ...]] = {
    "a view for the table": (*_COPY, _VIEW.format("trials")),
    "a view beside it": ("CREATE VIEW more AS SELECT * FROM trials",),
    "an endless view": ("DROP TABLE trials", _RECURSION),
    "a view of itself": ("DROP TABLE trials", "CREATE VIEW trials AS SELECT * FROM trials"),
    "a trigger": ("CREATE TRIGGER t AFTER INSERT ON trials BEGIN DELETE FROM trials; END",),
    "another table": ("CREATE TABLE more (a)",),
    "a full text table": ("CREATE VIRTUAL TABLE more USING fts5(a)",),
    "a table without keys": (*_COPY, "ALTER TABLE copy RENAME TO trials"),
    "an index on an expression": ("CREATE INDEX e ON trials (abs(number))",),
    "an index on random": ("CREATE INDEX e ON trials (length(hex(zeroblob(number))))",),
    "a partial index": ("CREATE INDEX e ON trials (arm) WHERE arm = 'evolve'",),
    "no index": ("DROP INDEX by_number",),
    "a generated column": ("ALTER TABLE trials ADD COLUMN g AS (seconds + 1)",),
    "a column with a default": ("ALTER TABLE trials ADD COLUMN g DEFAULT 1",),
    "a column of another name": ("ALTER TABLE trials RENAME COLUMN result TO outcome2",),
    "a check": (
        "UPDATE sqlite_master SET sql = replace(sql, 'result TEXT', 'result TEXT CHECK(1)') "
        "WHERE name = 'trials'",
    ),
    "a foreign collation": (
        "UPDATE sqlite_master SET sql = replace(sql, 'arm TEXT', 'arm TEXT COLLATE nocase') "
        "WHERE name = 'trials'",
    ),
    "a table that is a view by its type": (
        "UPDATE sqlite_master SET type = 'view' WHERE name = 'trials'",
    ),
    "a page that lies elsewhere": ("UPDATE sqlite_master SET rootpage = 1 WHERE name = 'trials'",),
    "a page beyond the end": ("UPDATE sqlite_master SET rootpage = 9999 WHERE name = 'trials'",),
    "an index that is the table": (
        "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE "
        "name = 'trials') WHERE name = 'by_number'",
    ),
    "a schema that is none": ("UPDATE sqlite_master SET sql = 'CREATE' WHERE name = 'trials'",),
    "a name with an escape": ('CREATE TABLE "\x1b[2J\nmore" (a)',),
    "statistics": ("ANALYZE",),
    "another application": ("PRAGMA application_id = 0x12345678",),
    "no application": ("PRAGMA application_id = 0",),
    "a newer format": ("PRAGMA user_version = 99",),
    "a format that never was": ("PRAGMA user_version = -3",),
    "the first format by its number alone": ("PRAGMA user_version = 1",),
}
_ONE = "WHERE id = (SELECT min(id) FROM trials WHERE arm = 'evolve')"
_FINAL = "WHERE id = 'final/E-0'"
_JUDGE = "WHERE id = 'judge/E-0'"


def _set(column: str, value: str, where: str = _ONE) -> tuple[str, ...]:
    return (f"UPDATE trials SET {column} = {value} {where}",)


def _json(column: str, key: str, value: str, where: str = _ONE) -> tuple[str, ...]:
    return (f"UPDATE trials SET {column} = json_set({column}, '$.{key}', {value}) {where}",)


ROWS: dict[str, tuple[str, ...]] = {
    "no result": _set("result", "NULL"),
    "empty result": _set("result", "'{}'"),
    "result for a failure": _set("outcome", "'Diverged'"),
    "result is a list": _set("result", "'[]'"),
    "result is null": _set("result", "'null'"),
    "result is no JSON": _set("result", "'{'"),
    "result with NaN": _set("result", """'{"accuracy": NaN}'"""),
    "result is deep": _set("result", "replace(hex(zeroblob(5000)), '00', '[')"),
    "result is a blob": _set("result", "x'00ff'"),
    "accuracy is text": _json("result", "accuracy", "'high'"),
    "accuracy above one": _json("result", "accuracy", "1.5"),
    "accuracy is negative": _json("result", "accuracy", "-0.1"),
    "transfer is huge": _json("result", "transfer", "1e300"),
    "macs are huge": _json("result", "macs", "9e18"),
    "macs are negative": _json("result", "macs", "-1"),
    "transfer_n is half": _json("result", "transfer_n", "0.5"),
    "cosine beyond one": _json("result", "cos_abs", "7"),
    "unknown outcome": _set("outcome", "'Splendid'"),
    "outcome with an escape": _set("outcome", "'\x1b[31mOk'"),
    "unknown arm": _set("arm", "'explain'"),
    "another arm": _set("arm", "'random'"),
    "payload is null": _set("payload", "'null'"),
    "payload is empty": _set("payload", "'{}'"),
    "payload is no JSON": _set("payload", "'{]'"),
    "number is text": _json("payload", "number", "'one'"),
    "number is negative": _json("payload", "number", "-1"),
    "another number": _json("payload", "number", "3"),
    "its own parent": _json("payload", "parents", "json('[0]')", "WHERE id = 'evolve/0000'"),
    "a parent that comes later": _json("payload", "parents", "json('[5000]')"),
    "parents are text": _json("payload", "parents", "'Adam'"),
    "generation is huge": _json("payload", "generation", "9e300"),
    "operator is a list": _json("payload", "operator", "json('[1]')"),
    "rung is five": _json("payload", "rung", "5"),
    "another key": _json("payload", "genotype_key", "'0123456789abcdef'"),
    "no genotype": _json("payload", "genotype", "NULL"),
    "no blocks": _json("payload", "genotype.blocks", "json('[]')"),
    "a block of another kind": _json("payload", "genotype.blocks[0].kind", "'attention'"),
    "a block with its own output": _json("payload", "genotype.blocks[0].inputs", "json('[1]')"),
    "a block of many channels": _json("payload", "genotype.blocks[0].channels", "1e9"),
    "a block with a new gene": _json("payload", "genotype.blocks[0].more", "1"),
    "another genotype": (
        "UPDATE trials SET payload = (SELECT payload FROM trials WHERE id = 'random/0001') " + _ONE,
    ),
    "another trial's key": _set("key", "'0123456789abcdef/0'"),
    "key with an escape": _set("key", "'\x1b[2J'"),
    "endless seconds": _set("seconds", "9e999"),
    "negative seconds": _set("seconds", "-1.0"),
    "seconds are text": _set("seconds", "'long'"),
    "seconds are a blob": _set("seconds", "x'31'"),
    "id is a blob": _set("id", "x'6162'"),
    "id with an escape": _set("id", "'evolve/\x1b[2J\n0000'"),
    "id of 100,000 characters": _set("id", "hex(zeroblob(50000))"),
    "id is no text in UTF-8": (_NUL.format("id") + " " + _ONE,),
    "reason is no text in UTF-8": (_NUL.format("reason") + " " + _ONE,),
    "no number in order": _set("number", "NULL"),
    "number in order is text": _set("number", "'first'"),
    "number in order is the largest": _set("number", "9223372036854775807"),
    "number in order is negative": _set("number", "-5"),
    "a row of a repair": (
        "INSERT INTO trials VALUES ('run 0', 'repair', 'run 0', '{}', 'Ok', '', '{}', 1.0, 999)",
    ),
    "a row of an adaptation": (
        "INSERT INTO trials VALUES ('source/0', 'adapt', 'source/0', '{\"recipe\": \"source\"}', "
        "'Ok', '', '{\"curve\": []}', 1.0, 999)",
    ),
    "a row of a candidate that nobody asked for": (
        "INSERT INTO trials SELECT 'evolve/0077', arm, key, json_set(payload, '$.number', 77), "
        "outcome, reason, result, seconds, 999 FROM trials " + _ONE,
    ),
    "a final of nobody": ("UPDATE trials SET id = 'final/X-0', key = 'final/X-0' " + _FINAL,),
    "a final of R": ("UPDATE trials SET id = 'final/R-0', key = 'final/R-0' " + _FINAL,),
    "curves are text": _json("result", "curves.train_loss", "'falling'", _FINAL),
    "curves are huge": _json("result", "curves.train_loss", "json('[1e300, 1e308]')", _FINAL),
    "curves are zero": _json("result", "curves.train_loss", "json('[0, 0]')", _FINAL),
    "curves are nested": _json("result", "curves.val_acc", "json('[[1]]')", _FINAL),
    "curves are empty": _json("result", "curves", "json('{}')", _FINAL),
    "a judged net without size": _set("result", "'{\"clean_acc\": 0.5}'", _JUDGE),
    "a judged net of another name": ("UPDATE trials SET id = 'judge' " + _JUDGE,),
    "a judged net that failed": (
        "UPDATE trials SET outcome = 'Lost', reason = 'x', result = NULL " + _JUDGE,
    ),
    "R was never prepared": ("DELETE FROM trials WHERE id = 'prepare'",),
    "R was prepared badly": _json("result", "accuracy", "7", "WHERE id = 'prepare'"),
    "a baseline without accuracy": (
        "UPDATE trials SET result = json_remove(result, '$.accuracy') WHERE id = 'baseline/R2'",
    ),
    "no rows": ("DELETE FROM trials",),
    "a huge row": ("UPDATE trials SET reason = hex(zeroblob(40000000)) " + _ONE,),
}
# What is no harm: a page is drawn of it, or the run goes on and makes again what is missing.
ASKED = "a row of a candidate that nobody asked for"
HARMLESS = {"no rows", "R was never prepared", "curves are empty", "curves are zero"}


def _cut(size: int) -> Change:
    return lambda path: path.write_bytes(path.read_bytes()[:size])


def _written(offset: int, content: bytes) -> Change:
    def change(path: Path) -> None:
        whole = bytearray(path.read_bytes())
        whole[offset : offset + len(content)] = content
        path.write_bytes(whole)

    return change


def _damaged(seed: int) -> Change:
    def change(path: Path) -> None:
        whole, chosen = bytearray(path.read_bytes()), random.Random(seed)
        for _ in range(1 + 10 * seed):
            whole[chosen.randrange(len(whole))] ^= 1 << chosen.randrange(8)
        path.write_bytes(whole)

    return change


def _wal(path: Path) -> None:
    _sql("PRAGMA journal_mode = WAL")(path)


def _beside(suffix: str, size: int) -> Change:
    def change(path: Path) -> None:
        _wal(path)
        path.with_name(path.name + suffix).write_text("x" * size)

    return change


def _wal_with_rows(path: Path) -> None:
    """A ledger in WAL mode whose last row lies in the -wal file alone."""
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("UPDATE trials SET outcome = 'Splendid' " + _ONE)
        for suffix in ("", "-wal"):
            shutil.copy(f"{copy}{suffix}", f"{path}{suffix}")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{copy}{suffix}").unlink(missing_ok=True)


def _journal(content: bytes) -> Change:
    return lambda path: path.with_name(path.name + "-journal").write_bytes(content)


def _header(pages: int = 0, size: int = 4096) -> bytes:
    told = struct.pack(">8sIIIII", JOURNAL_MAGIC, pages, 1, 1, 512, size)
    return told + bytes(512 - len(told))


def _sparse(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(2**41)


def _sparse_journal(path: Path) -> None:
    with path.with_name(path.name + "-journal").open("wb") as file:
        file.truncate(2**41)


FILES: dict[str, Change] = {
    "empty": _cut(0),
    "one byte": _cut(1),
    "a header alone": _cut(100),
    "half a page": _cut(2048),
    "a page": _cut(4096),
    "without its end": lambda path: path.write_bytes(path.read_bytes()[:-4096]),
    "with more behind": lambda path: path.write_bytes(path.read_bytes() + b"x" * 5000),
    "text": lambda path: path.write_text("no database\n"),
    "zeros": lambda path: path.write_bytes(bytes(8192)),
    "header and zeros": lambda path: path.write_bytes(path.read_bytes()[:100] + bytes(20_000)),
    "sparse": _sparse,
    "page size of zero": _written(16, b"\0\0"),
    "page size of three": _written(16, b"\0\3"),
    "reserved bytes": _written(20, b"\xff"),
    "more pages than there are": _written(28, struct.pack(">I", 2**31)),
    "a free list in a circle": _written(32, struct.pack(">II", 1, 5)),
    "another encoding": _written(56, struct.pack(">I", 3)),
    "a schema format of 99": _written(44, struct.pack(">I", 99)),
    "a vacuum that never was": _written(52, struct.pack(">I", 7)),
    "a header of WAL mode": _written(18, b"\2\2"),
    "a header of a mode to come": _written(18, b"\7\7"),
    "WAL mode": _wal,
    "a WAL that is text": _beside("-wal", 5000),
    "a wrong row in the WAL": _wal_with_rows,
    "an shm that is text": _beside("-shm", 40_000),
    "a journal of nothing": _journal(b""),
    "a journal that is text": _journal(b"no journal" * 100),
    "a journal of zeros": _journal(bytes(5000)),
    "a journal of a header": _journal(_header()),
    "a journal of many pages": _journal(_header(pages=2**31)),
    "a journal of another page size": _journal(_header(pages=1, size=512) + b"x" * 5000),
    "a sparse journal": _sparse_journal,
    **{f"random damage {seed}": _damaged(seed) for seed in range(8)},
}
SOUND = {
    "WAL mode",
    "a journal of nothing",
    "a header of WAL mode",
    *(name for name in FILES if name.startswith(("a journal", "random", "a WAL", "an shm"))),
    "a free list in a circle",
    "with more behind",
}
"""What SQLite may put right, or never looks at."""


def cases() -> Iterator[Case]:
    """Report, resume and reuse of runs whose ledger somebody made."""
    for name, statements in SCHEMAS.items():
        for command in ("report", "resume", "reuse"):
            yield _case(f"ledger/{command}/schema/{name}", _sql(*statements), command)
    for name, statements in ROWS.items():
        for command in ("report", "resume"):
            ends = EITHER if name in HARMLESS else REFUSED
            yield _case(f"ledger/{command}/row/{name}", _sql(*statements), command, ends)
    for name in [each for each in ROWS if each not in HARMLESS | {ASKED}][::4]:
        yield _case(f"ledger/reuse/row/{name}", _sql(*ROWS[name]), "reuse")
    for name, change in FILES.items():
        for command in ("report", "resume"):
            ends = EITHER if name in SOUND else REFUSED
            yield _case(f"ledger/{command}/file/{name}", change, command, ends)
    for command in ("report", "resume", "reuse"):
        yield Case(
            f"ledger/{command}/file/a journal that names another file",
            _super_journal(command),
            says="names another file",
        )
        yield Case(f"ledger/{command}/nothing changes", _untouched(command), after=_as_it_was)
    for verb, run in (("adapt", "adapt"), ("explain", "checkpoints")):
        for name, statement in PIECES.items():
            yield Case(f"ledger/{run}/{name}", _piece(verb, run, statement))


PIECES = {
    "no result": "UPDATE trials SET result = NULL",
    "another outcome": "UPDATE trials SET outcome = 'Diverged'",
    "another arm": "UPDATE trials SET arm = 'evolve'",
    "another id": "UPDATE trials SET id = 'evolve/0000' WHERE id = (SELECT min(id) FROM trials)",
    "a view": "CREATE VIEW more AS SELECT 1",
    "another number": "UPDATE trials SET payload = json_set(payload, '$.number', 7, '$.epoch', 9)",
}


def _case(name: str, change: Change, command: str, ends: tuple[int, ...] = REFUSED) -> Case:
    def prepare(place: Place) -> Sequence[str]:
        folder = place.unfinished("evolve", "sent") if command == "resume" else None
        change((folder or place.copy("evolve", "sent")) / "ledger.sqlite")
        return _arguments(command)

    return Case(name, prepare, ends=ends, seconds=120)


def _arguments(command: str) -> list[str]:
    if command == "report":
        return ["report", "sent"]
    if command == "resume":
        return ["evolve", "--resume", "sent"]
    few = ["--population", "2", "--generations", "1", "--train-size", "60", "--test-size", "30"]
    return ["evolve", "--data", "digits", *few, "--reuse", "sent", "--device", "cpu"]


def _super_journal(command: str) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        folder = place.copy("evolve", "sent")
        if command == "resume":
            (folder / "summary.json").unlink()
        name = bytes(place.outside / "precious.txt")
        end = struct.pack(">II", len(name), sum(name)) + JOURNAL_MAGIC
        _journal(_header() + b"\0\0\0\1" + name + end)(folder / "ledger.sqlite")
        return _arguments(command)

    return prepare


def _untouched(command: str) -> Callable[[Place], Sequence[str]]:
    """A ledger in WAL mode and of a newer format: whoever looks at it leaves it as it is."""

    def prepare(place: Place) -> Sequence[str]:
        folder = place.copy("evolve", "sent")
        _sql("PRAGMA user_version = 99")(folder / "ledger.sqlite")
        if command == "resume":
            (folder / "summary.json").unlink()
        shutil.copy(folder / "ledger.sqlite", place.here / "before")
        return _arguments(command)

    return prepare


def _as_it_was(place: Place, ending: Ending) -> str | None:
    now = (place.here / "sent" / "ledger.sqlite").read_bytes()
    return None if now == (place.here / "before").read_bytes() else "the ledger was changed"


def _piece(verb: str, run: str, statement: str) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        _sql(statement)(place.unfinished(run, "sent") / "ledger.sqlite")
        return [verb, "--resume", "sent"]

    return prepare
