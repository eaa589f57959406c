"""Images of a transfer evaluation, told by what an attack on one net did to another."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor

from experiments.judged import Judged, name_nets
from experiments.nets import check_code
from experiments.options import VerbParser
from experiments.summaries import read_settings, read_summary
from experiments.transfer.export import crafted
from experiments.transfer.pipeline import PLAIN, evaluate, prepare
from experiments.verbs import verb_module
from robustkit.errors import ConfigError, did_you_mean
from robustkit.models import Classifier
from robustkit.runs import RunFolder

KINDS = ("spared", "misled")
MOST = 12  # images taken from an evaluation
# Options that an evaluation has of its own, and those that name images in another way.
OWN = ("model", "contrast", "data", "root", "split", "pair")
OTHERS = ("weights", "index", "image")


class Settings(TypedDict):
    """What is read here of an evaluation's settings, in the types of its own options."""

    sources: list[str]
    targets: list[str]
    data: str
    root: str | None
    split: str | None
    cache: str


class _Kept(TypedDict):
    """What an evaluation's own pipeline needs besides."""

    attack: str
    eps: float
    seed: int
    weights: list[str]
    download: bool
    export: str
    test_size: int | None


class _Sets(TypedDict):
    keys: dict[str, str]


class Summary(TypedDict):
    """What is read here of an evaluation's summary."""

    sets: _Sets


@dataclass(frozen=True, eq=False)
class Attacked:
    """The nets, and the images chosen, at most `MOST`.

    `images` (N,C,H,W) are the adversarials, float32 in [0,1], or what they were made from, uint8;
    `labels` int64 (N,); `indices` int64 (N,) into the split; `told` is for the summary: of which
    pair they are, and how many there are of this kind among all that the evaluation compares;
    `judged` says in which pixel space.
    """

    source: Classifier
    target: Classifier
    images: Tensor
    labels: Tensor
    indices: Tensor
    told: Mapping[str, Any]
    judged: Judged


def from_transfer(settings: dict[str, Any], given: Collection[str]) -> dict[str, Any]:
    """With `--transfer DIR` the two nets and their data; `given` are the options a person gave.

    Raises `ConfigError` for what does not go with it, and where several pairs of nets might be
    meant; `RunError` as `RunFolder.open`.
    """
    if settings["repair"] is not None:
        raise ConfigError("--repair and --transfer exclude each other: each has its own images")
    which = settings["which"] or KINDS[0]
    if which not in KINDS:
        raise ConfigError(f"--which: of --transfer it is spared or misled, not '{which}'")
    for name in OTHERS:
        if settings[name]:
            raise ConfigError(f"--{name}: --transfer has its own; leave one of them out")
    folder, config, _ = _finished(settings["transfer"])
    source, target = _pair(folder, config, settings["pair"])
    taken = {
        "model": name_nets(config["sources"])[source],
        "contrast": name_nets(config["targets"])[target],
        "data": config["data"],
        "root": config["root"],
        "split": config["split"],
        "pair": f"{source}:{target}",
    }
    for name in OWN:
        # A saved configuration names again what the evaluation has.
        if name in given and settings[name] != taken[name]:
            raise ConfigError(f"--{name}: --transfer has its own; leave one of them out")
    return {**settings, **taken, "which": which}


def _finished(path: str) -> tuple[RunFolder, Settings, Mapping[str, str]]:
    """The run folder of an evaluation, its settings, and the keys of its sets.

    Raises `RunError` or `ConfigError`, naming the file and the entry, for what was edited.
    """
    folder = RunFolder.open(path, verb="transfer")
    if folder.summary() is None:
        raise ConfigError(f"{folder.path}: not finished, there is nothing to explain yet")
    keys = read_summary(folder, Summary)["sets"]["keys"]
    read_settings(folder, _Kept)
    return folder, read_settings(folder, Settings), keys


def _pair(folder: RunFolder, config: Settings, named: str | None) -> tuple[str, str]:
    """The source and the target that are meant."""
    sources, targets = name_nets(config["sources"]), name_nets(config["targets"])
    pairs = {
        f"{source}:{target}": (source, target)
        for source, its_spec in sources.items()
        for target, spec in targets.items()
        if spec != its_spec
    }
    if not pairs:
        raise ConfigError(f"{folder.path}: no net was attacked through another one")
    if named is None and len(pairs) > 1:
        raise ConfigError(f"--pair: which of SOURCE:TARGET, {', '.join(pairs)}?")
    if named is not None and named not in pairs:
        raise ConfigError(f"--pair {named}: no such SOURCE:TARGET{did_you_mean(named, pairs)}")
    return pairs[named if named is not None else next(iter(pairs))]


def load_attacked(settings: Mapping[str, Any]) -> Attacked:
    """The nets and images of resolved settings, out of the evaluation's cache where it is there.

    Raises `ConfigError` where no image is of the kind asked for, and where nets, data or attack
    are no more those of the evaluation.
    """
    folder, config, kept = _finished(settings["transfer"])
    specs = [*name_nets(config["sources"]).values(), *name_nets(config["targets"]).values()]
    check_code(specs, settings["trust"], folder.path)
    # Of where the work is done, and of what it may do, the folder has no say.
    own = {name: settings[name] for name in ("device", "trust", "download")}
    parser = VerbParser("transfer")
    verb_module("transfer").add_arguments(parser)
    saved = parser.checked(folder.config, str(folder.file("config.yaml")))
    prepared = prepare({**saved, **own}, keep=False)
    source, target = _pair(folder, config, settings["pair"])
    matrix = evaluate(prepared, PLAIN)
    if dict(matrix.keys) != kept:
        raise ConfigError(
            f"{folder.path}: its nets or its data are no more what they were; evaluate anew"
        )
    fooling = torch.from_numpy(matrix.common & matrix.fooled[source])
    misled = torch.from_numpy(matrix.misled[source, target])
    chosen = (fooling & (misled if settings["which"] == "misled" else ~misled)).nonzero()[:, 0]
    if not len(chosen):
        raise ConfigError(
            f"{folder.path}: of the {int(fooling.sum())} images that all nets get right and the "
            f"attack on {source} fools it with, {target} was {settings['which']} by none"
        )
    some = chosen[:MOST]
    images = prepared.images.subset(some)
    model = prepared.sources[source]
    assert isinstance(model, Classifier)  # ensembles are no names of models
    return Attacked(
        source=model.to(prepared.device).eval(),
        target=prepared.targets[target].to(prepared.device).eval(),
        judged=prepared.judged,
        images=images.images if settings["clean"] else crafted(prepared, source).images[some],
        labels=images.labels,
        indices=prepared.judged.indices[some],
        told={
            "source": source,
            "target": target,
            "which": settings["which"],
            "attacked": not settings["clean"],
            "found": len(chosen),
            "fooling": int(fooling.sum()),
            "set": matrix.keys[source],
        },
    )
