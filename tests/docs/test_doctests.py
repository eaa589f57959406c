"""Examples run: those of docstrings, and the Python blocks of the README and of docs/."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from robustkit.cli.main import main

PACKAGES = ("robustkit", "evolution", "adaptation")
FLAGS = doctest.ELLIPSIS


def modules() -> Iterator[str]:
    for package in PACKAGES:
        yield package
        path = importlib.import_module(package).__path__
        yield from (found.name for found in pkgutil.walk_packages(path, f"{package}."))


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [
        test
        for name in modules()
        for test in finder.find(importlib.import_module(name), name)
        if test.examples
    ]


def failures(test: doctest.DocTest) -> str:
    """What a run of the examples complains of; empty where all is as told."""
    said: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
    return "".join(said)


EXAMPLES = examples()


@pytest.mark.parametrize("test", EXAMPLES, ids=lambda test: test.name)
def test_examples_of_docstrings_come_out_as_told(test: doctest.DocTest) -> None:
    assert failures(test) == ""


def test_there_are_examples_in_every_part_and_a_wrong_one_is_noticed() -> None:
    rooms = {".".join(test.name.split(".")[:2]) for test in EXAMPLES}
    wanted = {f"robustkit.{room}" for room in ("data", "models", "attacks", "repair", "explain")}
    assert rooms >= wanted | {"robustkit.training", "robustkit.compute", "evolution.objectives"}
    assert len(EXAMPLES) >= 25
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    assert "Expected:" in failures(wrong)


ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# The pages' own examples are run with less of everything: it is their code that is judged here.
SMALLER = {
    "epochs=8": "epochs=1",
    "steps=300": "steps=2, batch_size=2, warmup=0",
    ":200": ":8?side=64",
    '"tiny_ssd"': '"tiny_ssd?side=64&width=16"',
    "restarts=5": "restarts=1",
    "steps=40": "steps=4",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs that the pages made before."""
    here = tmp_path_factory.mktemp("pages")
    flags = ["--model", "small", "--epochs", "1", "--seed", "0", "--device", "cpu"]
    assert main(["train", *flags, "--out", str(here / "runs" / "t")]) == 0
    for name in ("plain", "misaligned", "train-1"):
        shutil.copytree(here / "runs" / "t", here / "runs" / name)
    made = ["--run", str(here / "runs" / "plain"), "--out", str(here / "runs" / "repaired")]
    flags = ["--method", "finetune", "--seed", "0", "--device", "cpu"]
    assert main(["repair", *made, *flags]) == 0
    return here


def blocks() -> Iterator[tuple[str, str]]:
    """Python blocks by page; tests of their own run those of the four that are left out."""
    for page in PAGES:
        if page.name not in ("extending.md", "tour.md", "python.md", "models.md"):
            for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
                yield page.name, code


@pytest.mark.parametrize(("page", "code"), list(blocks()), ids=[page for page, _ in blocks()])
def test_blocks_of_pages_run(
    page: str, code: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for large, small in SMALLER.items():
        code = code.replace(large, small)
    monkeypatch.chdir(runs)
    exec(compile(code, page, "exec"), {"__name__": page})  # noqa: S102 - our own pages
