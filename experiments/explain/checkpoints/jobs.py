"""The work as jobs: all maps of one checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from experiments.explain.config import ExplainOptions
from experiments.explain.pipeline import describe, judge, map_settings, write_arrays
from experiments.explain.subject import load_subject
from experiments.options import config_from
from robustkit.explain.methods import make_maps
from robustkit.runs import RunFolder

PARTS = "checkpoint"  # the folder of what is not yet put together


def key(epoch: int) -> str:
    """What an epoch is called in ledgers and files."""
    return f"epoch_{epoch:04}"


def part(path: Path, epoch: int) -> Path:
    """The file of a checkpoint's maps, METHOD (N,H,W) each, in the run folder `path`."""
    return path / PARTS / f"{key(epoch)}.npz"


@dataclass(frozen=True)
class ExplainCheckpoint:
    """Explain the images of the run in the folder `path` by the model file of one epoch.

    `targets` are the class numbers of the images, the same for every epoch.
    """

    id: str
    path: str
    model: str
    epoch: int
    targets: tuple[int, ...]
    timeout: float | None = None

    kind: ClassVar[Any] = dict[str, Any]

    def run(self) -> dict[str, Any]:
        """What the checkpoint says of every image, and how good its maps are; writes the maps."""
        folder = RunFolder.open(self.path)
        options = config_from(ExplainOptions, folder.config)
        subject = load_subject({**folder.config, "model": self.model})
        targets = torch.tensor(self.targets)
        settings = map_settings(options)
        maps = make_maps(subject.model, subject.pixels, targets, options.method, settings)
        images = describe(subject, targets, options)
        result: dict[str, Any] = {"images": images}
        if options.check:
            result["scores"] = scores = judge(subject, targets, maps, images, options)
            # A ledger sorts names; layers have an order of their own.
            result["layers"] = list(scores[options.method[0]]["sanity"]["cascading"])
        file = part(folder.path, self.epoch)
        file.parent.mkdir(exist_ok=True)
        write_arrays(file, {name: each.pixels.cpu().numpy() for name, each in maps.items()})
        return result
