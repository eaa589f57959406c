"""The subject of a repair: a model, the checkpoint before it, and two image sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import torch

from robustkit.cli.inputs import LoadedModels, load_models, open_images
from robustkit.compute import resolve_device
from robustkit.data import ImageSet, read_image_file
from robustkit.errors import ConfigError, DataError, RepairError
from robustkit.models import Classifier, digest
from robustkit.models import load as load_model
from robustkit.reading import typed_path
from robustkit.repair import drop_shared
from robustkit.runs import RunFolder
from robustkit.runs.summaries import Epoch, read_summary
from robustkit.training.checkpoints import kept_checkpoints, source_of


@dataclass(frozen=True, eq=False)
class Subject:
    """The model as given, the images it is repaired on, and those it is evaluated on besides.

    `dropped` counts held-out images left out because they are among the images repaired on;
    `loaded` says in which pixel space all are.
    """

    model: Classifier
    previous: Classifier | None
    images: ImageSet
    held_out: ImageSet | None
    dropped: int
    loaded: LoadedModels | None = None


def with_run(
    settings: Mapping[str, Any], given: Mapping[str, Any], *, needs_history: bool
) -> dict[str, Any]:
    """Return the settings with the models and the data of `--run` filled in.

    The model is the one the training gave, or that of `--epoch`. Raises `ConfigError` where they
    are given twice, and `RunError` as `RunFolder.open`.
    """
    filled = dict(settings)
    if settings["run"] is None:
        if settings["epoch"] is not None:
            raise ConfigError("--epoch names a checkpoint of --run DIR, which is missing")
        if settings["model"] is None:
            raise ConfigError("--model: name the model to repair, or a training run with --run")
        return filled
    folder = RunFolder.open(settings["run"], command="train")
    found = {epoch: str(path) for epoch, path in kept_checkpoints(folder).items()}
    epoch = settings["epoch"] if settings["epoch"] is not None else _delivered(folder, found)
    if epoch not in found:
        kept = f"{min(found)} to {max(found)}" if found else "none"
        raise ConfigError(f"{folder.path}: no checkpoint of epoch {epoch} (there is {kept})")
    if epoch - 1 not in found and needs_history:
        raise ConfigError(
            f"{folder.path}: no checkpoint of epoch {epoch - 1}, which localisation by history "
            f"needs to repair epoch {epoch}; take a later --epoch or another --method"
        )
    taken = {"model": found[epoch], "previous": found.get(epoch - 1)}
    for name, path in taken.items():
        # A run folder's own settings name both, and may be given again.
        if settings[name] not in (None, path):
            raise ConfigError(f"--{name}: --run has its own; leave one of them out")
        filled[name] = path
    return filled | {name: own for name, own in source_of(folder).items() if name not in given}


class _Best(TypedDict):
    best_epoch: NotRequired[Epoch]


def _delivered(folder: RunFolder, found: Mapping[int, str]) -> int:
    """Return the epoch of the training's model: the best one where it stopped early."""
    last = max(found, default=0)
    best = last if folder.summary() is None else read_summary(folder, _Best).get("best_epoch", last)
    model = folder.file("model.safetensors")
    if best == last or best not in found or not model.exists():
        return last
    return best if digest(load_model(model)) == digest(load_model(found[best])) else last


def load_subject(settings: Mapping[str, Any], *, paper: bool) -> Subject:
    """Load the models and images that the settings name.

    Raises `RepairError` for a previous model of another architecture and for held-out images that
    are those repaired on; `ConfigError`, `DataError` and `ModelError` for what cannot be loaded.
    """
    if paper:
        for name in ("repair_on", "held_out"):
            if settings[name] is not None:
                flag = name.replace("_", "-")
                raise ConfigError(f"--{flag}: the paper's protocol repairs and evaluates on test")
    on = settings["repair_on"] or ("test" if paper else "val")
    specs = {"model": settings["model"], "previous": settings["previous"]}
    named = {name: spec for name, spec in specs.items() if spec is not None}
    weights = [each for each in (settings["weights"], settings["previous_weights"]) if each]
    own = {"weights": weights, "test_size": None, "split": _part(on, "--repair-on")}
    loaded = load_models({**settings, **own}, named)
    images = loaded.images
    if on.endswith(".npz"):
        images = read_image_file(typed_path(on, error=DataError), like=loaded.images)
    held_out, dropped = None, 0
    if not paper:
        other = settings["held_out"] or ("val" if on == "test" else "test")
        if other != "none":
            held_out, dropped = drop_shared(_held_out(other, settings, loaded), images)
    device = resolve_device(settings["device"])
    model = loaded.nets["model"].to(device)
    previous = loaded.nets["previous"].to(device) if "previous" in named else None
    if previous is not None:
        check_alike(model, previous)
    return Subject(model, previous, images, held_out, dropped, loaded)


def check_alike(model: Classifier, previous: Classifier) -> None:
    """Raise `RepairError` unless both nets are of one architecture."""
    own = {name: each.shape for name, each in model.net.named_parameters()}
    other = {name: each.shape for name, each in previous.net.named_parameters()}
    if own == other and model.card.architecture == previous.card.architecture:
        return
    odd = next((name for name in own if own[name] != other.get(name)), None)
    where = f": '{odd}' is {_shape(own[odd])} and {_shape(other.get(odd))}" if odd else ""
    raise RepairError(f"the previous model is of another architecture{where}")


def _shape(shape: torch.Size | None) -> str:
    return "missing" if shape is None else str(tuple(shape))


def _part(named: str, flag: str) -> str | None:
    """Return the split that an option names, None for a file."""
    if named in ("test", "val"):
        return named
    if not named.endswith(".npz"):
        raise ConfigError(
            f"{flag} must be test, val or an .npz of images and labels, not '{named}'"
        )
    return None


def _held_out(named: str, settings: Mapping[str, Any], loaded: LoadedModels) -> ImageSet:
    split = _part(named, "--held-out")
    if split is None:
        return read_image_file(typed_path(named, error=DataError), like=loaded.images)
    opened = open_images({**settings, "test_size": None, "split": split})
    return loaded.read(opened)
