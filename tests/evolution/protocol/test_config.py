"""What of a run's settings reaches its trainings."""

from __future__ import annotations

import pytest

from evolution.protocol.config import EvolveConfig


@pytest.mark.parametrize("name", ["bf16", "channels_last"])
@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("wanted", [False, True])
def test_what_is_for_speed_reaches_every_training(name: str, final: bool, wanted: bool) -> None:
    config = EvolveConfig(**{name: wanted})  # type: ignore[arg-type]
    made = config.training(penalised=True, final=final, seed=0)
    assert getattr(made, name) is wanted
    other = {"bf16", "channels_last"} - {name}
    assert not getattr(made, other.pop())
