"""Where the jobs of a run are carried out: options that change how fast it is, never what it says.

They may be given anew when a run is resumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.options import VerbParser, real

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
