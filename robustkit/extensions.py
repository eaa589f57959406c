"""Modules of a person's own, which register what they add when they are imported.

`--extend MODULE` names them, since what runs is what a person names. Workers of the executors are
told which modules their parent has loaded, and load them before their first job.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType

from robustkit.errors import ConfigError, RobustkitError

_LOADED: dict[str, None] = {}


def load(*names: str) -> None:
    """Import the modules `names`, each once; raises `ConfigError` for one that cannot be.

    >>> load("colorsys")
    >>> "colorsys" in loaded()
    True
    >>> load("my_attaks")
    Traceback (most recent call last):
    robustkit.errors.ConfigError: --extend my_attaks: No module named 'my_attaks'
    """
    for name in names:
        if name in _LOADED:
            continue
        try:
            found(name)
        except RobustkitError as error:
            raise ConfigError(f"--extend {name}: {error}") from error
        except Exception as error:
            raise ConfigError(f"--extend {name}: {_told(name, error)}") from error
        _LOADED[name] = None


def loaded() -> tuple[str, ...]:
    """The modules loaded here, in their order: what a worker process has to load too."""
    return tuple(_LOADED)


def found(name: str) -> ModuleType:
    """Import the module `name`, which is looked for in the current folder too."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    return importlib.import_module(name)


def _told(name: str, error: Exception) -> str:
    """What went wrong and, where the module itself went wrong, in which line of it."""
    frames = traceback.extract_tb(error.__traceback__)
    within = [frame for frame in frames if frame.name == "<module>"]
    if isinstance(error, ImportError | SyntaxError) or not within:
        hint = "; a module is named without .py" if name.endswith(".py") else ""
        return f"{error}{hint}"
    at = within[-1]
    return f"{type(error).__name__}: {error} ({at.filename}:{at.lineno})"
