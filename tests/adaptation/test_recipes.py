"""Recipes and settings of trainings: what they say, and what is refused."""

from __future__ import annotations

import pytest

from adaptation.recipes import PARTS, recipe
from adaptation.training import DetectionConfig, train_detector
from adaptation.training.processes import backend_for
from robustkit.data.detection import DetectionSet
from robustkit.errors import ConfigError
from tests.adaptation.small import fresh


def test_parts_are_independent() -> None:
    both = recipe("adversarial+aligned", DetectionConfig(eps=0.1))
    assert (both.adversary, both.align, both.teacher, both.start) == ("pgd", True, False, "source")
    assert both.eps == 0.1
    three = recipe("free+aligned+teacher")
    assert (three.adversary, three.align, three.teacher) == ("free", True, True)
    assert recipe("adabn").steps == 0
    assert recipe("aligned+adabn").steps > 0
    assert set(PARTS) >= {"source", "adversarial", "fast", "free", "adabn", "aligned", "oracle"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("adversarail", "did you mean 'adversarial'"),
        ("oracle+aligned", "'oracle' goes with no other"),
        ("fast+free", "its parts exclude each other"),
        ("aligned+aligned", "its parts exclude each other"),
    ],
)
def test_recipes_that_are_none(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        recipe(name)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lr": 0.0}, "lr must be positive"),
        ({"mix": 1.5}, r"mix must be in \[0,1\]"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"optimizer": "adam"}, "unknown optimizer 'adam'; did you mean 'adamw'"),
        ({"adversary": "fgsm"}, "unknown adversary 'fgsm'"),
    ],
)
def test_settings_that_make_no_sense(given: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        DetectionConfig(**given)  # type: ignore[arg-type]


def test_recipes_that_look_at_the_target_need_it(source: DetectionSet) -> None:
    with pytest.raises(ConfigError, match="need images of the target"):
        train_detector(fresh(source.classes), source, recipe("aligned"))


@pytest.mark.parametrize(
    ("gpus", "among", "expected"),
    [(0, 2, "gloo"), (1, 2, "gloo"), (2, 2, "cpu:gloo,cuda:nccl"), (8, 2, "cpu:gloo,cuda:nccl")],
)
def test_nccl_is_for_a_gpu_each_and_never_alone(gpus: int, among: int, expected: str) -> None:
    assert backend_for(gpus, among) == expected
