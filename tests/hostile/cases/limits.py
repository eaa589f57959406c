"""Limits of the machine: memory, open files, sizes of files, processes, seconds, clusters."""

from __future__ import annotations

import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from tests.evolution.protocol.runs import INLINE, TINY, TWO_WORKERS
from tests.hostile.case import EITHER, Case, Ending, Place
from tests.hostile.cases.environment import PLAIN, enter_as_nobody

MISSING = ("torchvision", "matplotlib", "rich", "deap", "sklearn", "ray", "PIL", "yaml")


def cases() -> Iterator[Case]:
    """Commands within limits: done, or one line, and what was made before it is whole."""
    for size in (1_000, 20_000, 100_000):
        for verb, prepare in {"attack": _attack, "train": _train, "evolve": _evolve}.items():
            if verb == "evolve" and size != 20_000:
                continue
            before = _limited(resource.RLIMIT_FSIZE, size)
            yield Case(f"limits/{verb}/files of {size}", prepare, ends=EITHER, before=before)
    for count in (3, 5, 8, 12, 20):
        for verb, prepare in {"attack": _attack, "runs": _runs, "doctor": _doctor}.items():
            before = _limited(resource.RLIMIT_NOFILE, count)
            yield Case(f"limits/{verb}/{count} open files", prepare, ends=(0, 1, 2), before=before)
    before = _limited(resource.RLIMIT_NOFILE, 14)
    yield Case("limits/processes/14 open files", _processes, before=before, seconds=200)
    for mebibytes in (0, 50, 200):
        before = _memory(mebibytes)
        yield Case(f"limits/train/{mebibytes} MiB", _large, ends=EITHER, before=before)
        yield Case(f"limits/attack/{mebibytes} MiB", _attack, ends=EITHER, before=before)
    for mebibytes in (100, 300, 700, 1500):
        before = _from_start(mebibytes)
        name = f"limits/fresh/{mebibytes} MiB"
        yield Case(name, _train, before=before, fresh=True, seconds=200)
    yield Case("limits/processes/no process", _processes, before=_no_process, seconds=200)
    yield Case("limits/runs/no process", _runs, ends=(0,), before=_no_process)
    yield Case("limits/attack/no process", _attack, ends=(0,), before=_no_process)
    yield Case("limits/train/one second", _long, ends=(152,), before=_one_second, after=_said)
    for address in ("127.0.0.1:1", "nowhere.invalid:6379", "auto"):
        yield Case(
            f"limits/ray/{address}",
            lambda place, address=address: [  # type: ignore[misc]
                *("evolve", *TINY, "--executor", "ray", "--ray-address", address, "--out", "run"),
            ],
            seconds=150,
            after=_nothing_made,
        )
    yield Case("limits/ray/a stub", _stub, seconds=150, after=_nothing_made)
    yield Case("limits/ray/a silent stub", _silent_stub, seconds=150, after=_nothing_made)
    for name in MISSING:
        yield Case(f"limits/doctor/without {name}", _doctor, ends=(0, 1), before=_without(name))
        yield Case(f"limits/attack/without {name}", _attack, ends=EITHER, before=_without(name))


def _answering(answer: bytes) -> str:
    """The address of a server of this process that says this to whoever comes."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        with server, connection:
            connection.sendall(answer)
            time.sleep(20)

    threading.Thread(target=serve, daemon=True).start()
    return "{}:{}".format(*server.getsockname())


def _stub(place: Place) -> Sequence[str]:
    address = _answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    return ["evolve", *TINY, "--executor", "ray", "--ray-address", address, "--out", "run"]


def _silent_stub(place: Place) -> Sequence[str]:
    address = _answering(b"")
    return ["evolve", *TINY, "--executor", "ray", "--ray-address", address, "--out", "run"]


def _limited(which: int, most: int) -> Callable[[Place], None]:
    def before(place: Place) -> None:
        resource.setrlimit(which, (most, resource.getrlimit(which)[1]))

    return before


def _memory(mebibytes: int) -> Callable[[Place], None]:
    """So much address space more than the process has once torch is there."""

    def before(place: Place) -> None:
        import psutil

        room = psutil.Process().memory_info().vms + mebibytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))

    return before


def _from_start(mebibytes: int) -> Callable[[Place], None]:
    def before(place: Place) -> None:
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        resource.setrlimit(resource.RLIMIT_AS, (mebibytes * 2**20, mebibytes * 2**20))

    return before


def _no_process(place: Place) -> None:
    enter_as_nobody(place)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def _one_second(place: Place) -> None:
    spent = int(sum(os.times()[:2]))
    resource.setrlimit(resource.RLIMIT_CPU, (spent + 1, spent + 60))


def _without(name: str) -> Callable[[Place], None]:
    def before(place: Place) -> None:
        for each in list(sys.modules):
            if each == name or each.startswith(f"{name}."):
                del sys.modules[each]
        sys.modules[name] = None  # type: ignore[assignment]

    return before


def _said(place: Place, ending: Ending) -> str | None:
    if not ending.err.startswith("robustkit: ended by SIGXCPU; start anew with: "):
        return f"it does not say what ended it: {ending.err}"
    return None


def _nothing_made(place: Place, ending: Ending) -> str | None:
    return "there is a run folder" if (place.here / "run").exists() else None


def _attack(place: Place) -> Sequence[str]:
    model = str(place.run("train") / "model.safetensors")
    return ["attack", "--model", model, "--attack", "fgsm", "--eps", "0.1", *PLAIN, "--out", "run"]


def _train(place: Place) -> Sequence[str]:
    flags = ["--data", "digits", "--model", "vgg3?width=4", "--epochs", "1", "--train-size", "100"]
    return ["train", *flags, "--device", "cpu", "--out", "run"]


def _large(place: Place) -> Sequence[str]:
    flags = ["--data", "digits", "--model", "vgg3?width=256", "--epochs", "1", "--device", "cpu"]
    return ["train", *flags, "--train-size", "200", "--batch-size", "200", "--out", "run"]


def _long(place: Place) -> Sequence[str]:
    flags = ["--data", "digits", "--model", "vgg3?width=16", "--epochs", "500", "--device", "cpu"]
    return ["train", *flags, "--out", "run"]


def _evolve(place: Place) -> Sequence[str]:
    return ["evolve", *TINY, *INLINE, "--out", "run"]


def _processes(place: Place) -> Sequence[str]:
    return ["evolve", *TINY, *TWO_WORKERS, "--out", "run"]


def _runs(place: Place) -> Sequence[str]:
    place.copy("attack", "all/one")
    return ["runs", "all"]


def _doctor(place: Place) -> Sequence[str]:
    return ["doctor"]
