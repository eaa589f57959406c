"""Adversarial sets to and from other tools: `.npz` with their provenance, and PNG to look at.

Sets may be larger than memory: they are written and read batch by batch.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from robustkit.attacks.cache import SMALL_SETS
from robustkit.attacks.crafting import AdversarialSet, to_levels
from robustkit.compute.tensorfiles import read_only
from robustkit.data import ImageSet
from robustkit.data.arrays import check_size, opened_npz, read_header
from robustkit.errors import AttackError
from robustkit.reading import Json, open_bounded, parse_json, printable
from robustkit.runs import atomic_path, write_text
from robustkit.specs import shortened

CHUNK = 16 * 2**20  # bytes copied or looked at at once
_READ = ("images", "labels", "provenance")


@dataclass(frozen=True, eq=False)
class ExternalSet:
    """Adversarials made elsewhere: `images` (N,C,H,W), and where they are from.

    Float32 in [0,1] or uint8. A large set is mapped from a temporary file and can be looked at
    only.
    """

    images: Tensor
    provenance: Json


def export_npz(adversarials: AdversarialSet, images: ImageSet, path: Path) -> None:
    """Write `images` (N,C,H,W), float32 or uint8 where they were rounded, `labels`, `correct`,
    `fooled` and `provenance` (JSON).

    Nothing is lost: `import_npz` reads the same numbers back. Raises `RunError` when the file
    cannot be written.
    """
    arrays = {
        "images": adversarials.images.numpy(),
        "labels": images.labels.numpy(),
        "correct": adversarials.correct.numpy(),
        "fooled": adversarials.fooled.numpy(),
        "provenance": np.array(json.dumps(adversarials.origin)),
    }
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, array in arrays.items():
            # As `np.savez_compressed` does, which needs an array of the file in memory.
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def export_png(adversarials: AdversarialSet, images: ImageSet, folder: Path) -> None:
    """Write one PNG an image into a new `folder`, pixels rounded to the nearest of 256 levels.

    `index.csv` says of each its label and whether the source is right and fooled;
    `provenance.json` what the set depends on. Rounding may take a fooling image's success.
    """
    from PIL import Image

    folder.mkdir(parents=True)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["file", "label", "class", "correct", "fooled"])
    for index, image in enumerate(adversarials.images):
        levels = to_levels(image)
        name = f"{index:05}.png"
        pixels = levels[0].numpy() if len(levels) == 1 else levels.permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / name)
        label = int(images.labels[index])
        outcomes = (bool(adversarials.correct[index]), bool(adversarials.fooled[index]))
        rows.writerow([name, label, images.classes[label], *outcomes])
    write_text(folder / "index.csv", table.getvalue())
    write_text(folder / "provenance.json", json.dumps(adversarials.origin, indent=2) + "\n")


def import_npz(path: Path, images: ImageSet) -> ExternalSet:
    """Read adversarials of `images`, in their order, that this or another tool wrote.

    `images` in the file is float in [0,1] or uint8, (N,C,H,W) or (N,H,W,C); `labels`, where given,
    must be those of `images`. Without `provenance` (JSON) it is the file's name. The file's SHA-256
    is added to it. Raises `AttackError` naming the file and what is wrong with it.
    """
    most = 16 * images.images.numel() + CHUNK  # of whatever kind of float
    with opened_npz(path, error=AttackError) as arrays:
        names = list(arrays.files)
        read = {name: _array(arrays, name, most) for name in _READ if name in names}
    # All of a file is hashed, so it holds no more than a few sets of this size.
    with open_bounded(path, error=AttackError, limit=4 * most) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if "images" not in read:
        held = shortened(printable(", ".join(names))) or "none"
        raise AttackError(f"{path}: no array 'images'; it has {held}")
    adversarials = _adversarials(read["images"], images, path)
    if "labels" in read and not np.array_equal(read["labels"], images.labels.numpy()):
        raise AttackError(f"{path}: its labels are not those of the images it is evaluated on")
    provenance = _provenance(read.get("provenance"), path)
    return ExternalSet(adversarials, {**provenance, "sha256": digest})


def _array(arrays: Any, name: str, most: int) -> np.ndarray[Any, Any]:
    """Return one array of an archive: in memory if small, else mapped from an unnamed file.

    Raises `ValueError` where it takes more than `most` bytes: a few may unfold to any number.
    """
    member = f"{name}.npy" if f"{name}.npy" in arrays.zip.namelist() else name
    size = arrays.zip.getinfo(member).file_size
    if size > most:
        raise ValueError(f"'{name}' takes {size:,} bytes, too many for these images")
    if size <= SMALL_SETS:
        check_size(arrays, name)
        array: np.ndarray[Any, Any] = arrays[name]
        return array
    with arrays.zip.open(member) as packed, TemporaryFile(prefix="robustkit-") as file:
        return _unpacked(packed, file)


def _unpacked(packed: IO[bytes], file: IO[bytes]) -> np.ndarray[Any, Any]:
    """Return the array in `packed`, a member of an archive, copied into `file` and mapped.

    Raises `ValueError` for one of Python objects, or with fewer bytes than its header says.
    """
    shape, by_columns, dtype = read_header(packed)
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    while content := packed.read(CHUNK):
        file.write(content)
    if file.tell() < size:
        raise ValueError(f"an array of shape {shape} has more bytes than the {file.tell():,}")
    file.flush()
    return np.memmap(file, dtype, "r", 0, shape, "F" if by_columns else "C")


def _adversarials(array: np.ndarray[Any, Any], images: ImageSet, path: Path) -> Tensor:
    """Return the adversarials of `images` in `array`: uint8 or float32 in [0,1], (N,C,H,W)."""
    wanted = tuple(images.images.shape)
    if array.ndim == 4 and array.shape != wanted and array.transpose(0, 3, 1, 2).shape == wanted:
        array = array.transpose(0, 3, 1, 2)
    if array.shape != wanted:
        raise AttackError(f"{path}: images of shape {array.shape}, not {wanted} of the images")
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise AttackError(f"{path}: images of {array.dtype}; they are uint8 or float in [0,1]")
    if array.dtype != np.uint8:
        ends = np.array([[batch.min(), batch.max()] for batch in _batches(array)], dtype=np.float64)
        low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
        if not (low >= 0 and high <= 1):
            raise AttackError(f"{path}: images over [{low:g}, {high:g}], not in [0,1]")
    if array.dtype in (np.uint8, np.float32):
        # A large one stays where it lies, also with its channels last.
        return read_only(array if isinstance(array, np.memmap) else np.ascontiguousarray(array))
    return _as_float32(array)


def _batches(array: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    step = max(1, CHUNK // max(1, array[0].nbytes))
    for start in range(0, len(array), step):
        yield array[start : start + step]


def _as_float32(array: np.ndarray[Any, Any]) -> Tensor:
    """Return a copy in float32: of a small array in memory, of a large one in an unnamed file."""
    if not isinstance(array, np.memmap):
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    with TemporaryFile(prefix="robustkit-") as file:
        adversarials = np.memmap(file, np.float32, "w+", 0, array.shape)
    start = 0
    for batch in _batches(array):
        adversarials[start : start + len(batch)] = batch
        start += len(batch)
    return read_only(adversarials)


def _provenance(written: np.ndarray[Any, Any] | None, path: Path) -> Json:
    if written is None:
        return {"file": path.name}
    read = parse_json(str(written), f"{path}: 'provenance'", error=AttackError)
    return read if isinstance(read, dict) else {"said": read}
