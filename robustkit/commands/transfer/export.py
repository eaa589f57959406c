"""What a transfer evaluation leaves beside its figures: examples for the report, and whole sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as unpack
from torch import Tensor

from robustkit import attacks
from robustkit.attacks import AdversarialSet
from robustkit.commands.transfer.pipeline import Evaluation, Prepared
from robustkit.compute import derive_seed
from robustkit.compute.tensorfiles import write_tensors
from robustkit.errors import RunError
from robustkit.geometry import LARGEST
from robustkit.reading import open_inside, parse_json, printable
from robustkit.runs import RunFolder

FORMS = ("none", "npz", "png")
EXAMPLES = 5  # images of each source
_FILE = "examples.safetensors"
_LARGEST = 1024 * 2**20  # bytes of such a file


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


def keep_examples(prepared: Prepared, result: Evaluation, folder: RunFolder) -> None:
    """Keep a few images of every source: common ones, that mislead some targets and not others.

    Which they are, what the source made of them, and what every target says; for the report.
    """
    images, matrix = prepared.images, result.matrix
    kept: dict[str, Tensor] = {}
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
            np.stack(
                [matrix.target_fooled[source, target][chosen.numpy()] for target in matrix.targets]
            )
        )
    write_tensors(folder.file(_FILE), kept, {"classes": "\n".join(images.classes)})


@dataclass(frozen=True, eq=False)
class Examples:
    """K images of one source: `clean` and `made` uint8 (K,C,H,W), `label` and `index` int64 (K,).

    `misled` is bool (T,K), for each of T targets.
    """

    clean: Tensor
    made: Tensor
    label: Tensor
    index: Tensor
    misled: Tensor


def load_examples(
    folder: RunFolder, sources: int, targets: int
) -> tuple[dict[int, Examples], list[str]]:
    """What `keep_examples` kept, by the number of the source, and the names of the classes.

    Raises `RunError`, naming the file and the tensor, for what is missing, a link, or no examples
    of so many sources and targets.
    """
    where = str(folder.file(_FILE))
    with open_inside(folder.path, _FILE, error=RunError, limit=_LARGEST) as file:
        content = file.read()
    try:
        tensors = unpack(content)
    except (SafetensorError, KeyError, ValueError) as error:
        reason = printable(str(error).partition("\n")[0])
        raise RunError(f"{where}: no examples ({reason})") from None
    size = int.from_bytes(content[:8], "little")
    header = parse_json(content[8 : 8 + size], where, error=RunError)
    classes = header.get("__metadata__", {}).get("classes")
    if classes is None:
        raise RunError(f"{where}: no examples (it names no classes)")
    names = classes.split("\n")
    numbers = [number for number in range(sources) if f"{number}.clean" in tensors]
    return {number: _of(tensors, number, targets, len(names), where) for number in numbers}, names


def _of(
    tensors: dict[str, Tensor], number: int, targets: int, classes: int, where: str
) -> Examples:
    """The examples of one source; raises `RunError` for tensors of other types and shapes."""
    shape = tensors[f"{number}.clean"].shape
    count = shape[0] if shape else 0
    expected = {
        "clean": (torch.uint8, shape),
        "made": (torch.uint8, shape),
        "label": (torch.int64, (count,)),
        "index": (torch.int64, (count,)),
        "misled": (torch.bool, (targets, count)),
    }
    found: dict[str, Tensor] = {}
    for name, (dtype, size) in expected.items():
        tensor = found[name] = tensors.get(f"{number}.{name}", torch.empty(0))
        if tensor.dtype != dtype or tensor.shape != torch.Size(size):
            told = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise RunError(f"{where}: {number}.{name}: expected {dtype} {tuple(size)}, not {told}")
    if len(shape) != 4 or shape[1] not in (1, 3) or not all(1 <= side <= LARGEST for side in shape):
        raise RunError(f"{where}: {number}.clean: {tuple(shape)} is no shape of images")
    labels = found["label"]
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise RunError(f"{where}: {number}.label: not all are of the {classes} classes")
    return Examples(**found)


def _telling(matrix: Any, source: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Indices of common images that fool the source; first those on which targets disagree."""
    candidates = np.flatnonzero(matrix.common & matrix.source_fooled[source])
    votes = np.stack(
        [matrix.target_fooled[source, target][candidates] for target in matrix.targets]
    )
    share = votes.mean(axis=0)
    disagreement = share * (1 - share)
    return candidates[np.argsort(-disagreement, kind="stable")][:EXAMPLES]


def _file_name(name: str, number: int) -> str:
    """A name as a file's: what a path would stumble over is left out."""
    safe = "".join(each if each.isalnum() or each in "-_." else "_" for each in name).strip("._")
    return f"{number}-{safe}" if safe else str(number)
