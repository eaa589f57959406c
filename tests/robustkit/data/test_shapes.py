"""The rendered world: what is drawn is what is annotated, and the texture is a dial."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robustkit.data.detection import load_detection
from robustkit.data.detection.shapes import (
    CLASSES,
    STYLES,
    Shape,
    ShapesConfig,
    area_of,
    compose,
    draw,
    grating,
    mask_of,
)
from robustkit.errors import DataError


@pytest.mark.parametrize("style", STYLES)
def test_a_set_is_the_same_every_time_and_another_for_another_seed(style: str) -> None:
    config = ShapesConfig(style=style, count=2)
    for number in range(2):
        _, first = draw(config, "train", number)
        _, again = draw(config, "train", number)
        assert np.array_equal(first, again)
        assert first.shape == (128, 128, 3)
        for other in (
            draw(ShapesConfig(style=style, count=2, seed=1), "train", number),
            draw(config, "test", number),
            draw(config, "train", number + 1),
        ):
            assert not np.array_equal(first, other[1])


def test_a_set_comes_from_its_voc_folder_as_it_was_drawn() -> None:
    config = ShapesConfig(style="comic", count=4, side=96, texture=0.0, seed=3)
    found = load_detection("shapes:comic:4?side=96&texture=0&seed=3", "train")
    assert found.classes == CLASSES
    assert len(found) == 4
    for number in range(4):
        drawn, pixels = draw(config, "train", number)
        assert torch.equal(found.image(number), torch.from_numpy(pixels).permute(2, 0, 1))
        truth = found.truths[number]
        assert truth.labels.tolist() == [each.shape.label for each in drawn]
        edges = [[x1, y1, x2 + 1, y2 + 1] for x1, y1, x2, y2 in (each.box for each in drawn)]
        assert truth.boxes.tolist() == edges
        assert truth.difficult.tolist() == [each.difficult for each in drawn]


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_masks_have_the_shapes_area_and_boxes_are_tight(label: int) -> None:
    shape = Shape(label=label, x=60.3, y=66.1, radius=30.0, angle=0.7, aspect=1.2)
    mask = mask_of(shape, 128)
    assert mask.sum() == pytest.approx(area_of(shape), rel=0.03)
    assert mask.min() == 0
    assert mask.max() == 1


def test_scenes_hold_what_they_should() -> None:
    counts, difficult, truncated = [], 0, 0
    for number in range(300):
        drawn = compose(np.random.default_rng(number), 128)
        counts.append(len(drawn))
        difficult += sum(each.difficult for each in drawn)
        truncated += sum(each.truncated for each in drawn)
        for each in drawn:
            x1, y1, x2, y2 = each.box
            inside = each.mask[y1 : y2 + 1, x1 : x2 + 1] > 0.5
            assert inside.sum() == (each.mask > 0.5).sum()
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()
    assert set(range(5)) >= set(counts) >= {0, 1, 2, 3}
    assert 0 < difficult < 0.2 * sum(counts)
    assert truncated > 0


@pytest.mark.parametrize("style", STYLES)
def test_the_texture_is_all_that_its_amplitude_changes(style: str) -> None:
    strong, none = (ShapesConfig(style=style, count=1, texture=a) for a in (0.1, 0.0))
    kept = STYLES[style].kept
    for number in range(6):
        drawn, plain = draw(none, "train", number)
        _, marked = draw(strong, "train", number)
        change = np.abs(marked.astype(int) - plain.astype(int)) / 255
        assert change.max() <= 0.1 * kept + 1 / 255
        outside = np.ones(plain.shape[:2], dtype=bool)
        for each in drawn:
            outside &= each.mask == 0
        assert change[outside].max(initial=0) == 0
        if drawn and kept:
            assert change.max() > 0.05 * kept


def test_classes_have_textures_of_their_own() -> None:
    waves = [grating(np.random.default_rng(0), label, 64) for label in range(len(CLASSES))]
    peaks = [int(np.abs(np.fft.rfft2(wave)).argmax()) for wave in waves]
    assert len(set(peaks)) == len(CLASSES)
    assert all(abs(wave.mean()) < 0.02 and np.abs(wave).max() <= 1 for wave in waves)


def test_an_option_is_given_once() -> None:
    with pytest.raises(DataError, match="option 'side' twice"):
        load_detection("shapes:photo:4?side=64&side=96")
