"""What is in an archive, and what has no business there."""

from __future__ import annotations

import email
import subprocess
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
PACKAGES = ("robustkit", "evolution", "adaptation", "experiments")
# Of a checkout alone: what was run with the packages, and what only measures them.
LEFT_OUT = (
    "experiments/results/",
    "experiments/benchmarks/",
    "experiments/configs/",
    "experiments/README.md",
)
BESIDE = {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "setup.cfg", "pyproject.toml"}


def expected() -> set[str]:
    """Return every file of the packages that a wheel has to hold."""
    listed = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return {name for name in listed if not name.startswith(LEFT_OUT)}


def check_wheel(path: Path) -> None:
    """The packages' files, each and no other; metadata that say the name, the licence, the door."""
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        about = str(PurePosixPath(metadata).parent)
        held = {name for name in names if not name.startswith(f"{about}/")}
        _same(held, expected(), path)
        told = email.message_from_bytes(wheel.read(metadata))
        doors = wheel.read(f"{about}/entry_points.txt").decode()
        licence = wheel.read(f"{about}/licenses/LICENSE").decode()
    assert path.name.split("-")[:2] == [told["Name"], told["Version"]], path.name
    assert told["License-Expression"] == "MIT"
    assert "MIT License" in licence
    assert told["Requires-Python"] == ">=3.11"
    assert "robustkit = robustkit.cli:main" in doors
    assert len(str(told.get_payload())) > 1000, "the README is no description"


def check_sdist(path: Path) -> None:
    """The same files, what they are built with, and what a person reads; nothing that was run."""
    with tarfile.open(path) as archive:
        inside = [PurePosixPath(each.name) for each in archive.getmembers() if each.isfile()]
    assert {each.parts[0] for each in inside} == {path.name.removesuffix(".tar.gz")}
    names = {str(PurePosixPath(*each.parts[1:])) for each in inside}
    packaged = {name for name in names if name.split("/")[0] in PACKAGES}
    _same(packaged, expected(), path)
    missing = BESIDE - names
    assert not missing, f"{path.name} lacks {sorted(missing)}"
    assert not [name for name in names if name.startswith("tests/")]


def _same(held: set[str], wanted: set[str], path: Path) -> None:
    missing, foreign = sorted(wanted - held), sorted(held - wanted)
    assert not missing, f"{path.name} lacks {missing}"
    assert not foreign, f"{path.name} holds {foreign}"
