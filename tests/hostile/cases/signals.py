"""Signals and clocks: an end that is asked for is one line, and the folder can be gone on with."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.evolution.protocol.runs import INLINE, TINY, TWO_WORKERS
from tests.hostile.case import Case, Ending, Place, Send

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GO_ON = {
    "train": "start anew with: robustkit train --config run/config.yaml",
    "evolve": "go on with: robustkit evolve --resume run",
    "repair": "go on with: robustkit repair --resume run",
    "transfer": "start anew with: robustkit transfer --config run/config.yaml",
}


def cases() -> Iterator[Case]:
    """Each signal at moments of each kind of run."""
    for number in ASKING:
        for verb, prepare in _COMMANDS.items():
            yield Case(
                f"signals/{verb}/{number.name}",
                prepare,
                ends=(128 + number,),
                during=_at("config.yaml", 0.3, number),
                after=_told(verb, number),
            )
        yield Case(
            f"signals/early/{number.name}",
            _train,
            ends=(128 + number, -number),
            before=_slow_start(number),
        )
    for delay in (0.0, 0.5, 1.0, 2.0):
        for verb in ("evolve", "repair"):
            yield Case(
                f"signals/{verb}/after {delay:g} s",
                _COMMANDS[verb],
                ends=(0, 130),
                seconds=200,
                during=_at("metrics.jsonl", delay, signal.SIGINT),
            )
    for number in (signal.SIGTERM, signal.SIGINT):
        yield Case(
            f"signals/evolve beside workers/{number.name}",
            lambda place: ["evolve", *TINY, *TWO_WORKERS, "--out", "run"],
            ends=(128 + number,),
            during=_at("ledger.sqlite", 0.5, number),
            after=_told("evolve", number),
            seconds=200,
        )
    yield Case(
        "signals/train/ignored SIGHUP",
        _short,
        ends=(0,),
        before=_deaf,
        during=_at("config.yaml", 0, signal.SIGHUP),
    )
    yield Case(
        "signals/train/SIGPIPE", _short, ends=(0,), during=_at("config.yaml", 0, signal.SIGPIPE)
    )
    yield Case("signals/train/stopped at times", _short, ends=(0,), during=_stopped)
    yield Case("signals/train/twice", _COMMANDS["train"], ends=(130,), during=_twice)
    for name, clock in CLOCKS.items():
        yield Case(
            f"signals/clock/train/{name}",
            _short,
            ends=(0,),
            before=_clocked(clock),
            after=_no_negative,
        )
        yield Case(
            f"signals/clock/repair/{name}",
            _COMMANDS["repair"],
            ends=(0,),
            before=_clocked(clock),
            after=_no_negative,
        )
    yield Case(
        "signals/clock/evolve/back",
        _COMMANDS["evolve"],
        ends=(0,),
        before=_clocked(CLOCKS["back"]),
        seconds=200,
        after=_no_negative,
    )


def _train(place: Place) -> Sequence[str]:
    flags = ["--data", "digits", "--model", "vgg3?width=16", "--epochs", "500", "--device", "cpu"]
    return ["train", *flags, "--out", "run"]


def _short(place: Place) -> Sequence[str]:
    flags = ["--data", "digits", "--model", "vgg3?width=4", "--epochs", "2", "--train-size", "100"]
    return ["train", *flags, "--device", "cpu", "--out", "run"]


def _evolve(place: Place) -> Sequence[str]:
    return ["evolve", *TINY, *INLINE, "--out", "run"]


def _repair(place: Place) -> Sequence[str]:
    flags = ["--attack-images", "10", "--iterations", "3", "--on-empty", "grow", "--device", "cpu"]
    return ["repair", "--run", str(place.run("train")), *flags, "--out", "run"]


def _transfer(place: Place) -> Sequence[str]:
    folder = place.run("train")
    nets = [f"a={folder / 'model.safetensors'}", f"b={folder / 'history/epoch_0001.safetensors'}"]
    flags = ["--sources", *nets, "--targets", *nets, "--attack", "pgd?steps=400", "--eps", "0.1"]
    return [
        "transfer",
        *flags,
        "--data",
        "digits",
        "--cache",
        "none",
        "--device",
        "cpu",
        "--out",
        "run",
    ]


_COMMANDS: dict[str, Callable[[Place], Sequence[str]]] = {
    "train": _train,
    "evolve": _evolve,
    "repair": _repair,
    "transfer": _transfer,
}


def _at(file: str, delay: float, number: signal.Signals) -> Callable[[Place, Send], None]:
    """Send a signal so many seconds after the run has written a file."""

    def during(place: Place, send: Send) -> None:
        while place.here.exists() and not (place.here / "run" / file).exists():
            time.sleep(0.01)
        time.sleep(delay)
        send(number)

    return during


def _twice(place: Place, send: Send) -> None:
    _at("config.yaml", 0.3, signal.SIGINT)(place, send)
    time.sleep(0.002)
    send(signal.SIGINT)


def _stopped(place: Place, send: Send) -> None:
    draw = random.Random(0)
    for _ in range(20):
        time.sleep(draw.uniform(0.01, 0.1))
        send(signal.SIGSTOP)
        time.sleep(draw.uniform(0.001, 0.05))
        send(signal.SIGCONT)


def _slow_start(number: signal.Signals) -> Callable[[Place], None]:
    """The signal comes while options are read, before there is anything."""

    def before(place: Place) -> None:
        import robustkit.cli.parser

        parse = robustkit.cli.parser.CommandParser.parse

        def late(*arguments: object) -> object:
            os.kill(os.getpid(), number)
            return parse(*arguments)  # type: ignore[arg-type]

        robustkit.cli.parser.CommandParser.parse = late  # type: ignore[assignment]

    return before


def _deaf(place: Place) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _told(verb: str, number: signal.Signals) -> Callable[[Place, Ending], str | None]:
    how = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"

    def after(place: Place, ending: Ending) -> str | None:
        if ending.code != 128 + number:
            return None
        lines = [line for line in ending.err.splitlines() if line.startswith("robustkit: ")]
        if lines != [f"robustkit: {how}; {GO_ON[verb]}"]:
            return f"it does not say how to go on: {ending.err}"
        left = [each.name for each in (place.here / "run").rglob("*.tmp*")]
        return f"there are halves of files: {left}" if left else None

    return after


def _jumping() -> Iterator[float]:
    draw = random.Random(0)
    while True:
        yield draw.uniform(-1e6, 1e6)


CLOCKS: dict[str, Callable[[], Iterator[float]]] = {
    "back": lambda: (-3600.0 * count for count in range(10**9)),
    "forward": lambda: (3600.0 * count for count in range(10**9)),
    "jumping": _jumping,
}


def _clocked(jumps: Callable[[], Iterator[float]]) -> Callable[[Place], None]:
    """The time of day jumps at every look at it; the clock that only goes on does, now and then."""

    def before(place: Place) -> None:
        real, found = time.time, jumps()
        time.time = lambda: real() + next(found)

    return before


def _no_negative(place: Place, ending: Ending) -> str | None:
    run: Path = place.here / "run"
    for file in (run / "summary.json", run / "metrics.jsonl"):
        if file.is_file() and '"seconds": -' in file.read_text():
            return f"{file.name} tells of negative seconds"
    return None
