"""Jobs that end in every way a job can end. Workers import them from here."""

import os
import random
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustkit.jobs import DivergedError, Executor, InvalidCandidateError
from robustkit.jobs.shared import shared


@dataclass(frozen=True)
class Square:
    number: int

    def run(self) -> int:
        return self.number**2


@dataclass(frozen=True)
class Raise:
    error: BaseException

    def run(self) -> None:
        raise self.error


class UnpicklableError(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


@dataclass(frozen=True)
class RaiseUnpicklable:
    def run(self) -> None:
        raise UnpicklableError("kept")


@dataclass(frozen=True)
class Train:
    """A small training, whose weights show any difference in seeds or summation order."""

    seed: int

    def run(self) -> list[torch.Tensor]:
        torch.manual_seed(self.seed)
        net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 196, 10))
        images, labels = torch.rand(64, 3, 16, 16), torch.randint(10, (64,))
        for _ in range(3):
            loss = nn.functional.cross_entropy(net(images), labels)
            gradients = torch.autograd.grad(loss, list(net.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                    parameter.sub_(0.1 * gradient)
        return [parameter.detach() for parameter in net.parameters()]


@dataclass(frozen=True)
class Threads:
    def run(self) -> int:
        return torch.get_num_threads()


@dataclass(frozen=True)
class DrawGlobally:
    def run(self) -> float:
        torch.manual_seed(0)
        random.seed(0)
        return random.random() + float(torch.rand(()))


@dataclass(frozen=True)
class Sleep:
    seconds: float
    timeout: float | None = None

    def run(self) -> float:
        time.sleep(self.seconds)
        return self.seconds


@dataclass(frozen=True)
class Process:
    """Who works: shows that a worker outlives its job."""

    def run(self) -> int:
        return os.getpid()


@dataclass(frozen=True)
class Die:
    """Kills its process the first `times` times it is run; a file counts."""

    counter: Path
    times: int

    def run(self) -> int:
        count = int(self.counter.read_text()) if self.counter.exists() else 0
        if count < self.times:
            self.counter.write_text(str(count + 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return count


@dataclass(frozen=True)
class Allocate:
    mebibytes: int

    def run(self) -> int:
        return len(bytearray(self.mebibytes * 2**20)) // 2**20


@dataclass(frozen=True)
class AllocateTensor:
    mebibytes: int

    def run(self) -> int:
        return torch.ones(self.mebibytes, 2**20, dtype=torch.uint8).numel() // 2**20


@dataclass(frozen=True)
class Ones:
    mebibytes: int

    def run(self) -> bytes:
        return bytes([1]) * (self.mebibytes * 2**20)


@dataclass(frozen=True)
class SumOfShared:
    """The sum of an array that the executor shares; None where there is none."""

    name: str

    def run(self) -> int | None:
        array = shared(self.name)
        return None if array is None else int(array.sum())


@dataclass(frozen=True)
class Writes:
    """Tries to change a shared array."""

    name: str

    def run(self) -> tuple[bool, bool]:
        array = shared(self.name)
        try:
            array[0] = 7
        except ValueError:
            return bool(array.flags.owndata), False
        return bool(array.flags.owndata), True


DIVERGED = DivergedError("loss is nan")
INVALID = InvalidCandidateError("no such block")


def run_all(executor: Executor, *jobs: Any) -> list[Any]:
    """The outcomes of `jobs`, in the jobs' order."""
    ended = {id(job): outcome for job, outcome in executor.run(iter(jobs))}
    return [ended[id(job)] for job in jobs]
