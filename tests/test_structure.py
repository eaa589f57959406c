"""The rules of the tree, read from the source: imports go down only, and nothing is evaluated."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("robustkit", "evolution", "adaptation", "experiments")
LONGEST_FILE = 600

# What each package, and each package of robustkit, may import beside itself.
_BASE = {
    "robustkit.errors",
    "robustkit.registry",
    "robustkit.settings",
    "robustkit.class_names",
    "robustkit.geometry",
    "robustkit.specs",
    "robustkit.stats",
    "robustkit.reading",
    "robustkit.usercode",
    "robustkit.extensions",
}
_RUNNING = _BASE | {"robustkit.compute", "robustkit.runs", "robustkit.jobs"}
_ATTACKS = _RUNNING | {"robustkit.data", "robustkit.models"}
_EVALUATION = _ATTACKS | {"robustkit.attacks"}
_TRAINING = _EVALUATION | {"robustkit.evaluation"}
_CORE = _TRAINING | {"robustkit.training"}
_CLI = _CORE | {"robustkit.repair", "robustkit.explain", "robustkit.report"}
_ABOVE = _CLI | {"robustkit.cli", "robustkit.commands"}
MAY_IMPORT = {
    "robustkit": set[str](),
    "robustkit.errors": set[str](),
    "robustkit.registry": {"robustkit.errors"},
    "robustkit.settings": {"robustkit.errors"},
    "robustkit.class_names": set[str](),
    "robustkit.geometry": {"robustkit.errors"},
    "robustkit.specs": {"robustkit.errors"},
    "robustkit.stats": set[str](),
    "robustkit.reading": {"robustkit.errors"},
    "robustkit.usercode": {"robustkit.errors"},
    "robustkit.extensions": {"robustkit.errors", "robustkit.usercode"},
    "robustkit.compute": _BASE | {"robustkit.runs"},
    "robustkit.runs": _BASE,
    "robustkit.jobs": _BASE | {"robustkit.compute", "robustkit.runs"},
    "robustkit.data": _RUNNING,
    "robustkit.models": _RUNNING,
    "robustkit.attacks": _ATTACKS,
    "robustkit.evaluation": _EVALUATION,
    "robustkit.training": _TRAINING,
    "robustkit.repair": _CORE,
    "robustkit.explain": _CORE,
    "robustkit.report": _BASE | {"robustkit.runs"},
    "robustkit.cli": _CLI | {"robustkit"},
    "robustkit.commands": _CLI | {"robustkit.cli"},
    "robustkit.__main__": {"robustkit.cli"},
    "evolution": _ABOVE,
    "adaptation": _ABOVE,
    "experiments": {"*"},
}

SOURCES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def package_of(module: str) -> str:
    """Return the package of a dotted module name: `robustkit.data` of `robustkit.data.loading`."""
    parts = module.split(".")
    return ".".join(parts[: 2 if parts[0] == "robustkit" else 1])


def imported(file: Path) -> Iterator[str]:
    """Yield the packages of this project that `file` imports, at whatever depth of the code."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(file)}:{node.lineno}: relative import"
            modules = [node.module or ""]
            if node.module == "robustkit":
                modules = [f"robustkit.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (package_of(module) for module in modules if module.split(".")[0] in PACKAGES)


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_imports_go_down_only(file: Path) -> None:
    here = package_of(
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    )
    allowed = MAY_IMPORT[here] | {here}
    wrong = set(imported(file)) - allowed
    assert not wrong or "*" in allowed, f"{name_of(file)} imports {sorted(wrong)}"


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_a_file_is_one_idea(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert len(lines) <= LONGEST_FILE
    assert ast.get_docstring(ast.parse("\n".join(lines))), f"{name_of(file)} has no docstring"


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_files_are_never_evaluated(file: Path) -> None:
    """No pickles, no `torch.load` or `np.load` that would read one, no unsafe YAML.

    Executors pickle jobs for the pipe to their own workers; nobody else has a use for pickles.
    """
    pipes = file.is_relative_to(ROOT / "robustkit" / "jobs")
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called, given = ast.unparse(node.func), {word.arg: word.value for word in node.keywords}
        where = f"{name_of(file)}:{node.lineno}: {called}"
        assert called not in {"eval", "exec", "yaml.load"}, where
        assert pipes or called not in {"pickle.load", "pickle.loads", "pickle.Unpickler"}, where
        if called == "torch.load":
            assert ast.unparse(given["weights_only"]) == "True", where
        if called in {"np.load", "numpy.load"}:
            assert ast.unparse(given["allow_pickle"]) == "False", where


# What reads files of anyone's, and is called in `robustkit.reading` alone.
_READS = {
    *("json.load", "json.loads", "np.load", "numpy.load", "np.fromfile", "np.loadtxt", "open"),
    *("ET.parse", "ET.fromstring", "ElementTree.parse", "Image.open", "sqlite3.connect"),
    *("yaml.safe_load", "yaml.load", "os.open", "os.fdopen"),
}
_READING_METHODS = {"read_text", "read_bytes", "expanduser"}
MAY_READ = {
    # Ours alone, or opened after it was looked at.
    "robustkit/data/arrays.py": "np.load is given the open file that was looked at",
    "robustkit/data/pictures.py": "Image.open is given the open file that was looked at",
    "robustkit/data/sources/digits.py": "np.loadtxt reads scikit-learn's own file",
    "robustkit/data/sources/folder.py": "read_text reads a list of this package's",
    "robustkit/runs/environment.py": "read_text reads the system's own words of its processor",
    "robustkit/runs/atomic.py": "os.open makes a folder's new names last",
    "robustkit/runs/ledger.py": "sqlite3.connect opens a file that was looked at",
    "robustkit/runs/folder.py": "json.loads is given what json.dumps has just made",
    "robustkit/compute/tensorfiles.py": "json.loads is given the header that was just packed",
    "robustkit/usercode.py": "os.open keeps the folder that a call of somebody's begins in",
    "robustkit/jobs/run.py": "json.loads is given what json.dumps has just made",
    "robustkit/commands/repair/search.py": "json.loads is given notes whose values are checked",
    "robustkit/commands/transfer/pipeline.py": "json.loads is given what this run has dumped",
    "robustkit/commands/leaderboard/pipeline.py": "json.loads is given what this run has dumped",
    "robustkit/commands/doctor.py": "read_text reads the constraints of this checkout",
    "robustkit/cli/output.py": "os.open opens the null device",
    "robustkit/cli/main.py": "open stands in for a standard stream that was closed",
}


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_files_of_anyone_are_read_within_bounds(file: Path) -> None:
    """What others made is opened by `robustkit.reading`, or by the few that say why not."""
    name = name_of(file)
    if name.startswith("robustkit/reading/") or name in MAY_READ:
        return
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        where = f"{name}:{node.lineno}: {called}"
        assert called not in _READS or _writes(node), where
        if isinstance(node.func, ast.Attribute):
            assert node.func.attr not in _READING_METHODS, where
            # Other things than paths have an `open`; theirs is not called with a mode.
            opened = node.func.attr == "open" and node.args and _mode(node) is not None
            assert not opened or _writes(node), where


def test_those_that_may_read_do() -> None:
    """A module that reads no more leaves the list."""
    for name in MAY_READ:
        text = (ROOT / name).read_text()
        assert any(each in text for each in (*_READS, *_READING_METHODS)), name


def _mode(node: ast.Call) -> str | None:
    """The mode that an `open` is called with, if it is."""
    given = [*node.args, *(word.value for word in node.keywords if word.arg == "mode")]
    texts = [each.value for each in given if isinstance(each, ast.Constant)]
    return next(
        (each for each in texts if isinstance(each, str) and set(each) <= set("rwab+xt")), None
    )


def _writes(node: ast.Call) -> bool:
    mode = _mode(node)
    return mode is not None and not set(mode) & set("r+")


@pytest.mark.parametrize(
    "module", ["robustkit", "robustkit.errors", "robustkit.runs", "robustkit.cli.main"]
)
def test_light_modules_do_not_import_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_every_folder_of_code_is_a_package() -> None:
    folders = {file.parent for file in SOURCES}
    assert not [name_of(folder) for folder in folders if not (folder / "__init__.py").exists()]


def test_the_public_api_is_there() -> None:
    import robustkit

    for name in robustkit.__all__:
        assert getattr(robustkit, name).__name__ == f"robustkit.{name}"
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = robustkit.nonsense


def test_there_is_one_version() -> None:
    import robustkit

    version = robustkit.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text()
