"""Where the jobs of a run are carried out: options that change how fast it is, never what it says.

They may be given anew when a run is resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from experiments.options import VerbParser, real
from robustkit.compute import Ok
from robustkit.compute.executors import Cluster, Executor, Job, open_executor
from robustkit.errors import RunError

# What a resumed run may be given differently: results are the same to the bit whichever it is.
FREE = ("executor", "workers", "ray_address", "cpus_per_trial", "gpus_per_trial")


def add_executor_options(parser: VerbParser, jobs: str, *, default: str = "processes") -> Any:
    """`--executor`, `--workers` and where Ray's are; `jobs` is what is done at a time.

    Returns the group, for the limits of a verb that has any.
    """
    parser.adjust = for_executor
    group = parser.add_argument_group("executor")
    group.add_argument("--executor", default=default, help="inline, processes or ray")
    group.add_argument(
        "--workers",
        type=int,
        default=2,
        help=f"{jobs} at a time, one thread each; 0 with ray: as many as there is room for",
    )
    group.add_argument(
        "--ray-address", metavar="auto|HOST:PORT", help="Ray cluster to join; none: this machine"
    )
    group.add_argument("--cpus-per-trial", type=real, default=1.0, help="CPUs of each Ray worker")
    group.add_argument(
        "--gpus-per-trial", type=real, default=0.0, help="GPUs of each, 0.25 packs four on one"
    )
    return group


def for_executor(config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with what an inline executor cannot keep left out unless it was asked for."""
    if config.get("executor") != "inline":
        return dict(config)
    able = {"workers": 1, "timeout": None}
    changed = {name: given.get(name, value) for name, value in able.items() if name in config}
    return {**config, **changed}


def executor_of(config: Mapping[str, Any]) -> Executor:
    """The executor that a run's settings ask for; raises `ConfigError` for what it cannot do."""
    return open_executor(
        config["executor"],
        workers=config["workers"],
        timeout=config.get("timeout"),
        memory_gib=config.get("memory_gib"),
        cluster=Cluster(
            address=config["ray_address"],
            cpus_per_trial=config["cpus_per_trial"],
            gpus_per_trial=config["gpus_per_trial"],
        ),
    )


class Named(Job, Protocol):
    """A job that says in a few words what it does."""

    @property
    def id(self) -> str:
        """For a person."""


def results_of(
    jobs: Sequence[Named], config: Mapping[str, Any], say: Callable[[str], None]
) -> list[Any]:
    """What the jobs return, in their order, on the executor that the settings ask for.

    `say` is told of each when it has ended. Raises `RunError` where one ends in anything but a
    result.
    """
    found: dict[int, Any] = {}
    with executor_of(config) as executor:
        for job, outcome in executor.run(iter(jobs)):
            if not isinstance(outcome, Ok):
                raise RunError(f"{job.id}: {outcome.kind} ({outcome.reason})")
            found[id(job)] = outcome.value
            say(f"{job.id}: {outcome.seconds:.0f} s")
    return [found[id(job)] for job in jobs]
