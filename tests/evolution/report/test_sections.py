from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from evolution import Genotype
from evolution.report.format import architecture_lines, brief, compact, reference_name
from evolution.report.history import best_so_far
from evolution.report.run_data import distinct, front_keys, read_evidence
from robustkit.models import Block, Head
from robustkit.report import eps_text
from robustkit.report.pictures import gradient_picture, magnification, perturbation_picture, picture
from tests.evolution.report.simulated_run import make_run


def test_the_best_so_far_is_the_best_of_every_beginning(tmp_path: Path) -> None:
    evidence = read_evidence(make_run(tmp_path / "run", failures=3))
    trials = evidence.trials_of("evolve")
    threshold = 0.55
    for measure, better in (("accuracy", max), ("transfer", min)):
        for count, best in enumerate(best_so_far(trials, measure, threshold), start=1):
            values = [
                trial.value(measure)
                for trial in trials[:count]
                if trial.result and (measure == "accuracy" or trial.result.accuracy >= threshold)
            ]
            assert best == better(values) if values else np.isnan(best)


def test_no_network_off_the_front_beats_one_on_it(tmp_path: Path) -> None:
    evidence = read_evidence(make_run(tmp_path / "run", population=8))
    best = front_keys(evidence)
    floor = 0.55 - evidence.config.floor
    feasible = {
        group[0].key: (-r.accuracy, r.transfer, r.macs)
        for group in distinct([trial for trial in evidence.trials if trial.result])
        if (r := group[0].result) and r.accuracy >= floor
    }
    slow = {
        key
        for key, mine in feasible.items()
        if not any(
            all(a <= b for a, b in zip(theirs, mine, strict=True)) and theirs != mine
            for theirs in feasible.values()
        )
    }
    assert best == slow


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_the_pixels_of_the_image(channels: int) -> None:
    pixels = torch.randint(0, 256, (channels, 5, 5), generator=torch.Generator().manual_seed(1))
    shown = picture(pixels / 255)
    expected = pixels[0] if channels == 1 else pixels.permute(1, 2, 0)
    assert np.array_equal(shown, expected.numpy())


@pytest.mark.parametrize(("largest", "factor"), [(8 / 255, 15), (0.15, 3), (0.9, 1), (0.0, 1)])
def test_perturbations_are_magnified_as_far_as_they_fit(largest: float, factor: int) -> None:
    perturbation = torch.tensor([[[largest, -largest, 0.0]]])
    assert magnification(perturbation) == factor
    bright, dark, still = perturbation_picture(perturbation, factor)[0].tolist()
    assert bright - still == pytest.approx(still - dark, abs=1) or largest > 0.5
    assert still == 128


def test_gradient_maps_are_bright_where_the_gradient_is_large_in_any_channel() -> None:
    gradient = torch.zeros(3, 4, 4)
    gradient[1, 2, 3] = -5.0
    shown = gradient_picture(gradient).sum(axis=2)
    assert np.unravel_index(shown.argmax(), shown.shape) == (2, 3)
    assert len(np.unique(gradient_picture(torch.zeros(3, 4, 4)))) <= 3


def test_an_architecture_is_told_with_its_wiring() -> None:
    genotype = Genotype(
        (
            Block(kind="conv", channels=8),
            Block(kind="inception", kernel=3, norm="none", activation="silu", inputs=(1,)),
            Block(kind="pool", pool="max", stride=2, inputs=(0, 2), merge="concat"),
        ),
        Head(pool="flatten", hidden=32, activation="gelu"),
    )
    assert architecture_lines(genotype) == [
        "1: conv 3×3 · 8 channels · batch norm · ReLU",
        "2: inception 1/3/5 · 16 channels · no norm · SiLU",
        "3: max pool 3×3 · stride 2 · from the image, 2 (concat)",
        "head: flatten, 32 hidden · GELU, linear",
    ]
    assert brief(genotype) == "conv, inception, max pool"


def test_counts_and_radii_are_written_as_the_field_writes_them() -> None:
    assert [compact(each) for each in (12, 58_314, 1_448_192, 2e9)] == [
        "12",
        "58.3 k",
        "1.45 M",
        "2 G",
    ]
    assert [eps_text(each) for each in (8 / 255, 0.15, 1.0, 0.0)] == [
        "8/255",
        "0.15",
        "255/255",
        "0",
    ]


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("vgg5?width=24", "vgg5?width=24"),
        ("a/b/mine.safetensors", "mine"),
        (
            "torchvision:resnet18?weights=/a/b.pt&mean=0.5",
            "torchvision:resnet18?weights=b.pt&mean=0.5",
        ),
        ("/a/b/nets.py:make?width=2", "nets.py:make?width=2"),
    ],
)
def test_a_title_calls_files_by_their_names(spec: str, name: str) -> None:
    assert reference_name(spec) == name
