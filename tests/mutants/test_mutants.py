"""The list of mistakes does not rot, and what is said of each is true."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.__main__ import main
from tests.mutants.areas import AREAS
from tests.mutants.mutant import ROOT, Mutant
from tests.mutants.running import MutantError, copied, passed, run_mutant

LIMIT = 120.0
ALL = [mutant for area in AREAS.values() for mutant in area]
HALF = "def half(number):\n    return number // 2\n"
TESTS = """
from robustkit.half import half

def test_of_even():
    assert half(4) == 2

def test_of_odd():
    assert half(5) == 2
"""


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_a_mistake_can_be_made(mutant: Mutant) -> None:
    mutant.mutated((ROOT / mutant.file).read_text())
    assert mutant.tests
    for each in mutant.tests:
        file, _, name = each.partition("::")
        assert (ROOT / file).is_file(), each
        assert not name or f"\ndef {name.partition('[')[0]}(" in (ROOT / file).read_text(), each


def test_every_area_has_mistakes_enough_and_each_its_own_name() -> None:
    assert all(len(area) >= 6 for area in AREAS.values())
    assert Counter(mutant.name for mutant in ALL).most_common(1)[0][1] == 1


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("number % 2", "number", "m: found 0 times in robustkit/half.py, not once"),
        ("number", "count", "m: found 2 times"),
        ("number // 2", "number // ", "m: robustkit/half.py is no Python any more"),
        ("number // 2", "number  // 2", "m: the same program"),
    ],
)
def test_a_mistake_that_is_none_is_named(old: str, new: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Mutant("m", "robustkit/half.py", old, new, ()).mutated(HALF)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository of one function and its tests, copied as the real one is."""
    original = tmp_path / "original"
    for folder in ("robustkit", "tests"):
        (original / folder).mkdir(parents=True)
        (original / folder / "__init__.py").touch()
    (original / "robustkit" / "half.py").write_text(HALF)
    (original / "tests" / "test_half.py").write_text(TESTS)
    (original / "tests" / "test_broken.py").write_text("from robustkit.half import third\n")
    (tmp_path / "copy").mkdir()
    return copied(original, tmp_path / "copy", ("robustkit", "tests"))


def halved(new: str, tests: str = "tests/test_half.py") -> Mutant:
    return Mutant("m", "robustkit/half.py", "number // 2", new, (tests,))


def test_the_test_that_notices_is_named(root: Path) -> None:
    assert passed(root, ("tests/test_half.py",), LIMIT).killer == ""
    assert run_mutant(root, halved("number / 2"), LIMIT).killer == "tests/test_half.py::test_of_odd"
    assert (
        run_mutant(root, halved("number // 3"), LIMIT).killer == "tests/test_half.py::test_of_even"
    )
    assert (root / "robustkit" / "half.py").read_text() == HALF


def test_what_no_test_notices_survives(root: Path) -> None:
    assert run_mutant(root, halved("int(number / 2)"), LIMIT).killer == ""
    only_even = halved("number / 2", "tests/test_half.py::test_of_even")
    assert run_mutant(root, only_even, LIMIT).killer == ""


def test_a_mutant_that_hangs_or_crashes_was_noticed_by_no_test(root: Path) -> None:
    with pytest.raises(MutantError, match="no end within 3 s"):
        run_mutant(root, halved("__import__('time').sleep(1000)"), 3)
    with pytest.raises(MutantError, match="the process died"):
        run_mutant(root, halved("__import__('os')._exit(1)"), LIMIT)


def test_tests_that_cannot_be_collected_say_nothing(root: Path) -> None:
    with pytest.raises(MutantError, match="cannot import name 'third'"):
        run_mutant(root, halved("number / 2", "tests/test_broken.py"), LIMIT)
    with pytest.raises(MutantError, match=r"no tests ran|not found"):
        run_mutant(root, halved("number / 2", "tests/test_half.py::test_of_none"), LIMIT)
    assert (root / "robustkit" / "half.py").read_text() == HALF


def test_an_area_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["penalties"]) == 2
    assert "no area penalties; there are penalty, denominators" in capsys.readouterr().err
