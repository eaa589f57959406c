import pytest

from robustkit.errors import ConfigError
from robustkit.jobs import EXECUTORS, InlineExecutor, open_executor


def test_both_executors_are_known() -> None:
    assert {"inline", "processes"} <= set(EXECUTORS)
    assert isinstance(open_executor("inline"), InlineExecutor)


def test_an_unknown_name_gets_a_hint() -> None:
    with pytest.raises(ConfigError, match="unknown executor 'process'; did you mean 'processes'"):
        open_executor("process")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers is 0; it must be at least 1"),
        ({"timeout": 0.0}, "timeout is 0.0; it must be above 0"),
        ({"memory_gib": -1.0}, "memory_gib is -1.0; it must be above 0"),
        ({"timeout": float("nan")}, "timeout is nan"),
    ],
)
def test_senseless_limits_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_executor("processes", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 2}, "runs one job at a time, not 2; use 'processes'"),
        ({"timeout": 5.0}, "cannot keep timeout = 5; use 'processes'"),
        ({"memory_gib": 1.5}, "cannot keep memory_gib = 1.5"),
    ],
)
def test_inline_refuses_what_it_cannot_do(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_executor("inline", **options)  # type: ignore[arg-type]
