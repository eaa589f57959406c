"""One seed, one result: whoever computes it, however often it is killed, and wherever it lies.

Models, maps, ledgers and summaries are equal to the byte, seconds aside: on one process and two and
Ray, after five kills at random moments, moved and renamed between them, and resumed twice at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from robustkit.runs import RunFolder
from tests.adaptation.commands.runs import SMALL
from tests.evolution.protocol.kills import Victim
from tests.evolution.protocol.runs import INLINE, ONE_WORKER, RAY, TINY, TWO_WORKERS, rows
from tests.hostile.fixtures import made

KILLS = 5
VERBS = {"evolve": "evolve", "repair": "repair", "checkpoints": "explain", "adapt": "adapt"}
TAKEN = "is in use by another process"
_RESULTS = (".safetensors", ".npz", ".png")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the undisturbed inline runs are, and the training that some of them are of."""
    return tmp_path_factory.mktemp("undisturbed")


def arguments(kind: str, runs: Path) -> list[str]:
    """What `tests.hostile.fixtures` runs for this kind, without where it is carried out."""
    train = ["--run", str(made(runs, "train")), "--device", "cpu"]
    swarm = ["--attack-images", "10", "--iterations", "3", "--on-empty", "grow"]
    maps = ["--index", "0,5", "--method", "cav,saliency", "--no-check"]
    small = SMALL[: SMALL.index("--executor")]
    return {
        "evolve": TINY,
        "repair": [*train, *swarm],
        "checkpoints": [*train, *maps],
        "adapt": [*small, "--recipe", "source,adversarial", "--seeds", "1"],
    }[kind]


def found(folder: Path) -> dict[str, Any]:
    """All that a run came to: its results by their bytes, its ledger and its summary."""
    files = {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.suffix in _RESULTS
    }
    summary = RunFolder.open(folder).summary()
    assert summary is not None
    ledger = rows(folder) if (folder / "ledger.sqlite").exists() else []
    return {**files, "summary": _timeless(summary), "ledger": sorted(map(repr, ledger))}


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(each) for name, each in value.items() if name != "seconds"}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def same(folder: Path, kind: str, runs: Path) -> None:
    now, then = found(folder), found(made(runs, kind))
    assert now.keys() == then.keys()
    assert [name for name in then if now[name] != then[name]] == []


def _command(kind: str, runs: Path, run: Path, executor: Sequence[str]) -> list[str]:
    """The command that begins the run, or goes on with it where it has begun."""
    if (run / "config.yaml").exists():
        return ["--resume", str(run)]
    return [*arguments(kind, runs), *executor, "--out", str(run)]


def _struck(
    folder: Path,
    kind: str,
    runs: Path,
    executor: Sequence[str],
    between: Callable[[Path, int], Path] = lambda run, count: run,
) -> Path:
    """The run, killed at moments drawn from a seed and gone on with until it ends; its folder."""
    draw = random.Random(kind)
    run, output = folder / "run", folder / "output.txt"
    for count in range(KILLS + 1):
        victim = Victim(output, *_command(kind, runs, run, executor), verb=VERBS[kind])
        if count < KILLS:
            victim.process.join(draw.uniform(0.2, 2.0))
            victim.process.kill()
        victim.process.join()
        assert victim.process.exitcode in (0, -9), output.read_text()
        run = between(run, count)
    assert victim.process.exitcode == 0, output.read_text()
    return run


def _moved(run: Path, count: int) -> Path:
    """Another name in another folder, as if copied to another disk."""
    if not run.exists():
        return run
    # A run killed before it had a folder has not been moved yet.
    place = run.parents[run.parent.name.startswith("disk")] / f"disk {count}"
    place.mkdir()
    return run.rename(place / f"renamed-{count}")


@pytest.mark.parametrize("kind", ["repair", "checkpoints"])
def test_again_is_the_same(kind: str, runs: Path, tmp_path: Path) -> None:
    victim = Victim(
        tmp_path / "output.txt",
        *_command(kind, runs, tmp_path / "run", INLINE),
        verb=VERBS[kind],
    )
    victim.process.join()
    assert victim.process.exitcode == 0, (tmp_path / "output.txt").read_text()
    same(tmp_path / "run", kind, runs)


@pytest.mark.slow
@pytest.mark.parametrize("executor", [ONE_WORKER, TWO_WORKERS, RAY], ids=["1", "2", "ray"])
@pytest.mark.parametrize("kind", VERBS)
def test_executors_change_nothing(
    kind: str, executor: Sequence[str], runs: Path, tmp_path: Path
) -> None:
    if executor is RAY:
        pytest.importorskip("ray")
    victim = Victim(
        tmp_path / "output.txt",
        *_command(kind, runs, tmp_path / "run", executor),
        verb=VERBS[kind],
    )
    victim.process.join()
    assert victim.process.exitcode == 0, (tmp_path / "output.txt").read_text()
    same(tmp_path / "run", kind, runs)


@pytest.mark.slow
@pytest.mark.parametrize("executor", [INLINE, TWO_WORKERS], ids=["inline", "2"])
@pytest.mark.parametrize("kind", VERBS)
def test_five_kills_change_nothing(
    kind: str, executor: Sequence[str], runs: Path, tmp_path: Path
) -> None:
    same(_struck(tmp_path, kind, runs, executor), kind, runs)


@pytest.mark.slow
@pytest.mark.parametrize("kind", VERBS)
def test_moved_between_kills_it_is_the_same(kind: str, runs: Path, tmp_path: Path) -> None:
    same(_struck(tmp_path, kind, runs, INLINE, _moved), kind, runs)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["evolve", "adapt"])
def test_of_two_that_go_on_at_once_one_is_told(kind: str, runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = Victim(tmp_path / "first.txt", *_command(kind, runs, run, INLINE), verb=VERBS[kind])
    while not (run / "ledger.sqlite").exists() and first.process.is_alive():
        first.process.join(0.05)
    first.process.kill()
    first.process.join()
    outputs = [tmp_path / "second.txt", tmp_path / "third.txt"]
    both = [Victim(each, "--resume", str(run), verb=VERBS[kind]) for each in outputs]
    for each in both:
        each.process.join()
    codes = [each.process.exitcode for each in both]
    assert sorted(codes, key=str) == [0, 2], [each.read_text() for each in outputs]
    assert TAKEN in outputs[codes.index(2)].read_text()
    same(run, kind, runs)
