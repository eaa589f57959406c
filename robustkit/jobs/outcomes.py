"""The outcomes of jobs, and which exceptions are an outcome rather than a bug."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robustkit.compute.devices import is_out_of_memory
from robustkit.errors import first_line


class DivergedError(ArithmeticError):
    """Raised by a job whose loss, weights or scores are no longer finite."""


class InvalidCandidateError(Exception):
    """Raised by a job whose candidate cannot be built or does not fit the data."""


class _Kind:
    """Base of all outcomes."""

    @property
    def kind(self) -> str:
        """The name of the outcome in ledgers and summaries, which is that of its class."""
        return type(self).__name__


@dataclass(frozen=True)
class Ok(_Kind):
    """The job returned `value`, after `seconds` of computation."""

    value: Any
    seconds: float = 0.0


@dataclass(frozen=True)
class Failure(_Kind):
    """The job ended without a value: `reason` in one line, after `seconds` of computation."""

    reason: str
    seconds: float = 0.0


class Diverged(Failure):
    """The loss, weights or scores were no longer finite."""


class Timeout(Failure):
    """The job ran past its time limit and was stopped."""


class OutOfMemory(Failure):
    """The job needed more memory than there is or than its limit."""


class Invalid(Failure):
    """The candidate cannot be built or does not fit the data."""


class Lost(Failure):
    """The worker died each time the job was started."""


Outcome = Ok | Diverged | Timeout | OutOfMemory | Invalid | Lost


def classify(error: BaseException, seconds: float = 0.0) -> Outcome | None:
    """Return the outcome that `error` stands for, or None for a bug, which stays an exception.

    >>> classify(DivergedError("the loss is not finite"))
    Diverged(reason='the loss is not finite', seconds=0.0)
    >>> classify(KeyError("a bug")) is None
    True
    """
    reason = first_line(error)
    if isinstance(error, DivergedError):
        return Diverged(reason, seconds)
    if isinstance(error, InvalidCandidateError):
        return Invalid(reason, seconds)
    return OutOfMemory(reason, seconds) if is_out_of_memory(error) else None
