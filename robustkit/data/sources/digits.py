"""The embedded data: scikit-learn's handwritten digits, there without any download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robustkit.data.pictures import StoredPictures
from robustkit.data.sampling import stratified_split
from robustkit.data.sources.base import Part, Request, Source, source

FILE = "datasets/data/digits.csv.gz"
TEST_FRACTION = 0.25
CLASSES = tuple("0123456789")


@source("digits")
def open_digits(request: Request) -> Source:
    """Offer 1,797 digits of 8×8 pixels and 17 grey levels, as uint8 (1,16,16).

    Scaled bilinearly by two in exact arithmetic, so that every machine sees the same bytes. A
    quarter of every class, always the same, is for testing: there is no official split.
    """
    levels, labels = _read()
    doubled = F.interpolate(levels.float(), scale_factor=2, mode="bilinear", align_corners=False)
    # Bilinear weights at a factor of two are sixteenths: 16·doubled is a whole number, 0..256.
    sixteenths = (doubled * 16).round().to(torch.int64)
    images = ((sixteenths * 255 + 128) // 256).to(torch.uint8)
    train, test = stratified_split(labels, TEST_FRACTION, seed=0)
    return Source(
        train=Part(labels[train], StoredPictures.of(images[train])),
        test=Part(labels[test], StoredPictures.of(images[test])),
        classes=CLASSES,
    )


def _read() -> tuple[Tensor, Tensor]:
    """Return grey levels 0..16, int64 (N,1,8,8), and labels, int64 (N,).

    The file is read where scikit-learn keeps it, because importing scikit-learn costs every
    worker process seconds; should it have moved, its own loader is asked.
    """
    spec = find_spec("sklearn")
    package = Path(spec.origin).parent if spec and spec.origin else None
    if package and (package / FILE).is_file():
        table = np.loadtxt(package / FILE, delimiter=",", dtype=np.int64)
    else:
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        table = np.column_stack([pixels, labels]).astype(np.int64)
    rows = torch.from_numpy(table)
    return rows[:, :-1].reshape(-1, 1, 8, 8), rows[:, -1].contiguous()
