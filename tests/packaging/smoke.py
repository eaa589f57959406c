"""A few minutes with an installation, as a person has who knows nothing of the checkout."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

# What only extras bring: nobody may need it before asking for what it does.
EXTRAS = ("ray", "tensorboard", "foolbox", "captum", "pytorch_grad_cam", "zennit", "pyinstrument")
TOOLS = ("pytest", "hypothesis", "tests")

EVERY_MODULE = """
import importlib, pkgutil, sys
for package in ("robustkit", "evolution", "adaptation", "experiments"):
    there = importlib.import_module(package)
    assert there.__file__.startswith(sys.prefix), there.__file__
    for each in pkgutil.walk_packages(there.__path__, package + "."):
        if not each.name.endswith(".__main__"):
            importlib.import_module(each.name)
print(len([name for name in sys.modules if name.split(".")[0] in sys.argv[1:]]))
"""


class Installation:
    """An environment with robustkit in it, used from `folder`, which lies outside the checkout."""

    def __init__(self, environment: Path, folder: Path) -> None:
        self.bin, self.folder = environment / "bin", folder
        folder.mkdir()
        hidden = ("PYTHONPATH", "VIRTUAL_ENV", "ROBUSTKIT_DATA")
        self.environ = {name: value for name, value in os.environ.items() if name not in hidden}

    def run(self, command: str, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment; its exit code has to be `code`."""
        done = subprocess.run(
            [self.bin / command, *arguments],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        told = f"{command} {' '.join(arguments)} ended with {done.returncode}, not {code}"
        assert done.returncode == code, f"{told}:\n{done.stdout}\n{done.stderr}"
        return done

    def verb(self, line: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `robustkit` with the arguments of `line`."""
        return self.run("robustkit", *line.split(), code=code)


def smoke(installed: Installation) -> None:
    """Everything imports without extras, the verbs run, mistakes end in one line."""
    absent = installed.run("python", "-c", _absent((*EXTRAS, *TOOLS)))
    assert absent.stdout.split() == sorted((*EXTRAS, *TOOLS)), absent.stdout
    modules = installed.run("python", "-c", EVERY_MODULE, "robustkit", "experiments")
    assert int(modules.stdout) > 200
    doctor = installed.verb("doctor").stdout
    assert "robustkit is usable." in doctor, doctor
    assert "misalignment" in installed.verb("reproduce").stdout
    installed.verb("train --data digits --model small --epochs 1 --out runs/plain")
    attack = "attack --model plain=runs/plain/model.safetensors --data digits --test-size 40"
    installed.verb(f"{attack} --attack fgsm --eps 0.1 --out runs/attacked")
    for run in ("plain", "attacked"):
        installed.verb(f"report runs/{run}")
        folder = installed.folder / "runs" / run
        assert "</html>" in (folder / "report.html").read_text()
        assert json.loads((folder / "summary.json").read_text())
    listed = installed.verb("runs").stdout
    assert "plain" in listed, listed
    assert "attacked" in listed, listed
    _one_line(installed.verb("train --model smal --data digits", code=2))
    _one_line(installed.verb("report runs/nowhere", code=2))
    assert "checkout" in _one_line(installed.verb("bench --list", code=2))
    wanted = "evolve --data digits --population 4 --generations 1 --executor ray --out runs/ray"
    assert "ray" in _one_line(installed.verb(wanted, code=2))


def _absent(names: Sequence[str]) -> str:
    return (
        "from importlib.util import find_spec\n"
        f"print(*sorted(name for name in {list(names)!r} if find_spec(name) is None))"
    )


def _one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr
