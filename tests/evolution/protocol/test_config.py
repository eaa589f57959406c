"""What of a run's settings reaches its trainings."""

from __future__ import annotations

from typing import Any

import pytest

from evolution.protocol.config import EvolveConfig
from robustkit.errors import ConfigError


@pytest.mark.parametrize("name", ["bf16", "channels_last"])
@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("wanted", [False, True])
def test_what_is_for_speed_reaches_every_training(name: str, final: bool, wanted: bool) -> None:
    config = EvolveConfig(lam=1.0, **{name: wanted})  # type: ignore[arg-type]
    made = config.training(penalised=True, final=final, seed=0)
    assert getattr(made, name) is wanted
    other = {"bf16", "channels_last"} - {name}
    assert not getattr(made, other.pop())


@pytest.mark.parametrize("final", [False, True])
def test_the_penaltys_options_reach_penalised_trainings_alone(final: bool) -> None:
    config = EvolveConfig(lam=2.0, penalty_views="mixed", penalty_every=2, lam_ramp=1.0, eps=0.1)
    made = config.training(penalised=True, final=final, seed=0)
    assert (made.penalty_views, made.penalty_every, made.lam_ramp) == ("mixed", 2, 1.0)
    assert made.eps == 0.1
    plain = config.training(penalised=False, final=final, seed=0)
    assert plain == EvolveConfig(eps=0.1).training(penalised=False, final=final, seed=0)


def test_the_attacks_radius_is_no_part_of_a_training_without_noise() -> None:
    """Hashes of trials from before there was noise have to stay."""
    made = EvolveConfig(lam=1.0, eps=0.1).training(penalised=True, final=False, seed=0)
    assert made == EvolveConfig(lam=1.0).training(penalised=True, final=False, seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"penalty_views": "mixed", "eps": 0.003}, "mixed: eps must be at least 1/255, not 0.003"),
        ({"penalty_views": "mixed", "norm": "l2"}, "mixed: its noise .* linf ball; norm is 'l2'"),
        ({"penalty_views": "mxed"}, "unknown penalty_views 'mxed'; did you mean 'mixed'"),
        ({"penalty_every": 0}, "penalty_every must be at least 1, not 0"),
        ({"lam_ramp": -1.0}, "lam_ramp must be at least 0, not -1"),
        ({"lam_ramp": 4.0}, "lam_ramp must be at most the 3 epochs of the training, not 4"),
        ({"lam_ramp": 2.0, "final_epochs": 1}, "lam_ramp must be at most the 1 epochs"),
        (
            {"lam_ramp": 2.0, "epochs": 4, "mode": "steady", "halving": 2, "generations": 20},
            "lam_ramp must be at most the 1 epochs",
        ),
        ({"penalty_views": "mixed", "views": 2}, "augmentation 'none' makes 1 view, not 2"),
        ({"views": 3, "augment": "flip"}, "augmentation 'flip' makes 1 or 2 views, not 3"),
    ],
)
def test_a_penalty_that_fits_no_training_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EvolveConfig(**settings)


def test_a_weight_that_was_chosen_is_the_trainings() -> None:
    config = EvolveConfig(lam=(10.0, 1.0, 3.0))
    assert config.lams == (1.0, 3.0, 10.0)
    assert config.training(penalised=True, final=True, seed=0, lam=3.0).lam == 3.0
    assert config.training(penalised=False, final=True, seed=0, lam=3.0).lam == 0.0
    with pytest.raises(ValueError, match="unpack"):
        config.training(penalised=True, final=True, seed=0)


def test_references_and_surrogates_have_names_of_their_own() -> None:
    config = EvolveConfig(reference=("small", "vgg3"), surrogate=("a", "b"), surrogate_trainings=2)
    assert config.references == ("R", "R.2")
    assert config.surrogates == {"S": "a", "S.2": "a", "S.3": "b", "S.4": "b"}


def test_a_run_folder_that_knew_one_reference_is_read() -> None:
    config = EvolveConfig(reference="small", surrogate="vgg3")  # type: ignore[arg-type]
    assert (config.reference, config.surrogate) == (("small",), ("vgg3",))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lam": (1.0, 1.0)}, "several distinct ones"),
        ({"lam": (0.0, 1.0)}, "to choose from must be positive"),
        ({"lam": ()}, "give one weight"),
        ({"lam": (1.0, -1.0)}, "must be positive"),
        ({"lam": -1.0}, "lam must be at least 0, not -1"),
        ({"baselines": ("pol",)}, "unknown baseline 'pol'; did you mean 'pool'"),
        ({"baselines": ("pool", "pool")}, "are not distinct"),
        ({"reference": ()}, "reference: 1 to 16 nets, not 0"),
        ({"reference": ("small", "small")}, "reference: .* not distinct"),
        ({"surrogate": ("a",) * 17}, "surrogate: 1 to 16 nets, not 17"),
        ({"surrogate_trainings": 100}, "100 surrogates, at most 99"),
        ({"lam": (3.0, 3.0000001)}, "several distinct ones"),
        ({"yardstick": 0}, "yardstick must be at least 1, not 0"),
        ({"surrogate_trainings": 0}, "surrogate_trainings must be at least 1"),
    ],
)
def test_nets_weights_and_baselines_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EvolveConfig(**settings)
