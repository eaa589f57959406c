"""The user's own modules, which register what they add when they are imported.

`--extend MODULE` names them, since only what the user names is run. Workers of the executors get
the names of the modules that their parent has loaded, and load them before their first job.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from robustkit import usercode
from robustkit.errors import ConfigError, RobustkitError

_LOADED: dict[str, None] = {}
_NO_PATH = (
    "not the name of a module; name it as `import` does, my_module or package.module, and run "
    "where it lies"
)


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
        if name.startswith(".") or "/" in name:
            raise ConfigError(f"--extend {name}: {_NO_PATH}")
        with usercode.contained(f"--extend {name}", ConfigError):
            try:
                module = found(name)
            except RobustkitError as error:
                raise ConfigError(f"--extend {name}: {usercode.words(error)}") from error
            except (ImportError, SyntaxError) as error:
                hint = "; a module is named without .py" if name.endswith(".py") else ""
                raise ConfigError(f"--extend {name}: {usercode.words(error)}{hint}") from error
        _check_meant(name, module)
        _LOADED[name] = None


def loaded() -> tuple[str, ...]:
    """Return the modules loaded here, in their order: what a worker process has to load too."""
    return tuple(_LOADED)


def found(name: str) -> ModuleType:
    """Import the module `name`, which is looked for in the current folder too."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    usercode.belongs_to_user(name)
    return importlib.import_module(name)


def _check_meant(name: str, module: ModuleType) -> None:
    """Raise `ConfigError` for a folder without code, and where another module has the name."""
    file = getattr(module, "__file__", None)
    if file is None and hasattr(module, "__path__"):
        raise ConfigError(
            f"--extend {name}: a folder without __init__.py, of which nothing is run; name a "
            f"module in it, as {name}.MODULE"
        )
    here = Path.cwd() / f"{name}.py"
    if here.is_file() and (file is None or not here.samefile(file)):
        raise ConfigError(
            f"--extend {name}: {file or 'a module of Python'} has this name and comes first; "
            f"rename {here}"
        )
