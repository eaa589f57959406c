"""Some of the images that a repair mended and broke, kept for the report."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as pack
from torch import Tensor

from experiments.repair.subject import Subject
from robustkit.errors import RunError
from robustkit.repair import Repair
from robustkit.runs import RunFolder, atomic_path

SHOWN = 12
KINDS = ("repaired", "broken")
_FILE = "examples.safetensors"


def keep_examples(subject: Subject, found: Repair, folder: RunFolder) -> None:
    """Keep the first images repaired and broken, with what was said of them before and after."""
    verdict = found.runs[found.best].verdict
    kept: dict[str, Tensor] = {}
    for kind in KINDS:
        chosen = torch.nonzero(getattr(verdict, kind)).squeeze(1)[:SHOWN]
        kept[f"{kind}.index"] = chosen
        kept[f"{kind}.image"] = subject.images.images[chosen]
        for name in ("labels", "before", "after"):
            kept[f"{kind}.{name}"] = getattr(verdict, name)[chosen]
    classes = "\n".join(subject.images.classes)
    with atomic_path(folder.file(_FILE)) as temporary:
        temporary.write_bytes(pack(kept, metadata={"classes": classes}))


def load_examples(folder: RunFolder) -> tuple[dict[str, Tensor], list[str]]:
    """What `keep_examples` kept, and the names of the classes; raises `RunError` if damaged."""
    path: Path = folder.file(_FILE)
    try:
        with safe_open(path, framework="pt") as file:
            classes = (file.metadata() or {})["classes"].split("\n")
            return {name: file.get_tensor(name) for name in file.keys()}, classes  # noqa: SIM118
    except (OSError, SafetensorError, KeyError) as error:
        raise RunError(f"{path}: no examples ({str(error).splitlines()[0]})") from None
