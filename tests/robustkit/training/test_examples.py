from __future__ import annotations

import pytest
import torch

from robustkit.data import fixed_views
from robustkit.errors import ConfigError, DataError
from robustkit.training import Examples, ReferenceGradients, TrainConfig, make_examples
from tests.robustkit.attacks.nets import striped

COUNT = 8


def marked() -> Examples:
    """Three views whose pixels, directions and norms all tell view and image."""
    marks = (10 * torch.arange(3)[:, None] + torch.arange(COUNT)).view(3, COUNT, 1, 1, 1)
    views = marks.expand(3, COUNT, 1, 2, 2).to(torch.uint8)
    norms = torch.ones(3, COUNT)
    norms[2, 5] = 0.0
    reference = ReferenceGradients(views.half(), norms)
    return Examples(views, torch.arange(COUNT), (reference, reference))


def test_images_labels_and_directions_are_of_one_view_and_image() -> None:
    indices, view = torch.tensor([5, 0, 5]), torch.tensor([2, 1, 0])
    made = marked().batch(indices, view, torch.Generator())
    expected = torch.tensor([25.0, 10.0, 5.0])
    assert torch.allclose(made.images[:, 0, 0, 0] * 255, expected)
    assert made.labels.tolist() == [5, 0, 5]
    assert made.directions is not None
    assert made.usable is not None
    assert torch.equal(made.directions[:, :, 0, 0, 0].float(), expected.expand(2, 3))
    assert made.usable.tolist() == [[False, True, True]] * 2


def test_every_view_is_drawn_and_each_image_draws_its_own() -> None:
    examples, generator = marked(), torch.Generator().manual_seed(0)
    drawn = torch.stack([examples.draw_views(generator) for _ in range(200)])
    assert drawn.shape == (200, COUNT)
    for view in range(3):
        share = (drawn == view).double().mean(dim=0)
        assert bool(((share > 0.2) & (share < 0.47)).all())


def test_a_subset_keeps_everything_together() -> None:
    part = marked().subset(torch.tensor([6, 5]))
    made = part.batch(torch.tensor([1]), torch.tensor([2]), torch.Generator())
    assert len(part) == 2
    assert made.labels.tolist() == [5]
    assert float(made.images[0, 0, 0, 0]) == pytest.approx(25 / 255)
    assert made.usable is not None
    assert made.usable.tolist() == [[False], [False]]


def test_stored_views_are_those_of_the_data_room() -> None:
    images = striped(COUNT)
    config = TrainConfig(views=3, augment="crop_flip", seed=4)
    made = make_examples(images, config)
    assert torch.equal(made.views, fixed_views(images.images, 3, "crop_flip", 4))
    assert made.augment == "none"


@pytest.mark.parametrize(("augment", "views"), [("none", 0), ("none", 1), ("crop_flip", 3)])
def test_noise_is_stored_around_the_views_that_would_be_there_without(
    augment: str, views: int
) -> None:
    images, settings = striped(COUNT), {"augment": augment, "views": views, "seed": 4}
    config = TrainConfig(penalty_views="mixed", eps=0.1, **settings)  # type: ignore[arg-type]
    made = make_examples(images, config)
    plain = make_examples(images, TrainConfig(**settings)).views  # type: ignore[arg-type]
    assert len(made.views) == 3 * len(plain)
    assert made.augment == "none"
    assert torch.equal(made.views[: len(plain)], plain)
    distance = (made.views[len(plain) :].int() - plain.repeat(2, 1, 1, 1, 1).int()).abs()
    assert int(distance.max()) == 25  # whole levels below 0.1


def test_a_step_without_penalty_takes_no_directions() -> None:
    indices, view = torch.tensor([5, 0, 5]), torch.tensor([2, 1, 0])
    penalised = marked().batch(indices, view, torch.Generator())
    plain = marked().batch(indices, view, torch.Generator(), penalised=False)
    assert plain.directions is None
    assert plain.usable is None
    assert torch.equal(plain.images, penalised.images)
    assert torch.equal(plain.labels, penalised.labels)


def test_without_stored_views_each_batch_is_augmented_anew() -> None:
    examples = make_examples(striped(COUNT), TrainConfig(augment="crop_flip"))
    generator = torch.Generator().manual_seed(0)
    indices, view = torch.arange(COUNT), torch.zeros(COUNT, dtype=torch.int64)
    first, second = (examples.batch(indices, view, generator).images for _ in range(2))
    assert not torch.equal(first, second)
    plain = make_examples(striped(COUNT), TrainConfig()).batch(indices, view, generator)
    assert torch.equal(plain.images, striped(COUNT).floats())


def test_a_reference_on_other_views_is_refused() -> None:
    examples = marked()
    with pytest.raises(DataError, match=r"gradients have shape \(3, 8, .* the views \(2, 8, "):
        Examples(examples.views[:2], examples.labels, examples.references)


def test_a_reference_and_fresh_augmentation_exclude_each_other() -> None:
    examples = marked()
    with pytest.raises(ConfigError, match="needs fixed views: set views above 0"):
        Examples(examples.views, examples.labels, examples.references, "flip")


@pytest.mark.parametrize(
    ("free", "views", "directions"),
    [
        (0, "cpu", ["cpu", "cpu"]),
        (8 * 96, "meta", ["cpu", "cpu"]),
        (8 * 96 * 3, "meta", ["meta", "cpu"]),
        (8 * 96 * 5, "meta", ["meta", "meta"]),
    ],
)
def test_what_fits_goes_to_the_device_and_batches_are_made_there(
    free: int, views: str, directions: list[str]
) -> None:
    """96 bytes of pixels, and twice as many of each of two references' gradients."""
    there = torch.device("meta")
    moved = marked().to(there, lambda device: free)
    assert moved.views.device.type == views
    assert [each.directions.device.type for each in moved.references] == directions
    made = moved.batch(torch.arange(3), torch.arange(3), torch.Generator())
    for each in (made.images, made.labels, made.directions, made.usable):
        assert each is not None
        assert each.device == there
    assert moved.subset(torch.arange(2)).device == there


def test_on_the_cpu_nothing_is_copied() -> None:
    examples = marked()
    assert examples.to(torch.device("cpu"), lambda device: 0) is examples
