"""Some of the images that a repair mended and broke, kept for the report."""

from __future__ import annotations

import torch
from safetensors.torch import save as pack
from torch import Tensor

from experiments.repair.subject import Subject
from robustkit.compute.tensorfiles import Shapes, check_range, check_shapes, read_tensors
from robustkit.errors import RunError
from robustkit.repair import Repair
from robustkit.runs import RunFolder, atomic_path

SHOWN = 12
KINDS = ("repaired", "broken")
SAID = ("labels", "before", "after")
_FILE = "examples.safetensors"
_SHAPES: Shapes = {
    f"{kind}.{name}": (torch.int64, (kind,)) for kind in KINDS for name in ("index", *SAID)
} | {f"{kind}.image": (torch.uint8, (kind, "c", "h", "w")) for kind in KINDS}


def keep_examples(subject: Subject, found: Repair, folder: RunFolder) -> None:
    """Keep the first images repaired and broken, with what was said of them before and after."""
    verdict = found.runs[found.best].verdict
    kept: dict[str, Tensor] = {}
    for kind in KINDS:
        chosen = torch.nonzero(getattr(verdict, kind)).squeeze(1)[:SHOWN]
        kept[f"{kind}.index"] = chosen
        kept[f"{kind}.image"] = subject.images.images[chosen]
        for name in SAID:
            kept[f"{kind}.{name}"] = getattr(verdict, name)[chosen]
    classes = "\n".join(subject.images.classes)
    with atomic_path(folder.file(_FILE)) as temporary:
        temporary.write_bytes(pack(kept, metadata={"classes": classes}))


def load_examples(folder: RunFolder) -> tuple[dict[str, Tensor], list[str]]:
    """What `keep_examples` kept, and the names of the classes; raises `RunError` if damaged."""
    path = folder.file(_FILE)
    tensors, notes = read_tensors(path, error=RunError)
    if "classes" not in notes:
        raise RunError(f"{path}: no examples: it lacks the names of the classes")
    classes = notes["classes"].split("\n")
    lengths = check_shapes(tensors, _SHAPES, str(path), error=RunError)
    if lengths["c"] not in (1, 3) or lengths["h"] * lengths["w"] == 0:
        raise RunError(f"{path}: no images of 1 or 3 channels")
    for kind in KINDS:
        if lengths[kind] > SHOWN:
            raise RunError(f"{path}: '{kind}.index': {lengths[kind]} images, of {SHOWN} at most")
        for name, end in (("index", 2**53), *dict.fromkeys(SAID, len(classes)).items()):
            where = f"{path}: '{kind}.{name}'"
            check_range(tensors[f"{kind}.{name}"], 0, end, where, error=RunError)
    return tensors, classes
