from __future__ import annotations

import cmath
import json
import math
from pathlib import Path

import pytest
import torch

from evolution.genotype import Genotype
from experiments.studies.robust_features.jobs import (
    EVOLVED,
    EVOLVED_KEY,
    ROLES,
    evolved,
    image_alignment,
    low_frequency_share,
)
from robustkit.cli.main import main

RESULTS = Path(__file__).parents[3] / "experiments" / "results"


def test_the_evolved_architecture_is_the_one_the_search_chose() -> None:
    chosen = json.loads((RESULTS / "misalignment-cifar10" / "summary.json").read_text())
    assert Genotype.from_dict(EVOLVED).key() == EVOLVED_KEY == chosen["selection"]["E"]["key"]
    assert evolved().to_dict() == Genotype.from_dict(EVOLVED).blueprint().to_dict()


def slow_share(gradient: torch.Tensor, cutoff: float) -> float:
    """From the definition: every frequency of the discrete Fourier transform, term by term."""
    channels, height, width = gradient.shape
    low = total = 0.0
    for channel in range(channels):
        for u in range(height):
            for v in range(width):
                term = sum(
                    float(gradient[channel, y, x])
                    * cmath.exp(-2j * math.pi * (u * y / height + v * x / width))
                    for y in range(height)
                    for x in range(width)
                )
                # Frequencies above one half are negative ones.
                fy, fx = min(u, height - u) / height, min(v, width - v) / width
                total += abs(term) ** 2
                low += abs(term) ** 2 if math.hypot(fy, fx) <= cutoff else 0.0
    return low / total


@pytest.mark.parametrize("cutoff", [0.13, 0.25, 0.4])
def test_the_share_of_low_frequencies_is_the_definitions(cutoff: float) -> None:
    gradients = torch.randn(2, 2, 5, 8, generator=torch.Generator().manual_seed(1))
    found = low_frequency_share(gradients, cutoff)
    expected = [slow_share(each, cutoff) for each in gradients]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


def test_flat_gradients_are_low_and_checkered_ones_high() -> None:
    flat = torch.ones(1, 1, 8, 8)
    checkered = flat * (-1) ** (torch.arange(8)[:, None] + torch.arange(8))
    found = low_frequency_share(torch.cat([flat, checkered, 0 * flat]))
    assert found[:2].tolist() == pytest.approx([1, 0], abs=1e-12)
    assert found[2].isnan()


def test_a_gradient_along_the_image_is_aligned_whatever_its_sign_and_the_images_mean() -> None:
    images = torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    centred = images - images.mean(dim=(2, 3), keepdim=True)
    assert image_alignment(-2 * centred, images + 0.5).tolist() == pytest.approx([1.0] * 3)
    across = centred.roll(1, dims=0)
    assert max(image_alignment(across, images).tolist()) < 0.5


def test_the_study_in_small(tmp_path: Path) -> None:
    out = tmp_path / "study"
    flags = ["--scale=smoke", "--executor", "inline", "--workers", "1"]
    assert main(["reproduce", "robust-features", *flags, "--out", str(out)]) == 0
    (repeat,) = json.loads((out / "summary.json").read_text())["repeats"].values()
    seen = repeat["compare"]
    assert set(repeat["train"]) == set(seen["alone"]) == set(seen["robust"]) == set(ROLES)
    assert len(seen["pairs"]) == math.comb(len(ROLES), 2)
    for robust in seen["robust"].values():
        assert robust["0"] >= robust["2"] >= robust["8"]
    for role, beyond in seen["beyond"].items():
        difference = seen["alone"][role]["low"]["mean"] - seen["alone"]["R"]["low"]["mean"]
        assert beyond["low"]["mean"] == pytest.approx(difference)
    # One start, with the penalty and without.
    assert seen["pairs"]["E/E0"]["cosine"]["mean"] > seen["pairs"]["R/E"]["cosine"]["mean"]
    for name in ("gradients", "cav", "gradcam"):
        assert (out / f"{name}-0.png").stat().st_size > 10_000
    page = (out / "comparison.md").read_text()
    assert all(f"| {role} |" in page for role in ROLES)
