"""Users' code is told from ours by what ran last, and leaves no traces where it is called."""

from __future__ import annotations

import os
import signal
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from robustkit import usercode
from robustkit.errors import ModelError
from robustkit.registry import Registry


class Past(BaseException):
    pass


def users(text: str) -> types.ModuleType:
    """A module of a user's with this text."""
    module = types.ModuleType("users_own")
    usercode.belongs_to_user("users_own", "own.py")
    exec(compile(text, "own.py", "exec"), module.__dict__)  # noqa: S102 - the text is ours
    return module


def raised_by(call: Callable[[], object]) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def f(): raise ValueError('no')", "own.py: raises ValueError: no (own.py:1)"),
        ("def f(): raise SystemExit", "own.py: raises SystemExit (own.py:1)"),
        ("def f():\n raise KeyboardInterrupt", "own.py: raises KeyboardInterrupt (own.py:2)"),
        ("def f(): int('x')", "(own.py:1)"),
        ("import os\ndef f(): os.stat('missing')", "FileNotFoundError"),
        ("import json\ndef f(): json.loads('{')", "(own.py:2)"),
    ],
)
def test_what_a_users_module_raises_names_it(text: str, said: str) -> None:
    assert said in str(usercode.fault(raised_by(users(text).f)))


def test_a_bug_of_ours_is_none_of_theirs() -> None:
    registry: Registry[int] = Registry("thing", ModelError, {"one": 1})
    assert usercode.fault(raised_by(lambda: registry.enter("one", 1))) is None
    calls = users("def f(enter): enter('one', 1)")
    assert usercode.fault(raised_by(lambda: calls.f(registry.enter))) is None


def test_the_cause_of_an_error_is_looked_at() -> None:
    def steps() -> object:
        yield users("def f(): raise StopIteration").f()

    assert "raises StopIteration" in str(usercode.fault(raised_by(lambda: next(steps()))))  # type: ignore[call-overload]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(0), Past("no"), GeneratorExit()])
def test_whatever_is_raised_is_one_line(error: BaseException) -> None:
    words = f"own: raises {type(error).__name__}"
    with pytest.raises(ModelError, match=words) as said, usercode.contained("own", ModelError):
        raise error
    assert "\n" not in str(said.value)


def test_an_interrupt_of_its_own_is_its_fault_and_the_users_is_not() -> None:
    with pytest.raises(ModelError), usercode.contained("own", ModelError):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), usercode.contained("own", ModelError):
        signal.raise_signal(signal.SIGINT)


def test_an_error_of_ours_keeps_its_words() -> None:
    with pytest.raises(ModelError, match="as it is"), usercode.contained("own", ModelError):
        raise ModelError("as it is")


def test_what_it_changes_is_put_back(tmp_path: Path) -> None:
    def state() -> tuple[object, ...]:
        return (
            *(Path.cwd(), torch.get_default_dtype(), torch.get_num_threads(), sys.stdout),
            *(torch.is_grad_enabled(), signal.getsignal(signal.SIGTERM), list(warnings.filters)),
        )

    before = state()
    with usercode.contained("own", ModelError):
        os.chdir(tmp_path)
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.set_grad_enabled(False)
        sys.stdout = None
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        warnings.simplefilter("error")
    assert state() == before
