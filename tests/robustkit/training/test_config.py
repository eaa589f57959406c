from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from robustkit.errors import ConfigError
from robustkit.training import TrainConfig
from robustkit.training.fit import learning_rate, make_optimizer


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "sdg"}, r"unknown optimizer 'sdg'; did you mean 'sgd'\?"),
        ({"schedule": "cos"}, "unknown schedule 'cos'"),
        ({"augment": "mirror"}, "unknown augment 'mirror'"),
        ({"grad_loss": "mse"}, "unknown grad_loss 'mse'"),
        ({"phi": "cube"}, "unknown phi 'cube'"),
        ({"penalty_stats": "frozen"}, "unknown penalty_stats 'frozen'"),
        ({"adversarial": "bim"}, "unknown adversarial 'bim'"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"attack_steps": 0}, "attack_steps must be at least 1"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"views": -1}, "views must be at least 0"),
        ({"lam": -0.5}, "lam must be at least 0, not -0.5"),
        ({"lam": float("nan")}, "lam must be at least 0, not nan"),
        ({"weight_decay": -1}, "weight_decay must be at least 0"),
        ({"warmup": -1}, "warmup must be at least 0"),
        ({"lr": 0.0}, "lr must be positive, not 0"),
        ({"lr": float("inf")}, "lr must be positive, not inf"),
        ({"eps": 1.1}, r"eps must be in \[0,1\], in units of images, not 1.1"),
        ({"momentum": 0.0}, "nesterov needs a momentum above 0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**settings)


def rates(**settings: Any) -> list[float]:
    config = TrainConfig(lr=1.0, **settings)
    return [learning_rate(config, step, 4) for step in range(4 * config.epochs)]


def test_warm_up_grows_in_a_line_to_the_peak() -> None:
    assert rates(epochs=3, warmup=1.0, schedule="constant") == [0.25, 0.5, 0.75] + [1.0] * 9


def test_step_divides_by_ten_at_half_and_at_three_quarters() -> None:
    made = rates(epochs=2, warmup=0.0, schedule="step")
    assert made == pytest.approx([1.0] * 4 + [0.1] * 2 + [0.01] * 2)


def test_cosine_falls_from_the_peak_to_nearly_nothing() -> None:
    made = rates(epochs=5, warmup=0.0)
    assert made[0] == 1.0
    assert made == sorted(made, reverse=True)
    assert made[10] == pytest.approx(0.5)
    assert 0 < made[-1] < 0.01


def test_warm_up_never_takes_more_than_half() -> None:
    made = rates(epochs=1, warmup=5.0, schedule="constant")
    assert made == [0.5, 1.0, 1.0, 1.0]


def test_the_optimiser_is_what_was_asked_for() -> None:
    model = nn.Linear(2, 2)
    sgd = make_optimizer(model, TrainConfig(lr=0.3, momentum=0.7, weight_decay=0.1))
    assert isinstance(sgd, torch.optim.SGD)
    group = sgd.param_groups[0]
    assert [group[k] for k in ("lr", "momentum", "nesterov", "weight_decay")] == [
        0.3,
        0.7,
        True,
        0.1,
    ]
    adam = make_optimizer(model, TrainConfig(optimizer="adam", lr=0.3))
    assert isinstance(adam, torch.optim.AdamW)
