"""The embedded data: scikit-learn's handwritten digits, there without any download."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from robustkit.data.registry import Part, Request, Source, source
from robustkit.data.sampling import stratified_split

TEST_FRACTION = 0.25
CLASSES = tuple("0123456789")


@source("digits")
def open_digits(request: Request) -> Source:
    """Offer 1,797 digits of 8×8 pixels and 17 grey levels, as uint8 (1,16,16).

    Scaled bilinearly by two in exact arithmetic, so that every machine sees the same bytes. A
    quarter of every class, always the same, is for testing: there is no official split.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    levels = torch.from_numpy(bunch.images).float()[:, None]  # 0..16
    doubled = F.interpolate(levels, scale_factor=2, mode="bilinear", align_corners=False)
    # Bilinear weights at a factor of two are sixteenths: 16·doubled is a whole number, 0..256.
    sixteenths = (doubled * 16).round().to(torch.int64)
    images = ((sixteenths * 255 + 128) // 256).to(torch.uint8)
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    train, test = stratified_split(labels, TEST_FRACTION, seed=0)
    return Source(
        train=Part(labels[train], images[train].__getitem__),
        test=Part(labels[test], images[test].__getitem__),
        classes=CLASSES,
    )
