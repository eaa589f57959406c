"""Odd environments: variables, folders that are not there or not to be written, other users."""

from __future__ import annotations

import codecs
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from robustkit.cli.commands import find_commands
from tests.hostile.case import EITHER, REFUSED, Case, Place
from tests.hostile.warm import warm

PLAIN = ("--data", "digits", "--test-size", "20", "--device", "cpu", "--probe", "0")
NOBODY = 65534
WORDS = {  # variables that hold nothing sensible, and how `runs` and an attack end beside them
    "TERM": ("dumb", "", "none-such"),
    "COLUMNS": ("0", "1", "-5", "1e9", "wide"),
    "LINES": ("0", "-1"),
    "NO_COLOR": ("1",),
    "FORCE_COLOR": ("1",),
    "HOME": ("", "/nowhere/at/all", "/dev/null"),
    "XDG_CACHE_HOME": ("/dev/null", "/nowhere"),
    "TORCH_HOME": ("/dev/null",),
    "HF_HOME": ("/dev/null",),
    "LC_ALL": ("C", "none-such"),
    "LANG": ("tlh",),
    "TZ": ("Nowhere/None",),
    "OMP_NUM_THREADS": ("abc", "-1"),
    "CUDA_VISIBLE_DEVICES": ("none", "-1"),
    "GIT_DIR": ("/nowhere",),
    "PATH": ("",),
    "JSONARGPARSE_DEFAULT_ENV": ("true",),
}
ROOTS: dict[str, Callable[[Place], str]] = {
    "missing": lambda place: "nowhere",
    "empty": lambda place: "",
    "a file": lambda place: str(place.write("data", "no folder")),
    "a pipe": lambda place: _pipe(place.here / "pipe"),
    "long": lambda place: "x" * 5000,
    "not utf-8": lambda place: os.fsdecode(b"\xff\xfe"),
    "with control characters": lambda place: "a\x1b[31mb\nc",
    "a device": lambda place: "/dev/null",
    "a loop": lambda place: _loop(place.here / "loop"),
}


def cases() -> Iterator[Case]:
    """Commands in them; none of it is a reason for more than a line."""
    for name, values in WORDS.items():
        for value in values:
            yield Case(
                f"environment/runs/{name}={value}", _runs, ends=(0,), before=_with(name, value)
            )
            yield Case(
                f"environment/attack/{name}={value}", _attack, ends=(0,), before=_with(name, value)
            )
    for name, root in ROOTS.items():
        for verb, arguments in _READING.items():
            yield Case(
                f"environment/{verb}/ROBUSTKIT_DATA {name}",
                given(*arguments),
                before=_root(root),
                ends=(0, 1) if verb == "doctor" else REFUSED,
            )
    for name, folder in {"missing": "/nowhere", "a file": "/dev/null", "full": "/dev/full"}.items():
        before = _temporary(folder)
        yield Case(f"environment/attack/TMPDIR {name}", _attack, ends=EITHER, before=before)
        yield Case(f"environment/report/TMPDIR {name}", _report, ends=EITHER, before=before)
    for name, prepare in {
        "runs": _runs,
        "report": _report,
        "attack": _attack,
        "doctor": _doctor,
    }.items():
        # What is named by a path relative to it is not there.
        yield Case(f"environment/{name}/no folder", prepare, ends=(0, 1, 2), before=_removed)
    yield from _fresh()
    yield from _as_nobody()


def _fresh() -> Iterator[Case]:
    """What only a new interpreter looks at."""
    ascii_only = {
        "LC_ALL": "C",
        "PYTHONIOENCODING": "ascii",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }
    yield Case("environment/fresh/runs/ascii", _runs, ends=(0,), env=ascii_only, fresh=True)
    yield Case(
        "environment/fresh/help/ascii",
        lambda place: ["--help"],
        ends=(0,),
        env=ascii_only,
        fresh=True,
    )
    yield Case(
        "environment/fresh/mistake/ascii", lambda place: ["r\u00fcns"], env=ascii_only, fresh=True
    )
    strict = {"PYTHONIOENCODING": "utf-16"}
    yield Case(
        "environment/fresh/runs/no such encoding",
        _runs,
        ends=(0,),
        env={"PYTHONIOENCODING": "latin-1:strict"},
        fresh=True,
    )
    del strict
    for name, value in {
        "PYTHONWARNINGS": "error",
        "PYTHONDEVMODE": "0",
        "PYTHONHASHSEED": "3",
    }.items():
        ends = EITHER if value == "error" else (0,)
        yield Case(
            f"environment/fresh/runs/{name}={value}",
            _runs,
            ends=ends,
            env={name: value},
            fresh=True,
        )
    yield Case(
        "environment/fresh/attack/PYTHONWARNINGS=error",
        _attack,
        ends=EITHER,
        env={"PYTHONWARNINGS": "error"},
        fresh=True,
        seconds=200,
    )
    nowhere = {
        "MPLCONFIGDIR": "/dev/null",
        "HOME": "/dev/null",
        "XDG_CACHE_HOME": "/dev/null",
        "OMP_NUM_THREADS": "abc",
    }
    yield Case(
        "environment/fresh/report/no caches",
        _report,
        ends=(0,),
        env=nowhere,
        fresh=True,
        seconds=200,
    )


def _as_nobody() -> Iterator[Case]:
    """An ordinary user, to whom the folder is for reading, or not even that."""
    for name in ("evolve", "repair", "adapt", "checkpoints"):
        verb = "explain" if name == "checkpoints" else name
        for kind, mode in {"read only": 0o555, "closed": 0o000}.items():

            def prepare(place: Place, name: str = name, verb: str = verb) -> Sequence[str]:
                place.copy(name, "sent")
                return [verb, "--resume", "sent"]

            def unfinished(place: Place, name: str = name, verb: str = verb) -> Sequence[str]:
                place.unfinished(name, "sent")
                return [verb, "--resume", "sent"]

            before = _nobody("sent", mode)
            yield Case(
                f"environment/nobody/resume/{name}/{kind}", prepare, ends=EITHER, before=before
            )
            yield Case(f"environment/nobody/go on/{name}/{kind}", unfinished, before=before)
    for name in ("train", "attack", "evolve", "repair", "transfer"):
        for kind, mode in {"read only": 0o555, "closed": 0o000}.items():

            def report(place: Place, name: str = name) -> Sequence[str]:
                place.copy(name, "sent")
                return ["report", "sent"]

            yield Case(
                f"environment/nobody/report/{name}/{kind}", report, before=_nobody("sent", mode)
            )

            def runs(place: Place, name: str = name) -> Sequence[str]:
                place.copy(name, "all/sent")
                return ["runs", "all"]

            yield Case(
                f"environment/nobody/runs/{name}/{kind}",
                runs,
                ends=EITHER,
                before=_nobody("all/sent", mode),
            )

    def explain(place: Place) -> Sequence[str]:
        place.copy("train", "sent")
        return [
            "explain",
            "--run",
            "sent",
            "--index",
            "0",
            "--method",
            "saliency",
            "--no-check",
            "--device",
            "cpu",
            "--out",
            "new",
        ]

    yield Case(
        "environment/nobody/explain/read only", explain, ends=(0,), before=_nobody("sent", 0o555)
    )
    yield Case("environment/nobody/explain/closed", explain, before=_nobody("sent", 0o000))
    yield Case("environment/nobody/attack/nowhere to write", _attack, before=_nobody(".", 0o555))
    yield Case(
        "environment/nobody/bench/nowhere to write",
        lambda place: ["bench", "penalty"],
        before=_nobody(".", 0o555),
    )


_READING = {
    "attack": ["attack", "--model", "cnn3", "--data", "mnist", "--out", "run"],
    "train": ["train", "--data", "cifar10", "--out", "run"],
    "doctor": ["doctor"],
}


def _runs(place: Place) -> Sequence[str]:
    place.copy("attack", "all/one")
    return ["runs", "all"]


def _report(place: Place) -> Sequence[str]:
    place.copy("train", "sent")
    return ["report", "sent"]


def _attack(place: Place) -> Sequence[str]:
    model = str(place.run("train") / "model.safetensors")
    return ["attack", "--model", model, "--attack", "fgsm", "--eps", "0.1", *PLAIN, "--out", "run"]


def _doctor(place: Place) -> Sequence[str]:
    return ["doctor"]


def given(*arguments: str) -> Callable[[Place], Sequence[str]]:
    return lambda place: arguments


def _root(root: Callable[[Place], str]) -> Callable[[Place], None]:
    return lambda place: os.environ.update(ROBUSTKIT_DATA=root(place))


def _with(name: str, value: str) -> Callable[[Place], None]:
    def before(place: Place) -> None:
        os.environ[name] = value

    return before


def _temporary(folder: str) -> Callable[[Place], None]:
    def before(place: Place) -> None:
        os.environ["TMPDIR"] = folder
        tempfile.tempdir = None

    return before


def _removed(place: Place) -> None:
    (place.here / "gone").mkdir()
    os.chdir(place.here / "gone")
    (place.here / "gone").rmdir()


def _pipe(path: Path) -> str:
    os.mkfifo(path)
    return str(path)


def _loop(path: Path) -> str:
    path.symlink_to(path)
    return str(path)


def _nobody(name: str, mode: int) -> Callable[[Place], None]:
    """Go on as a user to whom the folder `name` has the rights `mode`, everything in it its own."""

    def before(place: Place) -> None:
        folder = place.here / name
        folder.chmod(0o755)
        for each in (folder, *folder.rglob("*")):
            os.chown(each, NOBODY, NOBODY)
            each.chmod(mode if each.is_dir() else mode & 0o444)
        enter_as_nobody(place)

    return before


def enter_as_nobody(place: Place) -> None:
    """Be an ordinary user from here on, who may write at this place."""
    import plistlib  # noqa: F401 - of lists of fonts

    # From files that may be of this user alone.
    warm(*find_commands())
    for encoding in ("cp437", "utf-16-be", "mac-roman"):  # of archives and fonts
        codecs.lookup(encoding)
    for folder in (place.here, place.runs):
        for each in (folder, *folder.parents[:-2]):
            each.chmod(each.stat().st_mode | 0o111)
    if place.here.stat().st_mode & 0o222:
        os.chown(place.here, NOBODY, NOBODY)
    os.environ["HOME"] = "/nowhere"
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
