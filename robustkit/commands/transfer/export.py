"""Adversarial sets of a transfer evaluation: examples for the report, and exports."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as unpack
from torch import Tensor

from robustkit import attacks
from robustkit.commands.transfer.pipeline import TransferResult
from robustkit.commands.transfer.preparation import Prepared, crafted
from robustkit.compute.tensorfiles import write_tensors
from robustkit.errors import RunError
from robustkit.evaluation.transferability import TransferMatrix
from robustkit.geometry import LARGEST
from robustkit.reading import open_inside, parse_json, printable
from robustkit.runs import RunFolder

FORMS = ("none", "npz", "png")
EXAMPLES = 5  # images of each source
_FILE = "examples.safetensors"
_LARGEST = 1024 * 2**20  # bytes of such a file


def export(prepared: Prepared, form: str, folder: RunFolder) -> None:
    """Write every source's set as `sets/NAME.npz`, or as PNG images in `sets/NAME/`."""
    if form == "none":
        return
    for number, name in enumerate(prepared.sources):
        adversarials = crafted(prepared, name)
        path = folder.file("sets") / _file_name(name, number)
        path.parent.mkdir(exist_ok=True)
        if form == "npz":
            attacks.export_npz(adversarials, prepared.images, path.with_name(path.name + ".npz"))
        else:
            attacks.export_png(adversarials, prepared.images, path)


def keep_examples(prepared: Prepared, result: TransferResult, folder: RunFolder) -> None:
    """Write a few images of every source for the report, with their adversarials.

    They are correct for all models, fool the source, and mislead some targets and not others.
    """
    images, matrix = prepared.images, result.matrix
    tensors: dict[str, Tensor] = {}
    for number, source in enumerate(prepared.sources):
        rows = torch.from_numpy(_most_disputed(matrix, source))
        if not len(rows):
            continue
        batch = images.subset(rows)
        adversarials = crafted(prepared, source).images[rows]
        tensors[f"{number}.index"] = rows
        tensors[f"{number}.clean"] = batch.images
        tensors[f"{number}.made"] = attacks.to_levels(adversarials)
        tensors[f"{number}.label"] = batch.labels
        tensors[f"{number}.misled"] = torch.from_numpy(
            np.stack(
                [matrix.target_fooled[source, target][rows.numpy()] for target in matrix.targets]
            )
        )
    write_tensors(folder.file(_FILE), tensors, {"classes": "\n".join(images.classes)})


@dataclass(frozen=True, eq=False)
class Examples:
    """K images of one source, with their adversarials: both uint8 (K,C,H,W).

    `labels` and `indices` are int64 (K,), `misled` is bool (T,K), for each of T targets.
    """

    images: Tensor
    adversarials: Tensor
    labels: Tensor
    indices: Tensor
    misled: Tensor


def load_examples(
    folder: RunFolder, sources: int, targets: int
) -> tuple[dict[int, Examples], list[str]]:
    """Return what `keep_examples` wrote, by the number of the source, and the classes' names.

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
    return {
        number: _examples_of(tensors, number, targets, len(names), where) for number in numbers
    }, names


def _examples_of(
    tensors: dict[str, Tensor], number: int, targets: int, classes: int, where: str
) -> Examples:
    """Return the examples of one source; raises `RunError` for other types and shapes."""
    shape = tensors[f"{number}.clean"].shape
    count = shape[0] if shape else 0
    expected = {
        "clean": (torch.uint8, shape),
        "made": (torch.uint8, shape),
        "label": (torch.int64, (count,)),
        "index": (torch.int64, (count,)),
        "misled": (torch.bool, (targets, count)),
    }
    checked: dict[str, Tensor] = {}
    for name, (dtype, size) in expected.items():
        tensor = checked[name] = tensors.get(f"{number}.{name}", torch.empty(0))
        if tensor.dtype != dtype or tensor.shape != torch.Size(size):
            actual = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise RunError(
                f"{where}: {number}.{name}: expected {dtype} {tuple(size)}, not {actual}"
            )
    if len(shape) != 4 or shape[1] not in (1, 3) or not all(1 <= side <= LARGEST for side in shape):
        raise RunError(f"{where}: {number}.clean: {tuple(shape)} is no shape of images")
    labels = checked["label"]
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise RunError(f"{where}: {number}.label: not all are of the {classes} classes")
    return Examples(
        images=checked["clean"],
        adversarials=checked["made"],
        labels=checked["label"],
        indices=checked["index"],
        misled=checked["misled"],
    )


def _most_disputed(matrix: TransferMatrix, source: str) -> NDArray[np.int64]:
    """Return indices of common images that fool the source, most disputed by targets first."""
    candidates = np.flatnonzero(matrix.common & matrix.source_fooled[source])
    votes = np.stack(
        [matrix.target_fooled[source, target][candidates] for target in matrix.targets]
    )
    share = votes.mean(axis=0)
    disagreement = share * (1 - share)
    return candidates[np.argsort(-disagreement, kind="stable")][:EXAMPLES]


def _file_name(name: str, number: int) -> str:
    """Return a file name for a source, without characters that paths do not take."""
    safe = "".join(char if char.isalnum() or char in "-_." else "_" for char in name).strip("._")
    return f"{number}-{safe}" if safe else str(number)
