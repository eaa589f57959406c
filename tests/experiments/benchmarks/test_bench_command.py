"""`robustkit bench` on suites of trivial work: files, tables, pages, comparisons, mistakes."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.benchmarks import suites
from experiments.benchmarks.peers import Agreement, Peer, versus
from experiments.benchmarks.record import Record, cost
from experiments.benchmarks.timing import timed
from robustkit.cli.main import main


def counting() -> Iterator[Record]:
    more, less = timed({"more": lambda: sum(range(20_000)), "less": lambda: sum(range(10))})
    yield cost("counting far", more, less, at_most=1e9)


def missing() -> Iterator[Record]:
    def agree(ours: int, theirs: int) -> Agreement:
        return Agreement(ours == theirs, "")

    peers: list[Peer[int]] = [Peer("foolbox", "foolbox", lambda: lambda: 0)]
    yield from versus("attacking", lambda: 0, peers, agree, rounds=1)


def missed() -> Iterator[Record]:
    more, less = timed({"more": lambda: sum(range(20_000)), "less": lambda: sum(range(10))})
    yield cost("counting far | in no time", more, less, at_most=1e-9)


def stopped() -> Iterator[Record]:
    yield from counting()
    raise KeyboardInterrupt


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """The verb with suites of our own, in an empty folder, without foolbox."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "foolbox", None)
    own: dict[str, Callable[[], Iterator[Record]]] = {"tiny": counting, "peerless": missing}
    for name, records in {**own, "hasty": missed, "stopping": stopped}.items():
        module = types.ModuleType(name)
        module.records = records  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"experiments.benchmarks.{name}", module)
    monkeypatch.setattr(suites, "SUITES", dict.fromkeys(own, "sums"))
    about = dict.fromkeys([*own, "hasty", "stopping"], "sums") | suites.GPU_SUITES
    for name, value in about.items():
        monkeypatch.setitem(suites.ABOUT, name, value)
    return lambda *arguments: main(["bench", *arguments])


def written(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(path).read_text())
    return found


def test_a_bench_ends_in_a_file_and_a_table(
    bench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench() == 0
    said = capsys.readouterr().out
    assert "ours/peer" in said
    assert "skipped: foolbox is not installed" in said
    assert said.endswith("exit code 0: no claim missed\n")
    found = written("runs/bench-1.json")
    assert found["format"] == 1
    assert {"cpu", "cores", "memory_gib", "os"} <= set(found["machine"])
    expected = {"python", "torch", "torchvision", "numpy", "deap", "torchattacks", "foolbox"}
    expected |= {"captum", "grad-cam", "zennit", "pycocotools", "ray"}
    assert expected <= set(found["versions"])
    tiny = found["suites"]["tiny"]
    assert tiny["threads"] == 1
    assert {"commit", "time", "seconds"} <= set(tiny)
    (record,) = tiny["records"]
    assert record["ratio"] == pytest.approx(record["ours"]["median"] / record["peer"]["median"])
    assert bench() == 0  # the next free file, the first one stays
    assert Path("runs/bench-2.json").is_file()


def test_a_missed_claim_is_exit_code_1(
    bench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("hasty", "--out", "b.json") == 1
    said = capsys.readouterr().out
    assert "MISSED" in said
    assert "missed: hasty: counting far | in no time" in said
    assert bench("--measured", "b.json") == 1


def test_a_file_is_added_to_but_never_lost(
    bench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("tiny", "--out", "b.json") == 0
    before = written("b.json")
    assert bench("--out", "b.json") == 2
    said = capsys.readouterr().err
    assert "b.json: exists; name the suites to be measured anew in it" in said
    assert "not in it yet: peerless" in said
    assert written("b.json") == before
    assert bench("peerless", "--out", "b.json") == 0
    assert written("b.json")["suites"]["tiny"] == before["suites"]["tiny"]
    assert set(written("b.json")["suites"]) == {"tiny", "peerless"}
    assert bench("stopping", "--out", "b.json") == 130
    assert "the suites that had ended are in b.json" in capsys.readouterr().err
    assert set(written("b.json")["suites"]) == {"tiny", "peerless"}
    elsewhere = written("b.json") | {"versions": {"torch": "1.0"}}
    Path("b.json").write_text(json.dumps(elsewhere))
    assert bench("tiny", "--out", "b.json") == 2
    assert "was measured elsewhere" in capsys.readouterr().err
    assert written("b.json") == elsewhere


def test_comparing_names_changes_and_other_machines(
    bench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("tiny", "--out", "old.json") == 0
    old = written("old.json")
    figure = old["suites"]["tiny"]["records"][0]["ours"]
    figure["values"] = [value / 1e6 for value in figure["values"]]
    old["machine"]["cpu"] = "an abacus"
    Path("fast.json").write_text(json.dumps(old))
    capsys.readouterr()
    assert bench("tiny", "--compare", "fast.json") == 0
    said = capsys.readouterr().out
    assert "not the same machine or versions: cpu an abacus → " in said
    assert "worse, beyond the spreads" in said
    assert "exit code 0: no claim missed; 1 worse than before" in said
    assert bench("--measured", "old.json", "--compare", "old.json") == 0
    said = capsys.readouterr().out
    assert "not the same machine" not in said
    assert "+0.0 %\twithin the spreads" in said


def test_a_page_is_made_from_a_file_and_replaces_only_its_own(
    bench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("hasty", "--out", "b.json") == 1
    assert bench("--measured", "b.json", "--page", "page.md") == 1
    page = Path("page.md").read_text()
    assert page.startswith("<!-- Made by")
    assert "## hasty" in page
    (row,) = (line for line in page.splitlines() if line.startswith("| counting"))
    assert "counting far \\| in no time" in row
    assert "more " in row
    assert "less " in row
    assert bench("--measured", "b.json", "--page", "page.md") == 1  # its own may go
    Path("page.md").write_text("somebody's own\n")
    capsys.readouterr()
    assert bench("tiny", "--page", "page.md") == 2
    assert "page.md: not made by `robustkit bench`" in capsys.readouterr().err
    assert Path("page.md").read_text() == "somebody's own\n"
    assert not Path("runs").exists()  # found out before anything was measured


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "not JSON"),
        ("[]", "it has no 'suites'"),
        ('{"suites": {}}', "format None; this robustkit reads 1"),
        ('{"format": 1, "machine": 1, "versions": {}, "suites": {}}', "machine: expected 'object'"),
        (
            '{"format": 1, "machine": {}, "versions": {}, "suites": {"x": {}}}',
            "required field 'time'",
        ),
        (None, "No such file"),
        ("[" * 100_000, "nested more than 64"),
        (
            '{"format": 1, "machine": {}, "versions": {"a": 1}, "suites": {}}',
            "versions.a: exp",
        ),
        ('{"format": 1, "machine": {}, "versions": {}, "suites": {"": {}}}', "without a name"),
    ],
)
def test_what_is_no_bench_is_one_line(
    content: str | None,
    match: str,
    bench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        Path("old.json").write_text(content)
    assert bench("tiny", "--compare", "old.json") == 2
    said = capsys.readouterr().err
    assert said.startswith("robustkit: error: old.json: ")
    assert match in said
    assert said.count("\n") == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["tinny"], "unknown benchmark 'tinny'; did you mean 'tiny'?"),
        (["--out", "nowhere/b.json"], "nowhere is not a folder"),
        (["--measured", "b.json", "--out", "c.json"], "--measured measures nothing"),
        (["tiny", "--device", "cpu"], "--device is of the GPU's suites"),
        (["tinny", "--list"], "unknown benchmark 'tinny'"),
        (["tiny", "--page", "."], ".: a folder; name the file of the page"),
        (["tiny", "--page", "nowhere/p.md"], "cannot write nowhere/p.md: nowhere is not a folder"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    match: str,
    bench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bench(*arguments) == 2
    assert match in capsys.readouterr().err
    assert not list(Path().glob("runs/*"))


def test_a_file_without_what_is_asked_for_makes_no_page(
    bench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("tiny", "--out", "b.json") == 0
    found = written("b.json")
    Path("empty.json").write_text(json.dumps(found | {"suites": {}}))
    Path("binary.md").write_bytes(b"\xff\xfe")
    for arguments, said in (
        (["empty.json"], "empty.json: holds no suite"),
        (["b.json", "peerless"], "b.json: holds nothing of peerless; it has tiny"),
        (["b.json", "--page", "binary.md"], "binary.md: not made by `robustkit bench`"),
    ):
        assert bench("--page", "page.md", "--measured", *arguments) == 2
        assert said in capsys.readouterr().err
        assert not Path("page.md").exists()


@pytest.mark.parametrize("huge", [10**400, float("nan"), True], ids=["huge", "nan", "true"])
@pytest.mark.parametrize("place", ["values", "bound", "seconds"])
def test_numbers_that_are_none_are_refused(
    huge: float, place: str, bench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("tiny", "--out", "b.json") == 0
    found = written("b.json")
    suite = found["suites"]["tiny"]
    record = suite["records"][0]
    if place == "values":
        record["ours"]["values"][0] = huge
    else:
        (record if place == "bound" else suite)[place] = huge
    Path("b.json").write_text(json.dumps(found))
    assert bench("--measured", "b.json") == 2
    error = capsys.readouterr().err
    assert ("b.json: not JSON" if huge != huge else "b.json: tiny: ") in error
    assert len(error) < 200


def test_suites_are_listed(bench: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--list") == 0
    assert "robust\tattacks beside" in capsys.readouterr().out


def test_options_come_from_a_file_as_they_are_printed(
    bench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("tiny", "hasty", "--print_config") == 0
    Path("options.yaml").write_text(capsys.readouterr().out)
    assert bench("--config", "options.yaml", "--out", "b.json") == 1
    assert set(written("b.json")["suites"]) == {"tiny", "hasty"}
