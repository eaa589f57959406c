"""`--extend` with what is no module, or not the one that is meant: a line, and nothing is run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from robustkit import extensions
from robustkit.cli.main import main


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    path, known, modules = list(sys.path), dict(extensions._LOADED), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    extensions._LOADED.clear()
    extensions._LOADED.update(known)
    for name in set(sys.modules) - modules:
        if name in ("leaving", "hollow"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("./leaving.py", "--extend ./leaving.py: not the name of a module"),
        (".leaving", "--extend .leaving: not the name of a module"),
        ("there/leaving", "--extend there/leaving: not the name of a module"),
        ("leaving", "--extend leaving: raises SystemExit: 3 ("),
        ("hollow", "--extend hollow: a folder without __init__.py, of which nothing is run"),
        ("tabnanny", "tabnanny.py has this name and comes first; rename "),
        ("--print_config", "--extend: expected one argument"),
    ],
)
def test_a_module_that_adds_nothing_is_refused(
    named: str, said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "leaving.py").write_text("raise SystemExit(3)")
    (place / "tabnanny.py").write_text("")
    (place / "hollow").mkdir()
    assert main(["train", "--extend", named, "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (place / "run").exists()
