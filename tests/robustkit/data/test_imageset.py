from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from robustkit.data import ImageSet, Splits, channel_stats, imageset, to_unit
from robustkit.errors import DataError

CLASSES = ("cat", "dog")


def made(count: int = 6, shape: tuple[int, int, int] = (3, 4, 5), seed: int = 0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, *shape), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.arange(count) % 2, CLASSES)


def test_says_its_size_shape_and_classes() -> None:
    images = made()
    assert (len(images), images.shape, images.num_classes) == (6, (3, 4, 5), 2)
    with pytest.raises(FrozenInstanceError):
        images.labels = torch.zeros(6, dtype=torch.int64)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 4, 4).double(), torch.zeros(2).long(), r"64 \(2, 1, 4, 4\) over \[0, 0"),
        (
            torch.full((2, 1, 4, 4), 1.5),
            torch.zeros(2).long(),
            r"\[1.5, 1.5\]; leave Normalize out",
        ),
        (
            torch.full((2, 1, 4, 4), -0.1),
            torch.zeros(2).long(),
            r"must lie in \[0,1\], not in \[-0",
        ),
        (torch.zeros(2, 4, 4).byte(), torch.zeros(2).long(), r"uint8 \(N,C,H,W\).*\(2, 4, 4\)"),
        (torch.zeros(0, 1, 4, 4).byte(), torch.zeros(0).long(), "no images"),
        (torch.zeros(2, 1, 4, 4).byte(), torch.zeros(3).long(), r"int64 \(2,\).*\(3,\)"),
        (torch.zeros(2, 1, 4, 4).byte(), torch.zeros(2), "int64 .* not torch.float32"),
        (torch.zeros(2, 1, 4, 4).byte(), torch.tensor([0, 2]), r"\[0, 2\].*allow \[0, 1\]"),
        (torch.zeros(2, 1, 4, 4).byte(), torch.tensor([-1, 1]), r"\[-1, 1\]"),
    ],
)
def test_refuses_what_is_no_image_set(images: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        ImageSet(images, labels, CLASSES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "message"), [(("cat",), "only one class"), (("cat", "cat"), "must differ")]
)
def test_refuses_class_names_that_do_not_tell_apart(classes: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageSet(torch.zeros(1, 1, 4, 4).byte(), torch.zeros(1).long(), classes)


def test_refuses_tracks_that_do_not_fit_the_images() -> None:
    base = made()
    with pytest.raises(DataError, match=r"tracks must be int64 \(6,\)"):
        ImageSet(base.images, base.labels, CLASSES, tracks=torch.zeros(5).long())


def test_subset_takes_images_labels_and_tracks_together() -> None:
    base = made()
    tracked = ImageSet(base.images, base.labels, CLASSES, tracks=torch.arange(6) * 10)
    part = tracked.subset(torch.tensor([5, 0]))
    assert torch.equal(part.images, base.images[[5, 0]])
    assert part.labels.tolist() == [1, 0]
    assert part.tracks is not None
    assert part.tracks.tolist() == [50, 0]


def test_floats_are_the_pixels_in_unit_range() -> None:
    images = made()
    floats = images.floats()
    assert floats.dtype == torch.float32
    assert torch.equal((floats * 255).round().byte(), images.images)
    assert torch.equal(images.floats(torch.tensor([3, 1])), floats[[3, 1]])
    assert to_unit(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [0.0, 1.0]


def test_floats_do_not_cross_the_boundary_twice() -> None:
    with pytest.raises(DataError, match=r"uint8.*not torch\.float32"):
        to_unit(torch.rand(1, 1, 2, 2))


def test_digest_tells_content_not_identity() -> None:
    base = made()
    twin = ImageSet(base.images.clone(), base.labels.clone(), CLASSES)
    assert base.digest() == twin.digest()
    assert len(base.digest()) == 64


def test_digest_changes_with_pixels_labels_names_and_shape() -> None:
    base = made()
    pixel = base.images.clone()
    pixel[-1, -1, -1, -1] += 1
    others = [
        ImageSet(pixel, base.labels, CLASSES),
        ImageSet(base.images, 1 - base.labels, CLASSES),
        ImageSet(base.images, base.labels, ("cat", "cow")),
        ImageSet(base.images.reshape(6, 3, 5, 4), base.labels, CLASSES),
    ]
    assert len({images.digest() for images in [base, *others]}) == 5


def test_chunking_changes_neither_digest_nor_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made(7)
    expected = whole.digest(), channel_stats(whole)
    monkeypatch.setattr(imageset, "CHUNK_BYTES", 130)  # two images of 60 bytes
    assert (made(7).digest(), channel_stats(made(7))) == expected


@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(2, 9))
def test_channel_stats_equal_those_of_the_floats(seed: int, channels: int, count: int) -> None:
    images = made(count, (channels, 3, 2), seed)
    mean, std = channel_stats(images)
    values = images.images.double() / 255
    torch.testing.assert_close(torch.tensor(mean).double(), values.mean(dim=(0, 2, 3)))
    expected = values.std(dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(torch.tensor(std).double(), expected)


def test_a_constant_channel_keeps_a_deviation_to_divide_by() -> None:
    images = ImageSet(torch.full((2, 1, 4, 4), 51).byte(), torch.arange(2), CLASSES)
    mean, std = channel_stats(images)
    assert mean == pytest.approx((0.2,))
    assert std == pytest.approx((1 / 255,))


def test_splits_must_agree_in_shape_and_classes() -> None:
    base = made()
    with pytest.raises(DataError, match=r"toy: test images are \(3, 5, 4\), train.*\(3, 4, 5\)"):
        Splits(base, base, made(shape=(3, 5, 4)), "toy")
    renamed = ImageSet(base.images, base.labels, ("cat", "cow"))
    with pytest.raises(DataError, match="toy: val and train have different classes"):
        Splits(base, renamed, base, "toy")
