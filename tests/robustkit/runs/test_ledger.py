import dataclasses
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustkit.errors import RunError
from robustkit.runs.ledger import Entry, Ledger

OUTCOMES = ["Ok", "Diverged", "Timeout", "OutOfMemory", "Invalid", "Lost"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
TRIALS = st.builds(
    Entry,
    id=st.text(min_size=1),
    stage=st.sampled_from(["evolve", "random"]),
    key=st.text(),
    payload=st.dictionaries(st.text(), JSON, max_size=3),
    outcome=st.sampled_from(OUTCOMES),
    reason=st.text(),
    result=st.none() | st.dictionaries(st.text(), JSON, max_size=3),
    seconds=st.floats(0, 1e6),
)


def trial(number: int = 0, **changes: Any) -> Entry:
    fields: dict[str, Any] = {
        "id": f"t{number:03}",
        "stage": "evolve",
        "key": "k",
        "payload": {"number": number},
        "outcome": "Ok",
        "result": {"accuracy": 0.5},
    }
    return Entry(**(fields | changes))


@given(st.lists(TRIALS, unique_by=lambda t: t.id, max_size=5))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_recorded_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, recorded: list[Entry]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    with Ledger.create(path) as ledger:
        for one in recorded:
            ledger.record(one)
    with Ledger.open(path) as ledger:
        assert sorted(ledger.trials(), key=lambda t: t.id) == sorted(recorded, key=lambda t: t.id)
        assert [t.id for t in ledger.trials()] == sorted(
            (t.id for t in recorded), key=lambda i: i.encode("utf-8")
        )
        for stage in ("evolve", "random"):
            mine = [t for t in recorded if t.stage == stage]
            assert {t.id for t in ledger.trials(stage)} == {t.id for t in mine}
            counts = {o: sum(t.outcome == o for t in mine) for o in OUTCOMES}
            assert ledger.counts(stage) == {o: n for o, n in counts.items() if n}
        assert sum(ledger.counts().values()) == len(recorded)
        assert all(ledger.get(t.id) == t for t in recorded)
        assert ledger.get("\x00 no such trial") is None


def test_recording_the_same_trial_again_changes_nothing(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "l") as ledger:
        ledger.record(trial(seconds=1.0))
        ledger.record(trial(seconds=2.0))
        assert ledger.trials() == [trial(seconds=1.0)]


@pytest.mark.parametrize(
    "change", [{"payload": {}}, {"result": None}, {"outcome": "Lost"}, {"key": "x"}]
)
def test_other_contents_under_the_same_id_are_refused(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    with Ledger.create(tmp_path / "l") as ledger:
        ledger.record(trial())
        with pytest.raises(RunError, match="trial 't000' is recorded with other contents"):
            ledger.record(dataclasses.replace(trial(), **change))
        assert ledger.trials() == [trial()]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_a_bug(tmp_path: Path, value: float) -> None:
    with Ledger.create(tmp_path / "l") as ledger:
        with pytest.raises(ValueError, match="JSON compliant"):
            ledger.record(trial(result={"accuracy": value}))
        assert ledger.trials() == []


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "l").write_text("precious")
    with pytest.raises(RunError, match="exists already"):
        Ledger.create(tmp_path / "l")
    assert (tmp_path / "l").read_text() == "precious"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Ledger.create(tmp_path / "ledger.sqlite") as ledger:
        for number in range(40):
            ledger.record(trial(number, reason="x" * 600))
    return tmp_path / "ledger.sqlite"


def test_a_missing_ledger(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nowhere is missing"):
        Ledger.open(tmp_path / "nowhere")


@pytest.mark.parametrize("size", [0, 50, 1000, 4096, 10_000, 20_001])
def test_a_truncated_ledger(path: Path, size: int) -> None:
    content = path.read_bytes()
    assert size < len(content)
    path.write_bytes(content[:size])
    with pytest.raises(RunError, match=r"ledger\.sqlite (cannot be used|is damaged|is not a)"):
        Ledger.open(path)


@pytest.mark.parametrize("place", [0, 20, 4096, 4101, 12_300])
def test_a_corrupt_ledger(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place : place + 64] = b"\xa5" * 64
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"ledger\.sqlite (cannot be used|is damaged|is not a)"):
        Ledger.open(path)


def test_another_database_is_no_ledger(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "other")
    connection.execute("CREATE TABLE trials (id)")
    connection.close()
    with pytest.raises(RunError, match="other is not a ledger of robustkit"):
        Ledger.open(tmp_path / "other")


def test_a_newer_format_is_refused_with_advice(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 3")
    connection.close()
    with pytest.raises(RunError, match=r"has ledger format 3, .* up to 2; use a newer robustkit"):
        Ledger.open(path)


def test_a_full_disk_keeps_what_is_there(path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Ledger.open(path) as ledger:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
        try:
            with pytest.raises(RunError, match=r"ledger\.sqlite cannot be used: "):
                ledger.record(trial(500, reason="x" * 20_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert len(ledger.trials()) == 40
        ledger.record(trial(501))
    with Ledger.open(path) as ledger:
        assert len(ledger.trials()) == 41


def test_sqlites_own_word_for_a_full_disk(path: Path) -> None:
    with Ledger.open(path) as ledger:
        ledger._connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(RunError, match="cannot be used: no space left on the device"):
            ledger.record(trial(500, reason="x" * 100_000))


WRITER = """
import sys
from robustkit.runs.ledger import Ledger, Entry
with Ledger.open(sys.argv[1]) as ledger:
    for number in range(100_000):
        ledger.record(Entry(id=f"w{number:06}", stage="a", key="k", payload={}, outcome="Ok"))
        print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing_it_has_recorded(path: Path) -> None:
    for _ in range(3):
        path.unlink(missing_ok=True)
        Ledger.create(path).close()
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            seen = [writer.stdout.readline() for _ in range(20)]
            os.kill(writer.pid, signal.SIGKILL)
            said = seen + writer.stdout.readlines()
        with Ledger.open(path) as ledger:
            recorded = [t.id for t in ledger.trials()]
        complete = [line for line in said if line.endswith("\n")]
        assert len(recorded) >= len(complete) >= 20
        assert recorded == [f"w{number:06}" for number in range(len(recorded))]


def test_trials_are_told_in_the_order_of_their_recording(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "ledger.sqlite") as ledger:
        for number in (5, 1, 9, 3):
            ledger.record(trial(number, stage="odd" if number > 3 else "few"))
        ledger.record(trial(1, stage="few"))
        assert [each.id for each in ledger.in_order()] == [trial(n).id for n in (5, 1, 9, 3)]
        assert [each.id for each in ledger.in_order("few")] == [trial(n).id for n in (1, 3)]


def test_a_ledger_of_the_first_format_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.create(path) as ledger:
        for number in (2, 1, 3):
            ledger.record(trial(number))
    connection = sqlite3.connect(path)
    for statement in ("DROP INDEX by_number", "ALTER TABLE trials DROP COLUMN number"):
        connection.execute(statement)
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    with Ledger.open(path) as ledger:
        ledger.record(trial(0))
        assert [each.id for each in ledger.in_order()] == [trial(n).id for n in (1, 2, 3, 0)]
    with Ledger.open(path) as ledger:
        assert len(ledger.trials()) == 4
