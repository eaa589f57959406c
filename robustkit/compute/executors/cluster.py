"""Where the workers of an executor past one machine come from, and what each of them takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from robustkit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A Ray cluster: "auto" or HOST:PORT of one that runs, or None for one of this machine alone.

    Each worker takes so many CPUs and GPUs of it; fractions of a GPU pack several trials on one.
    After `recycle` jobs a worker is replaced by a fresh one, so that what leaks does not grow.
    Raises `ConfigError`.

    >>> Cluster(gpus_per_trial=1.5)
    Traceback (most recent call last):
    robustkit.errors.ConfigError: gpus_per_trial must be a fraction of one GPU or a whole number ...
    """

    address: str | None = None
    cpus_per_trial: float = 1.0
    gpus_per_trial: float = 0.0
    recycle: int = 1000

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cpus_per_trial) and self.cpus_per_trial > 0):
            raise ConfigError(f"cpus_per_trial must be above 0, not {self.cpus_per_trial:g}")
        gpus = self.gpus_per_trial
        if not (math.isfinite(gpus) and gpus >= 0) or (gpus > 1 and gpus != int(gpus)):
            raise ConfigError(
                "gpus_per_trial must be a fraction of one GPU or a whole number of them, not "
                f"{gpus:g}"
            )
        if self.recycle < 1:
            raise ConfigError(f"recycle must be at least 1, not {self.recycle}")
        if self.address is not None and self.address != "auto" and not _is_address(self.address):
            raise ConfigError(f"ray_address must be auto or HOST:PORT, not '{self.address}'")


def refuse_cluster(executor: str, cluster: Cluster | None) -> None:
    """Raise `ConfigError` where an executor of one machine is asked for a cluster's."""
    if cluster is not None and cluster != Cluster():
        raise ConfigError(
            f"executor '{executor}' knows no ray_address, cpus_per_trial nor gpus_per_trial; "
            "use 'ray'"
        )


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return bool(host and colon) and port.isdecimal() and 0 < int(port) < 65536
