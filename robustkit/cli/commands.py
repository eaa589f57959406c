"""Find commands by the entry points of the group `robustkit.commands`, other packages' too.

A command is a module with two functions: `add_arguments(parser)` declares its options on a
`robustkit.cli.parser.CommandParser`, `run(options)` does the work and returns the exit code. One
that writes run folders has a third, `report(folder)`, which draws `report.html` again from what the
folder holds and returns its path. The first line of its docstring, "`robustkit NAME`: what it
does.", is its line in `robustkit --help`.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from robustkit.errors import ConfigError, did_you_mean
from robustkit.reading import read_text

GROUP = "robustkit.commands"
OUR_PACKAGES = ("robustkit", "evolution", "adaptation", "experiments")

# The order of `robustkit --help`; commands of other packages follow.
_ORDER = (
    *(
        "train",
        "evolve",
        "attack",
        "transfer",
        "leaderboard",
        "repair",
        "explain",
        "adapt",
        "detect",
        "shift",
    ),
    *("report", "runs", "reproduce", "bench", "doctor"),
)


@cache
def find_commands() -> dict[str, EntryPoint]:
    """Return every installed command by its name; ours first, and no other takes their names.

    Raises `ConfigError` where not even ours are installed.
    """
    commands: dict[str, EntryPoint] = {}
    for command in entry_points(group=GROUP):
        if command.name not in commands or _is_ours(command):
            commands[command.name] = command
    if not any(map(_is_ours, commands.values())):
        raise ConfigError("robustkit has no commands: install it anew, with `pip install -e .`")
    known = [name for name in _ORDER if name in commands]
    return {name: commands[name] for name in (*known, *sorted(commands.keys() - set(known)))}


def load_command(name: str) -> ModuleType:
    """Import the module of the command `name`; raises `ConfigError` for a name that none has.

    It is raised, too, where another package hides one of ours, and names its folder.
    """
    commands = find_commands()
    if name not in commands:
        raise ConfigError(f"unknown command '{name}'{did_you_mean(name, commands)}")
    command = commands[name]
    try:
        return importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        package = command.module.partition(".")[0]
        if error.name and error.name.startswith(f"{package}.") and _is_ours(command):
            raise ConfigError(_shadowed(package)) from None
        raise


def describe(name: str) -> str:
    """Return what the command `name` does in one line, read from its source without running it."""
    module = find_commands()[name].module
    for file in _sources(module):
        if file.is_file():
            text = ast.get_docstring(ast.parse(read_text(file, error=ConfigError))) or ""
            line = text.partition("\n")[0]
            return line.removeprefix(f"`robustkit {name}`: ").removesuffix(".")
    return f"not found: {module}"


def _sources(module: str) -> Iterator[Path]:
    """Yield the files that may hold a module, without importing the package that it is in."""
    package, *rest = module.split(".")
    spec = find_spec(package)
    if spec is None:
        return
    if not rest and spec.origin is not None:
        yield Path(spec.origin)
    for folder in spec.submodule_search_locations or ():
        yield Path(folder, *rest).with_suffix(".py")
        yield Path(folder, *rest, "__init__.py")


def _is_ours(command: EntryPoint) -> bool:
    return command.module.partition(".")[0] in OUR_PACKAGES


def _shadowed(package: str) -> str:
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return (
        f"the package '{package}' at {', '.join(folders)} is not robustkit's, and hides it: take "
        "its folder off PYTHONPATH, or run the command elsewhere"
    )
