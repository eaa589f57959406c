"""What a transfer evaluation leaves beside its figures: examples for the report, and whole sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as pack

from experiments.transfer.pipeline import Prepared, Result
from robustkit import attacks
from robustkit.attacks import AdversarialSet
from robustkit.compute import derive_seed
from robustkit.errors import RunError
from robustkit.runs import RunFolder, atomic_path

FORMS = ("none", "npz", "png")
EXAMPLES = 5  # images of each source
_FILE = "examples.safetensors"


def crafted(prepared: Prepared, name: str) -> AdversarialSet:
    """The untargeted set of the source `name`, from the cache where there is one."""
    config = prepared.config
    return attacks.craft(
        prepared.sources[name],
        prepared.images,
        prepared.attack(),
        seed=derive_seed(config.seed, "transfer"),
        store=prepared.store,
        round=prepared.round,
        batch_size=prepared.batch_size,
        device=prepared.device,
    )


def export(prepared: Prepared, form: str, folder: RunFolder) -> None:
    """Write every source's set as `sets/NAME.npz`, or as PNG images in `sets/NAME/`."""
    if form == "none":
        return
    for number, name in enumerate(prepared.sources):
        made = crafted(prepared, name)
        path = folder.file("sets") / _file_name(name, number)
        path.parent.mkdir(exist_ok=True)
        if form == "npz":
            attacks.export_npz(made, prepared.images, path.with_name(path.name + ".npz"))
        else:
            attacks.export_png(made, prepared.images, path)


def keep_examples(prepared: Prepared, result: Result, folder: RunFolder) -> None:
    """Keep a few images of every source: common ones, that mislead some targets and not others.

    Which they are, what the source made of them, and what every target says; for the report.
    """
    images, matrix = prepared.images, result.matrix
    kept: dict[str, torch.Tensor] = {}
    for number, source in enumerate(prepared.sources):
        chosen = torch.from_numpy(_telling(matrix, source))
        some = images.subset(chosen) if len(chosen) else None
        if some is None:
            continue
        made = crafted(prepared, source).images[chosen]
        kept[f"{number}.index"] = chosen
        kept[f"{number}.clean"] = some.images
        kept[f"{number}.made"] = attacks.to_levels(made)
        kept[f"{number}.label"] = some.labels
        kept[f"{number}.misled"] = torch.from_numpy(
            np.stack([matrix.misled[source, target][chosen.numpy()] for target in matrix.targets])
        )
    with atomic_path(folder.file(_FILE)) as temporary:
        temporary.write_bytes(pack(kept, metadata={"classes": "\n".join(images.classes)}))


def load_examples(folder: RunFolder) -> tuple[dict[str, torch.Tensor], list[str]]:
    """What `keep_examples` kept, and the names of the classes; raises `RunError` if damaged."""
    path: Path = folder.file(_FILE)
    try:
        with safe_open(path, framework="pt") as file:
            classes = (file.metadata() or {})["classes"].split("\n")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError) as error:
        raise RunError(f"{path}: no examples ({str(error).splitlines()[0]})") from None
    return tensors, classes


def _telling(matrix: Any, source: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Indices of common images that fool the source; first those on which targets disagree."""
    candidates = np.flatnonzero(matrix.common & matrix.fooled[source])
    votes = np.stack([matrix.misled[source, target][candidates] for target in matrix.targets])
    share = votes.mean(axis=0)
    disagreement = share * (1 - share)
    return candidates[np.argsort(-disagreement, kind="stable")][:EXAMPLES]


def _file_name(name: str, number: int) -> str:
    """A name as a file's: what a path would stumble over is left out."""
    safe = "".join(each if each.isalnum() or each in "-_." else "_" for each in name).strip("._")
    return f"{number}-{safe}" if safe else str(number)
