from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import robustkit.cli.parser
from robustkit.cli.commands import find_commands, load_command
from robustkit.cli.main import main
from robustkit.cli.parser import CommandParser, Options
from robustkit.errors import DataError

ROOT = Path(__file__).parents[3]
Install = Callable[[Callable[[Options], int]], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a made-up `run` behind the verb `train`."""

    def replace(run: Callable[[Options], int]) -> None:
        def add_arguments(parser: CommandParser) -> None:
            parser.add_argument("--seed", type=int, default=0)

        module = SimpleNamespace(add_arguments=add_arguments, run=run)
        monkeypatch.setattr(robustkit.cli.parser, "load_command", lambda verb: module)

    return replace


def raising(error: BaseException) -> Callable[[Options], int]:
    def run(options: Options) -> int:
        raise error

    return run


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {verb} " in printed for verb in find_commands())


def test_without_a_verb_the_usage_is_an_error() -> None:
    assert main([]) == 2


def test_a_misspelt_verb_gets_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evolv"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(
        "robustkit: error: unknown command 'evolv'; did you mean 'evolve'?"
    )
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_the_verb_gets_its_options_and_gives_the_exit_code(install: Install) -> None:
    install(lambda options: int(options.seed))
    assert main(["train", "--seed", "7"]) == 7


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DataError("no such\n  data"), "robustkit: error: no such data\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/1/x"),
            "robustkit: error: no space left on the device: runs/1/x\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied"),
            "robustkit: error: Permission denied\n",
        ),
        (
            RuntimeError("operator torchvision::nms does not exist"),
            "robustkit: error: torch and torchvision disagree; `robustkit doctor` prints the fix\n",
        ),
    ],
)
def test_what_a_person_can_mend_is_one_line(
    install: Install, capsys: pytest.CaptureFixture[str], error: Exception, line: str
) -> None:
    install(raising(error))
    assert main(["train"]) == 2
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    "error", [ValueError("bug"), RuntimeError("bug"), OSError(errno.EBADF, "bug")]
)
def test_a_bug_keeps_its_traceback(install: Install, error: Exception) -> None:
    install(raising(error))
    with pytest.raises(type(error), match="bug"):
        main(["train"])


@pytest.mark.parametrize(
    ("interrupt", "line"),
    [
        (KeyboardInterrupt(), "robustkit: interrupted\n"),
        (KeyboardInterrupt("go on with: X"), "robustkit: interrupted; go on with: X\n"),
    ],
)
def test_an_interrupt_is_one_line_and_130(
    install: Install, capsys: pytest.CaptureFixture[str], interrupt: KeyboardInterrupt, line: str
) -> None:
    install(raising(interrupt))
    assert main(["train"]) == 130
    assert capsys.readouterr().err == line


def test_a_reader_that_left_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "robustkit", "--help"],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert process.stderr == b""
    assert process.returncode == 1


@pytest.mark.parametrize("verb", find_commands())
def test_every_verb_keeps_the_contract(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = load_command(verb)
    assert callable(module.run)
    with pytest.raises(SystemExit) as left:
        main([verb, "--help"])
    assert left.value.code == 0
    assert f"usage: robustkit {verb}" in capsys.readouterr().out
    assert main([verb, "--no-such-option"]) == 2
    assert "unknown option '--no-such-option'" in capsys.readouterr().err


@pytest.mark.parametrize("name", find_commands())
def test_help_shows_the_first_options_first_and_help_all_shows_all(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    parser = CommandParser(name)
    load_command(name).add_arguments(parser)
    short = parser.format_help()
    parser.shows_all = True
    whole = parser.format_help()
    assert len(short.splitlines()) <= 90, "two screens"
    for action in parser._actions:
        assert action.help, action.dest
        for flag in action.option_strings[:1]:
            assert flag in short, "listed at least"
            assert f"  {flag}" in whole or f", {flag}" in whole
    places = [short.index(f"  --{each.replace('_', '-')}") for each in parser._first]
    assert places == sorted(places)
    assert not places or places[-1] < short.index("--help-all")


def test_an_option_that_is_not_there_cannot_be_shown_first() -> None:
    with pytest.raises(KeyError, match="epsilon"):
        CommandParser("train").arrange(first="epsilon", advanced="")


def run_beside(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command, as a wheel installs it, with `folder` in front of all that Python finds."""
    paths = os.pathsep.join([str(folder), str(ROOT)])
    code = (
        "import sys; from robustkit.cli import main\n"
        "sys.meta_path = [each for each in sys.meta_path if 'editable' not in repr(each)]\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_command_of_another_package_is_found(tmp_path: Path) -> None:
    (tmp_path / "greeting.py").write_text(
        '"""`robustkit greet`: say hello to somebody."""\n\n'
        "def add_arguments(parser):\n"
        '    parser.add_argument("--name", default="you", help="who is greeted")\n\n'
        "def run(options):\n"
        '    print(f"hello, {options.name}")\n'
        "    return 0\n"
    )
    info = tmp_path / "greeting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[robustkit.commands]\ngreet = greeting\ntrain = greeting\n"
    )
    listed = run_beside(tmp_path, "--help").stdout
    told = dict(line.split(maxsplit=1) for line in listed.splitlines() if line.startswith("  "))
    assert told["greet"] == "say hello to somebody"
    assert told["train"].startswith("train a classifier"), "no other package takes our names"
    assert run_beside(tmp_path, "greet", "--name", "R2").stdout == "hello, R2\n"
    assert "did you mean '--name'" in run_beside(tmp_path, "greet", "--nam", "R2").stderr


def test_a_package_of_somebody_elses_hides_only_its_own_commands(tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").touch()
    assert run_beside(tmp_path, "attack", "--help").returncode == 0
    hidden = run_beside(tmp_path, "reproduce", "--list")
    assert hidden.returncode == 2
    assert hidden.stderr.count("\n") == 1
    assert f"the package 'experiments' at {tmp_path / 'experiments'} is not robustkit's" in (
        hidden.stderr
    )
