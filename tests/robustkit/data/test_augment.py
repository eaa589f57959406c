from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from robustkit.data import AUGMENTATIONS, crop_flip, fixed_views, imageset
from robustkit.errors import ConfigError, DataError


def noise(count: int, height: int = 8, width: int = 6, channels: int = 2, seed: int = 0) -> Tensor:
    """Pixels from 1 on, so that a zero can only come from outside the image."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, (count, channels, height, width), generator=generator).byte()


def slow_variants(image: Tensor, pad: int, flip: bool) -> list[Tensor]:
    """Every shift of one image (C,H,W) by up to `pad`, pixel by pixel, and their mirrors."""
    _, height, width = image.shape
    variants = []
    for down in range(-pad, pad + 1):
        for right in range(-pad, pad + 1):
            shifted = torch.zeros_like(image)
            for y in range(height):
                for x in range(width):
                    if 0 <= y + down < height and 0 <= x + right < width:
                        shifted[:, y, x] = image[:, y + down, x + right]
            variants += [shifted, shifted.flip(-1)] if flip else [shifted]
    return variants


@given(st.integers(0, 2), st.booleans(), st.integers(0, 2**31))
def test_every_image_becomes_one_of_its_own_variants(pad: int, flip: bool, seed: int) -> None:
    images = noise(4, 4, 5)
    result = crop_flip(images, pad=pad, flip=flip, generator=torch.Generator().manual_seed(seed))
    assert result.shape == images.shape
    for image, changed in zip(images, result, strict=True):
        assert any(torch.equal(changed, variant) for variant in slow_variants(image, pad, flip))


def test_all_variants_come_up_about_equally_often() -> None:
    image = noise(1, 4, 4)
    result = crop_flip(
        image.expand(3600, -1, -1, -1), pad=1, flip=True, generator=torch.Generator().manual_seed(0)
    )
    counts = [
        int((result == variant).all(dim=(1, 2, 3)).sum())
        for variant in slow_variants(image[0], 1, True)
    ]
    assert sum(counts) == 3600
    assert min(counts) > 140  # 200 expected, standard deviation 14
    assert max(counts) < 260


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_dtype_stays_and_draws_do_not_depend_on_it(dtype: torch.dtype) -> None:
    images = noise(9)
    expected = crop_flip(images, pad=2, flip=True, generator=torch.Generator().manual_seed(3))
    result = crop_flip(
        images.to(dtype), pad=2, flip=True, generator=torch.Generator().manual_seed(3)
    )
    assert result.dtype == dtype
    assert torch.equal(result, expected.to(dtype))


def test_images_given_are_left_as_they_are() -> None:
    images = noise(9)
    before = images.clone()
    crop_flip(images, pad=2, flip=True, generator=torch.Generator().manual_seed(3))
    fixed_views(images, 3, "crop_flip", seed=0)
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    ("name", "count"), [("none", 1), ("flip", 2), ("crop", 4), ("crop_flip", 4)]
)
def test_view_zero_is_the_image_and_views_repeat(name: str, count: int) -> None:
    images = noise(20)
    views = fixed_views(images, count, name, seed=1)
    assert views.shape == (count, *images.shape)
    assert views.dtype == torch.uint8
    assert torch.equal(views[0], images)
    assert torch.equal(views, fixed_views(images, count, name, seed=1))
    assert len({view.numpy().tobytes() for view in views}) == count


def test_flip_mirrors_every_image() -> None:
    images = noise(20)
    assert torch.equal(fixed_views(images, 2, "flip", seed=1)[1], images.flip(-1))


@pytest.mark.parametrize("name", ["crop", "crop_flip"])
def test_crops_shift_by_an_eighth_of_the_height(name: str) -> None:
    images = noise(12, 16, 8, channels=1)
    for view in fixed_views(images, 3, name, seed=1)[1:]:
        for image, changed in zip(images, view, strict=True):
            variants = slow_variants(image, 2, flip=name == "crop_flip")
            assert any(torch.equal(changed, variant) for variant in variants)


def test_more_views_do_not_change_the_first_ones_and_seeds_differ() -> None:
    images = noise(20)
    views = fixed_views(images, 4, "crop_flip", seed=1)
    assert torch.equal(views[:2], fixed_views(images, 2, "crop_flip", seed=1))
    assert not torch.equal(views, fixed_views(images, 4, "crop_flip", seed=2))


def test_views_on_disk_are_the_views_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = noise(20)
    expected = fixed_views(images, 3, "crop_flip", seed=1)
    monkeypatch.setattr(imageset, "CHUNK_BYTES", 7 * 96)  # seven images
    mapped = fixed_views(images, 3, "crop_flip", seed=1, out=tmp_path / "views.npy")
    assert torch.equal(mapped, expected)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["views.npy"]


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("none", 2, "'none' makes 1 view, not 2"),
        ("flip", 3, "'flip' makes 1 or 2 views, not 3"),
        ("crop", 0, "'crop' makes at least 1 view, not 0"),
        ("blur", 2, "unknown augmentation 'blur'"),
    ],
)
def test_views_that_cannot_be_made_are_refused(name: str, count: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fixed_views(noise(2), count, name, seed=0)


def test_views_are_made_of_uint8_pixels() -> None:
    assert AUGMENTATIONS == ("none", "flip", "crop", "crop_flip")
    with pytest.raises(DataError, match=r"uint8 \(N,C,H,W\), not torch.float32 \(2, 1, 4, 4\)"):
        fixed_views(torch.rand(2, 1, 4, 4), 2, "crop", seed=0)
