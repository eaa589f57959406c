"""Pictures become pixels exactly as torchvision's published pipelines make them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustkit.data.pictures import (
    CHUNK,
    Format,
    PictureFiles,
    StoredPictures,
    find_images,
    read_images,
    slices,
    survey,
    with_channels,
)
from robustkit.errors import DataError
from robustkit.geometry import Geometry
from tests.robustkit.data.pictures import draw_noise, published


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Pictures of several sizes: landscape, portrait and square, smaller and larger than a crop."""
    for seed in range(4):
        draw_noise(tmp_path / f"{seed}.png", seed)
    draw_noise(tmp_path / "8.png", 8, size=(300, 201))
    Image.open(tmp_path / "8.png").save(tmp_path / "9.jpg", quality=70)
    return find_images(tmp_path)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    ("resize", "crop"),
    [(36, (32, 32)), (32, (32, 32)), ((20, 40), (20, 40)), ((40, 50), (24, 31)), (24, (32, 40))],
)
def test_pixels_equal_those_of_the_published_pipeline(
    files: list[Path], resize: int | tuple[int, int], crop: tuple[int, int], interpolation: str
) -> None:
    geometry = Geometry(crop, resize, interpolation)
    read = read_images(files, survey(files, geometry=geometry))
    side = resize if isinstance(resize, int) else list(resize)
    expected = [published(file, side, list(crop), interpolation) for file in files]
    assert torch.equal(read, torch.stack(expected))


def test_pixels_equal_those_of_a_weights_own_transforms(files: list[Path]) -> None:
    """The preset scales to [0,1] after cropping, which loses nothing."""
    from torchvision.transforms._presets import ImageClassification

    preset = ImageClassification(crop_size=32, resize_size=40, mean=(0.0,) * 3, std=(1.0,) * 3)
    read = read_images(files, survey(files, geometry=Geometry((32, 32), 40)))
    for file, pixels in zip(files, read, strict=True):
        with Image.open(file) as image:
            assert torch.equal(preset(image.convert("RGB")), pixels.float() / 255)


def test_without_a_geometry_the_whole_picture_is_stretched(files: list[Path]) -> None:
    read = read_images(files, survey(files, 16))
    assert torch.equal(read[0], published(files[0], [16, 16], [16, 16], "bilinear"))


def test_a_crop_without_resizing_is_the_middle(tmp_path: Path) -> None:
    draw_noise(tmp_path / "0.png", 0, size=(10, 8), mode="L")
    form = survey([tmp_path / "0.png"], geometry=Geometry((4, 6)))
    read = read_images([tmp_path / "0.png"], form)
    whole = np.asarray(Image.open(tmp_path / "0.png"))
    assert torch.equal(read[0, 0], torch.from_numpy(whole[2:6, 2:8].copy()))


def test_grey_pictures_stay_grey_unless_told(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{seed}.png") for seed in range(3)]
    for seed, path in enumerate(paths):
        draw_noise(Path(path), seed, mode="L")
    pictures, every = PictureFiles(paths), torch.arange(3)
    form = pictures.form(every, Geometry((16, 16), 16))
    assert form.shape == (1, 16, 16)
    grey, colour = (pictures.read(every, with_channels(form, told)) for told in (None, 3))
    assert torch.equal(colour, grey.expand(-1, 3, -1, -1))
    with pytest.raises(DataError, match="in 3 channels cannot be read in 1"):
        with_channels(Format(3, 4, 4), 1)


def test_transparency_is_dropped_as_published_pipelines_do(tmp_path: Path) -> None:
    draw_noise(tmp_path / "0.png", 0, mode="RGBA")
    read = read_images(
        [tmp_path / "0.png"], survey([tmp_path / "0.png"], geometry=Geometry((9, 9), 9))
    )
    assert torch.equal(read[0], published(tmp_path / "0.png", 9, [9, 9], "bilinear"))


def test_a_strip_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    draw_noise(tmp_path / "strip.png", 0, size=(3000, 1))
    form = survey([tmp_path / "strip.png"], geometry=Geometry((224, 224), 224))
    with pytest.raises(DataError, match=r"strip\.png cannot be .*3000x1 pixels cannot keep its"):
        read_images([tmp_path / "strip.png"], form)


def test_arrays_of_the_size_asked_for_stay_as_they_are() -> None:
    images = torch.randint(256, (5, 3, 8, 6), dtype=torch.uint8)
    pictures, rows = StoredPictures.of(images), torch.tensor([4, 1])
    form = pictures.form(rows, Geometry((8, 6), 20, "bicubic"))
    assert torch.equal(pictures.read(rows, form), images[rows])


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_of_another_size_are_resized_as_pictures(tmp_path: Path, channels: int) -> None:
    images = torch.randint(256, (5, channels, 8, 6), dtype=torch.uint8)
    rows = torch.tensor([4, 1])
    pictures = StoredPictures.of(images)
    form = pictures.form(rows, Geometry((12, 12), 13, "bicubic"))
    read = pictures.read(rows, form)
    assert read.shape == (2, channels, 12, 12)
    for index, pixels in zip(rows.tolist(), read, strict=True):
        array = images[index].permute(1, 2, 0).numpy()
        path = tmp_path / f"{index}.png"
        Image.fromarray(array[..., 0] if channels == 1 else array).save(path)
        expected = published(path, 13, [12, 12], "bicubic")
        assert torch.equal(pixels, expected[:channels])
    assert pictures.read(rows, with_channels(form, 3)).shape == (2, 3, 12, 12)


def test_arrays_beyond_the_limit_are_the_same_from_a_file(tmp_path: Path) -> None:
    images = torch.randint(256, (CHUNK + 3, 1, 4, 4), dtype=torch.uint8)
    pictures, rows = StoredPictures.of(images), torch.randperm(CHUNK + 3)
    form = with_channels(pictures.form(rows), 3)
    small, large = (pictures.read(rows, form, limit) for limit in (None, 100))
    assert torch.equal(small, large)
    assert torch.equal(small, images[rows].expand(-1, 3, -1, -1))
    assert not list((tmp_path / "cache").iterdir())  # the file has no name


@pytest.mark.parametrize("count", [0, 1, 5, 6])
def test_slices_cover_everything_once(count: int) -> None:
    covered = [index for part in slices(count, 3) for index in range(count)[part]]
    assert covered == list(range(count))


def test_files_are_found_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in (
        "b/2.png",
        "b/1.PNG",
        "b.png",
        "a-b/1.jpg",
        "a/1.png",
        "a/.hidden.png",
        ".x/1.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
    found = find_images(tmp_path)
    assert found == sorted(found)
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        *("a/1.png", "a-b/1.jpg", "b/1.PNG", "b/2.png", "b.png", "lost.png")
    ]
