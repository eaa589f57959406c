"""Adversarial sets to and from other tools: `.npz` with their provenance, and PNG to look at."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustkit.attacks.crafting import AdversarialSet
from robustkit.attacks.levels import to_levels
from robustkit.data import ImageSet
from robustkit.data.arrays import check_size
from robustkit.errors import AttackError
from robustkit.runs import atomic_path, write_text


@dataclass(frozen=True, eq=False)
class ForeignSet:
    """Adversarials made elsewhere: `images` float32 (N,C,H,W) in [0,1], and where they are from."""

    images: Tensor
    provenance: dict[str, Any]


def export_npz(made: AdversarialSet, images: ImageSet, path: Path) -> None:
    """Write `images` float32 (N,C,H,W), `labels`, `correct`, `fooled` and `provenance` (JSON).

    Nothing is lost: `import_npz` reads the same numbers back. Raises `RunError` when the file
    cannot be written.
    """
    content = io.BytesIO()
    np.savez_compressed(
        content,
        images=made.images.numpy(),
        labels=images.labels.numpy(),
        correct=made.correct.numpy(),
        fooled=made.fooled.numpy(),
        provenance=np.array(json.dumps(made.origin)),
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getvalue())


def export_png(made: AdversarialSet, images: ImageSet, folder: Path) -> None:
    """Write one PNG an image into a new `folder`, pixels rounded to the nearest of 256 levels.

    `index.csv` says of each its label and whether the source is right and fooled;
    `provenance.json` what the set depends on. Rounding may take a fooling image's success.
    """
    from PIL import Image

    folder.mkdir(parents=True)
    pixels = to_levels(made.images)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["file", "label", "class", "correct", "fooled"])
    for index, image in enumerate(pixels):
        name = f"{index:05}.png"
        shown = image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy()
        Image.fromarray(shown).save(folder / name)
        label = int(images.labels[index])
        verdict = (bool(made.correct[index]), bool(made.fooled[index]))
        rows.writerow([name, label, images.classes[label], *verdict])
    write_text(folder / "index.csv", table.getvalue())
    write_text(folder / "provenance.json", json.dumps(made.origin, indent=2) + "\n")


def import_npz(path: Path, images: ImageSet) -> ForeignSet:
    """Read adversarials of `images`, in their order, that this or another tool wrote.

    `images` in the file is float in [0,1] or uint8, (N,C,H,W) or (N,H,W,C); `labels`, where given,
    must be those of `images`. Without `provenance` (JSON) it is the file's name. The file's SHA-256
    is added to it. Raises `AttackError` naming the file and what is wrong with it.
    """
    try:
        content = path.read_bytes()
        if not content.startswith(b"PK"):
            raise ValueError("it is no zip archive")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            for name in arrays.files:
                check_size(arrays, name)
            kept = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise AttackError(f"{path}: not an .npz of adversarials ({reason})") from None
    except Exception as error:  # zipfile and zlib have errors of their own for what is damaged
        raise AttackError(f"{path}: damaged ({error})") from None
    if "images" not in kept:
        raise AttackError(f"{path}: no array 'images'; it has {', '.join(kept) or 'none'}")
    adversarials = _pixels(kept["images"], images, path)
    if "labels" in kept and not np.array_equal(kept["labels"], images.labels.numpy()):
        raise AttackError(f"{path}: its labels are not those of the images it is judged on")
    provenance = _provenance(kept.get("provenance"), path)
    digest = hashlib.sha256(content).hexdigest()
    return ForeignSet(adversarials, {**provenance, "sha256": digest})


def _pixels(found: np.ndarray[Any, Any], images: ImageSet, path: Path) -> Tensor:
    wanted = tuple(images.images.shape)
    if found.ndim == 4 and found.shape != wanted and found.transpose(0, 3, 1, 2).shape == wanted:
        found = found.transpose(0, 3, 1, 2)
    if found.shape != wanted:
        raise AttackError(f"{path}: images of shape {found.shape}, not {wanted} of the images")
    if found.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(found)).float() / 255
    if found.dtype.kind != "f":
        raise AttackError(f"{path}: images of {found.dtype}; they are uint8 or float in [0,1]")
    values = torch.from_numpy(np.ascontiguousarray(found, dtype=np.float32))
    low, high = (float(bound) for bound in torch.aminmax(values))
    if not (low >= 0 and high <= 1):
        raise AttackError(f"{path}: images over [{low:g}, {high:g}], not in [0,1]")
    return values


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _provenance(written: np.ndarray[Any, Any] | None, path: Path) -> dict[str, Any]:
    if written is None:
        return {"file": path.name}
    try:
        read = json.loads(str(written), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise AttackError(f"{path}: 'provenance' is not JSON ({error})") from None
    return read if isinstance(read, dict) else {"said": read}
