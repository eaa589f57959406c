"""Views with noise: inside the ball, whole levels, and the noise that their name says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from robustkit.compute import torch_generator
from robustkit.data import fixed_views
from robustkit.errors import ConfigError
from robustkit.training import penalty_views as module
from robustkit.training.penalty_views import NOISES, noisy_views, penalty_views

EPS = 8 / 255
IMAGES = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.manual_seed(0))


@pytest.mark.parametrize("kind", list(NOISES))
def test_views_lie_in_the_ball_around_the_image_or_its_mirror(kind: str) -> None:
    views = penalty_views(IMAGES, kind, eps=EPS, seed=0)
    noises = [noise for noise in NOISES[kind] for _ in range(2)]
    assert views.shape == (len(noises), *IMAGES.shape)
    assert views.dtype == torch.uint8
    for number, (view, noise) in enumerate(zip(views, noises, strict=True)):
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


def slow_views(images: Tensor, kind: str, levels: int, seed: int) -> Tensor:
    """Every noise drawn for all entries of a view at once, in the order of the views."""
    generator = torch_generator("penalty views", kind, seed)
    made: list[Tensor] = []
    for noise in {"uniform": "uuuu", "corner": "cccc", "mixed": "--uucc", "clean": "--"}[kind]:
        if noise == "u":
            change = torch.randint(-levels, levels + 1, images.shape, generator=generator)
        elif noise == "c":
            change = levels * (2 * torch.randint(2, images.shape, generator=generator) - 1)
        else:
            change = torch.zeros(images.shape, dtype=torch.int64)
        image = images.flip(-1) if len(made) % 2 else images
        made.append((image.long() + change).clamp(0, 255).to(torch.uint8))
    return torch.stack(made)


@pytest.mark.parametrize("kind", list(NOISES))
def test_views_of_the_benchmark_keep_their_bits_in_however_many_parts(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The committed table was measured on these."""
    expected = slow_views(IMAGES, kind, 8, seed=3)
    assert torch.equal(penalty_views(IMAGES, kind, eps=EPS, seed=3), expected)

    def parts(images: Tensor) -> Iterator[slice]:
        yield from (slice(start, start + 2) for start in range(0, len(images), 2))

    monkeypatch.setattr(module, "chunks", parts)
    assert torch.equal(penalty_views(IMAGES, kind, eps=EPS, seed=3), expected)


@pytest.mark.parametrize(("augment", "count"), [("none", 1), ("flip", 2), ("crop_flip", 3)])
@pytest.mark.parametrize("kind", list(NOISES))
def test_each_stored_view_comes_in_each_noise(augment: str, count: int, kind: str) -> None:
    views = fixed_views(IMAGES, count, augment, seed=1)
    noisy = noisy_views(views, kind, eps=EPS, seed=0)
    assert noisy.shape == (len(NOISES[kind]) * count, *IMAGES.shape)
    for number, view in enumerate(noisy):
        distance = (view.int() - views[number % count].int()).abs().amax()
        assert int(distance) == (0 if NOISES[kind][number // count] == "clean" else 8)


def test_views_in_a_file_are_the_same(tmp_path: Path) -> None:
    views = IMAGES[None]
    mapped = noisy_views(views, "mixed", eps=EPS, seed=0, out=tmp_path / "views.npy")
    assert torch.equal(mapped, noisy_views(views, "mixed", eps=EPS, seed=0))
    assert [path.name for path in tmp_path.iterdir()] == ["views.npy"]
