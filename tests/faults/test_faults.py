"""Whatever happens to a run, it is resumed to the end it would have had.

Here a few moments of each fault; `python -m tests.faults` tries a hundred.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.faults import FAULTS, suffer
from tests.faults.real import evolution
from tests.faults.standin import search
from tests.faults.victim import Course, undisturbed

SLOW = ("kill -9 of a worker",)


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    return undisturbed(search, tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in FAULTS]
)
def test_a_run_survives(name: str, course: Course, tmp_path: Path) -> None:
    for each in tmp_path.parents:  # a run as nobody has to reach its folder
        if each.owner() != "root" or each == Path("/tmp"):
            break
        each.chmod(each.stat().st_mode | 0o055)
    struck = [suffer(name, number, tmp_path, course) for number in range(6)]
    assert any(struck)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kill -9 of the driver", "a full disk"])
def test_the_command_survives(name: str, tmp_path: Path) -> None:
    course = undisturbed(evolution, tmp_path)
    assert any(suffer(name, number, tmp_path, course) for number in range(6))
