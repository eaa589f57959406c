"""Views with noise: inside the ball, whole levels, and the noise that their name says."""

from __future__ import annotations

import pytest
import torch

from robustkit.errors import ConfigError
from robustkit.training.penalty_views import KINDS, penalty_views

EPS = 8 / 255
IMAGES = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.manual_seed(0))


@pytest.mark.parametrize("kind", list(KINDS))
def test_views_lie_in_the_ball_around_the_image_or_its_mirror(kind: str) -> None:
    views = penalty_views(IMAGES, kind, eps=EPS, seed=0)
    assert views.shape == (len(KINDS[kind]), *IMAGES.shape)
    assert views.dtype == torch.uint8
    for number, (view, noise) in enumerate(zip(views, KINDS[kind], strict=True)):
        centre = IMAGES.flip(-1) if number % 2 else IMAGES
        distance = (view.int() - centre.int()).abs()
        inner = (centre >= 8) & (centre <= 247)
        assert int(distance.max()) <= (0 if noise == "clean" else 8)
        if noise == "corner":
            assert bool((distance[inner] == 8).all())
        if noise == "uniform":
            assert len(distance[inner].unique()) == 9
    assert torch.equal(views, penalty_views(IMAGES, kind, eps=EPS, seed=0))


def test_other_seeds_draw_other_noise() -> None:
    first, second = (penalty_views(IMAGES, "uniform", eps=EPS, seed=seed) for seed in (0, 1))
    assert not torch.equal(first, second)


def test_noise_below_one_level_and_unknown_kinds_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"eps must be at least 1/255, not 0\.001"):
        penalty_views(IMAGES, "mixed", eps=0.001, seed=0)
    with pytest.raises(ConfigError, match=r"'clen'.*did you mean 'clean'"):
        penalty_views(IMAGES, "clen", eps=EPS, seed=0)
