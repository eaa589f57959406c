"""Standard streams that are closed, full, or whose reader has left."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import product

from tests.hostile.case import Case, Ending, Place
from tests.hostile.cases.environment import PLAIN, given

COMMANDS: dict[str, tuple[str, ...]] = {
    "help": ("--help",),
    "version": ("--version",),
    "help of a verb": ("train", "--help"),
    "options": ("train", "--print_config"),
    "mistake": ("trian",),
    "bench": ("bench", "--list"),
    "doctor": ("doctor",),
}
WAYS = ("closed", "full", "left", "for reading")
NAMES = ("stdin", "stdout", "stderr")


def cases() -> Iterator[Case]:
    """Quick commands and whole runs beside them; what they were to make is made."""
    for name, arguments in COMMANDS.items():
        for numbers in [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]:
            ways = ("closed",) if 0 in numbers else WAYS
            for way in ways:
                where = "+".join(NAMES[number] for number in numbers)
                yield Case(
                    f"streams/{name}/{where} {way}",
                    given(*arguments),
                    ends=(0, 1, 2),
                    before=_broken(way, *numbers),
                    mute=2 in numbers,
                )
    for way, number in product(WAYS, (1, 2)):
        for verb, prepare in {"attack": _attack, "train": _train, "evolve": _evolve}.items():
            if verb == "evolve" and way not in ("closed", "left"):
                continue
            yield Case(
                f"streams/{verb}/{NAMES[number]} {way}",
                prepare,
                ends=(0, 1, 2),
                before=_broken(way, number),
                after=_whole,
                mute=number == 2,
            )


def _broken(way: str, *numbers: int) -> Callable[[Place], None]:
    def before(place: Place) -> None:
        for number in numbers:
            if way == "closed":
                setattr(sys, NAMES[number], None)
                os.close(number)
            elif way == "left":
                reading, writing = os.pipe()
                os.close(reading)
                os.dup2(writing, number)
            else:
                path = {"full": "/dev/full", "for reading": "/dev/null"}[way]
                os.dup2(os.open(path, os.O_WRONLY if way == "full" else os.O_RDONLY), number)
            if way != "closed" and number:
                setattr(sys, NAMES[number], open(number, "w", closefd=False))  # noqa: SIM115

    return before


def _whole(place: Place, ending: Ending) -> str | None:
    if not (place.here / "run" / "summary.json").is_file():
        return f"the run has no summary; exit code {ending.code}"
    return None


def _attack(place: Place) -> Sequence[str]:
    model = str(place.run("train") / "model.safetensors")
    return ["attack", "--model", model, "--attack", "fgsm", "--eps", "0.1", *PLAIN, "--out", "run"]


def _train(place: Place) -> Sequence[str]:
    flags = ["--data", "digits", "--model", "vgg3?width=4", "--epochs", "1", "--train-size", "100"]
    return ["train", *flags, "--device", "cpu", "--out", "run"]


def _evolve(place: Place) -> Sequence[str]:
    from tests.evolution.protocol.runs import INLINE, TINY

    return ["evolve", *TINY, *INLINE, "--out", "run"]
