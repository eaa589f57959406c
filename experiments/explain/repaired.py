"""Images of a repair: those that it repaired, or that it broke, with its model and its data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypedDict

from experiments.nets import check_code
from experiments.summaries import Count, read_settings, read_summary
from robustkit.errors import ConfigError
from robustkit.runs import RunFolder

KINDS = ("broken", "repaired")
MOST = 12  # images taken from a repair


class Settings(TypedDict):
    """What is read here of a repair's settings."""

    model: str
    data: str
    root: str | None
    repair_on: str | None
    protocol: str


class Summary(TypedDict):
    """What is read here of a repair's summary: positions of images in what it repaired on."""

    broken_indices: list[Count]
    repaired_indices: list[Count]


def from_repair(settings: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """With `--repair DIR` its model, data, and broken or repaired images.

    `given` are the options a person gave. Raises `ConfigError` for what does not go with it,
    `RunError` for a folder that is no repair's or was edited, and `ModelError` for a model that is
    code nobody trusts.
    """
    if settings["repair"] is None:
        if settings["which"] is not None:
            raise ConfigError(
                "--which names images of --repair DIR or --transfer DIR, which are missing"
            )
        return dict(settings)
    which = settings["which"] or KINDS[0]
    if which not in KINDS:
        raise ConfigError(f"--which: of --repair it is broken or repaired, not '{which}'")
    folder = RunFolder.open(settings["repair"], verb="repair")
    if folder.summary() is None:
        raise ConfigError(f"{folder.path}: not finished, there is nothing to explain yet")
    config, summary = read_settings(folder, Settings), read_summary(folder, Summary)
    on = config["repair_on"] or ("test" if config["protocol"] == "paper" else "val")
    if on not in ("test", "val"):
        raise ConfigError(f"{folder.path}: was repaired on {on}, which is no split of its data")
    found = {"broken": summary["broken_indices"], "repaired": summary["repaired_indices"]}
    chosen = found[which][:MOST]
    if not chosen:
        raise ConfigError(f"{folder.path}: no {on} image, which it repaired on, was {which}")
    check_code([config["model"]], settings["trust"], folder.path)
    taken = {"model": config["model"], "data": config["data"], "root": config["root"]}
    indices = [str(index) for index in chosen]
    resolved = {**settings, **taken, "which": which, "split": on, "index": indices}
    for name in (*taken, "contrast", "index", "image", "split"):
        # A saved configuration names again what the repair has.
        if name in given and settings[name] and settings[name] != resolved[name]:
            raise ConfigError(f"--{name}: --repair has its own; leave one of them out")
        if name in ("contrast", "image") and settings[name]:
            raise ConfigError(f"--{name}: --repair has its own; leave one of them out")
    return resolved
