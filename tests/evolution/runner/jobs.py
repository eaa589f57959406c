"""Jobs that end in every way a trial can end. Workers import them from here."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import Any

from robustkit.jobs import DivergedError, InvalidCandidateError


@dataclass(frozen=True)
class Answer:
    number: int

    def run(self) -> dict[str, Any]:
        return {"number": self.number}


@dataclass(frozen=True)
class Raise:
    error: Exception

    def run(self) -> dict[str, Any]:
        raise self.error


@dataclass(frozen=True)
class Hang:
    def run(self) -> dict[str, Any]:
        while True:
            time.sleep(1)


@dataclass(frozen=True)
class Allocate:
    gibibytes: int

    def run(self) -> dict[str, Any]:
        return {"length": len(bytearray(self.gibibytes * 2**30))}


@dataclass(frozen=True)
class Die:
    def run(self) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}


DIVERGED = Raise(DivergedError("the loss is not finite"))
INVALID = Raise(InvalidCandidateError("no such block"))
BUG = Raise(KeyError("a bug"))
