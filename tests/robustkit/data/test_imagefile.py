"""One file of images beside a data set's own splits: what fits, and what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustkit.data import ImageSet, read_image_file
from robustkit.errors import DataError

LIKE = ImageSet(torch.zeros(1, 3, 4, 5, dtype=torch.uint8), torch.zeros(1).long(), ("a", "b", "c"))
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 3, 4, 5), dtype=np.uint8)
LABELS = np.array([0, 2, 1, 1, 0, 2])


def saved(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "some.npz", **arrays)
    return folder / "some.npz"


@pytest.mark.parametrize(
    "pixels",
    [
        PIXELS,
        PIXELS.transpose(0, 2, 3, 1),
        (PIXELS / 255).astype(np.float32),
        # Up to half a level off is the same level.
        np.clip(PIXELS / 255 + RNG.uniform(-0.49, 0.49, PIXELS.shape) / 255, 0, 1),
    ],
    ids=["uint8", "channels last", "float32", "float64 between levels"],
)
def test_images_come_as_they_were_saved(tmp_path: Path, pixels: Any) -> None:
    made = read_image_file(saved(tmp_path, images=pixels, labels=LABELS), LIKE)
    assert torch.equal(made.images, torch.from_numpy(PIXELS))
    assert made.labels.tolist() == LABELS.tolist()
    assert made.classes == LIKE.classes


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"images": PIXELS / 100.0}, r"float images must lie in \[0,1\], not in \[0, 2\.55\]"),
        ({"images": -(PIXELS / 255)}, r"must lie in \[0,1\], not in \[-1, "),
        ({"images": np.where(PIXELS > 9, np.nan, 0.5)}, r"must lie in \[0,1\], not in \[nan"),
        ({"images": PIXELS[:, :, :3]}, r"images are \(3, 3, 5\), the data's \(3, 4, 5\)"),
        ({"images": PIXELS[:, 0]}, r"images are \(1, 4, 5\), the data's \(3, 4, 5\)"),
        ({"labels": LABELS + 1}, "label 3; the data's 3 classes allow 0 to 2"),
        ({"labels": LABELS[:-1]}, "labels"),
        ({"images": PIXELS[:0], "labels": LABELS[:0]}, "images is an empty split"),
        ({"labels": LABELS / 2}, "labels"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    path = saved(tmp_path, **{"images": PIXELS, "labels": LABELS, **changed})
    with pytest.raises(DataError, match=told) as caught:
        read_image_file(path, LIKE)
    assert "some.npz" in str(caught.value)


def test_a_file_without_labels_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"some\.npz.*labels"):
        read_image_file(saved(tmp_path, images=PIXELS), LIKE)
