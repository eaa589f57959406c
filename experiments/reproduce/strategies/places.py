"""Where the searches of a seed find R: a prepared run folder, and a copy of it for each of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from experiments.evolve.config import EvolveConfig
from experiments.evolve.workspace import Workspace
from experiments.options import plain
from experiments.reproduce.strategies.result import Baseline
from experiments.summaries import check_has
from robustkit import data
from robustkit.data import ImageSet
from robustkit.errors import RunError
from robustkit.reading import check_kind, read_json
from robustkit.runs import RunFolder, atomic_path

SIDE = 16
BASELINE = "baseline.json"


def small_images(path: Path) -> str:
    """CIFAR-10 at half its resolution, as a `--data` argument; written to `path` the first time."""
    if not path.exists():
        splits = data.load("cifar10", seed=0)
        train = [splits.train, splits.val]
        arrays = {
            "x_train": np.concatenate([_halved(each) for each in train]),
            "y_train": np.concatenate([each.labels.numpy() for each in train]),
            "x_test": _halved(splits.test),
            "y_test": splits.test.labels.numpy(),
        }
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
    return f"npz:{path}"


def _halved(images: ImageSet) -> Any:
    pixels = F.interpolate(images.images.float(), size=(SIDE, SIDE), mode="area")
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def prepare_place(path: Path, config: EvolveConfig, source: str) -> Workspace:
    """A fresh run folder at `path`; what an earlier attempt left is removed."""
    shutil.rmtree(path, ignore_errors=True)
    options = {"data": source, "root": None, "download": False, "device": "cpu"}
    folder = RunFolder.create(path, verb="evolve", config=options | plain(config), command=[])
    space = Workspace(folder)
    space.scratch.mkdir()
    space.net_path("R").parent.mkdir()
    return space


def place_beside(prepared: Path, path: Path, config: EvolveConfig) -> Workspace:
    """A run folder of its own for one search, with R and what was derived from it linked."""
    source = RunFolder.open(prepared).config["data"]
    space = prepare_place(path, config, str(source))
    for part in (space.net_path("R").parent, space.scratch):
        shutil.copytree(prepared / part.name, part, copy_function=os.link, dirs_exist_ok=True)
    return space


def baseline_of(prepared: Path, epochs: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Trials of R's architecture by `epochs`; raises `RunError` where their file lacks one."""
    path = prepared / BASELINE
    told = read_json(path, error=RunError, follow=False)
    found = check_kind(told, dict[str, Baseline], str(path), error=RunError)
    check_has(found, map(str, epochs), str(path))
    return {each: told[str(each)] for each in epochs}
