from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from robustkit.errors import ConfigError
from robustkit.training import TrainConfig
from robustkit.training.fit import learning_rate, make_optimizer, penalty_weight


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
        ({"penalty_views": "corners"}, "unknown penalty_views 'corners'; did you mean 'corner'"),
        ({"penalty_views": "mixed", "eps": 0.003}, "mixed: eps must be at least 1/255, not 0.003"),
        (
            {"penalty_views": "mixed", "augment": "crop_flip"},
            "penalty_views mixed are stored, .* set views above 0",
        ),
        ({"penalty_every": 0}, "penalty_every must be at least 1, not 0"),
        ({"lam_ramp": -1}, "lam_ramp must be at least 0, not -1"),
        ({"lam_ramp": float("nan")}, "lam_ramp must be at least 0, not nan"),
        ({"lam_ramp": 3.5, "epochs": 3}, "lam_ramp must be at most the 3 epochs .*, not 3.5"),
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


def weights(**settings: Any) -> list[float]:
    config = TrainConfig(**settings)
    return [penalty_weight(config, step, 4) for step in range(4 * config.epochs)]


def test_the_weight_is_lam_in_every_step_by_default() -> None:
    assert weights(epochs=2, lam=0.7) == [0.7] * 8


def test_the_weight_grows_in_a_line_from_nothing_over_the_ramp() -> None:
    assert weights(epochs=3, lam=8.0, lam_ramp=2.0) == [0, 1, 2, 3, 4, 5, 6, 7] + [8.0] * 4
    assert weights(epochs=1, lam=3.0, lam_ramp=0.5) == [0, 1.5, 3.0, 3.0]


def test_of_every_k_steps_one_has_k_times_the_weight_of_its_place_on_the_ramp() -> None:
    lazy = weights(epochs=3, lam=8.0, lam_ramp=2.0, penalty_every=3)
    every = weights(epochs=3, lam=8.0, lam_ramp=2.0)
    assert lazy == [3 * weight if step % 3 == 0 else 0 for step, weight in enumerate(every)]


OLD = (
    "TrainConfig(epochs=10, batch_size=128, optimizer='sgd', lr=0.05, momentum=0.9, "
    "nesterov=True, weight_decay=0.0005, schedule='cosine', warmup=1.0, patience=None, "
    "augment='none', views=0, lam=2.0, phi='square', grad_loss='ce', penalty_stats='batch', "
    "adversarial=None, eps=0.03137254901960784, attack_steps=7, bf16=False, channels_last=False, "
    "seed=0)"
)


def test_the_text_of_a_training_is_that_of_versions_without_noise_ramp_or_lazy_steps() -> None:
    """Hashes of trials in committed ledgers have it in them."""
    assert repr(TrainConfig(lam=2.0)) == OLD
    assert repr(TrainConfig(lam=2.0, penalty_views="clean", lam_ramp=0, penalty_every=1)) == OLD


@pytest.mark.parametrize(
    "changes", [{"penalty_views": "mixed"}, {"penalty_every": 2}, {"lam_ramp": 1.5}]
)
def test_the_text_of_a_training_has_every_setting_that_is_not_its_default(
    changes: dict[str, Any],
) -> None:
    config = TrainConfig(lam=2.0, **changes)
    (name, value), *_ = changes.items()
    assert repr(config).count(f"{name}={value!r}, ") == 1
    assert repr(config).replace(f"{name}={value!r}, ", "") == OLD
