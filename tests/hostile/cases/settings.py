"""Configurations and flags: YAML that fills the memory, numbers that hang, text that is none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import yaml

from tests.hostile.case import EITHER, Case, Ending, Place

_BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 12)}]\n" for n in range(1, 10)
)
BAD_YAML: dict[str, str | bytes] = {
    "a date that is none": "note: 2020-99-99\n",
    "5,000 digits": f"note: {'7' * 5000}\n",
    "5,000 digits of a float": f"note: 0.{'7' * 5000}\n",
    "a truth value that is none": "note: !!bool x\n",
    "an empty float": "note: !!float ''\n",
    "a whole number that is none": "note: !!int 0x\n",
    "aliases 12 x 9": _BOMB,
    "an alias in itself": "note: &a [*a]\n",
    "an alias in its own key": "? &a [*a]\n: 1\n",
    "deep lists": f"note: {'[' * 20_000}\n",
    "deep mappings": "note: " + "{a: " * 5000,
    "deep indents": "".join(f"{' ' * n}a:\n" for n in range(2000)),
    "code": "note: !!python/object/apply:os.system ['touch ../outside/made']\n",
    "a class": "note: !!python/name:os.system\n",
    "a set": "note: !!set {a, b}\n",
    "binary": "note: !!binary aGVsbG8=\n",
    "a tag of nobody's": "note: !secret x\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "an undefined alias": "note: *nobody\n",
    "a list as key": "? [1, 2]\n: 3\n",
    "merging a number": "<<: 1\n",
    "a NUL byte": b"note: a\0b\n",
    "bytes that are no text": b"\xff\xfe\x00note\n",
    "a lone surrogate": 'note: "\\ud800"\n',
    "an escape sequence": 'note: "\\x1b[2J\\x1b]0;gone\\x07"\n',
    "nothing": "",
    "a list": "- a\n- b\n",
    "a text": "just words\n",
    "an open quote": 'note: "never closed\n',
    "a tab": "a:\n\t- b\n",
    "2 MiB": "#" * (2 * 2**20),
    "a directive of the future": "%YAML 9.9\n---\na: 1\n",
    "an infinity": "eps: .inf\n",
    "no number": "eps: .nan\n",
    "a large exponent": "eps: 1e99999999\n",
    "a small exponent": "eps: 1e-9999999999\n",
    "null": "eps: null\n",
    "many keys": "".join(f"key{n}: {n}\n" for n in range(60_000)),
}
NUMBERS = (
    "1e-9999999999",
    "1e99999999",
    "1E+999999999999999999999999",
    "9" * 5000,
    "-" + "9" * 5000,
    f"1/{'9' * 5000}",
    f"{'9' * 5000}/1",
    "1/0",
    "0/0",
    "1e400",
    "-1e400",
    "nan",
    "inf",
    "-inf",
    "1_000_000_000_000_000_000_000",
    "0x" + "f" * 500,
    "0b" + "1" * 5000,
    "1e5/1e5",
    "٣",
    "½",
    "[" * 3000,
    "{" * 3000,
    "&a [*a]",
    "!!python/name:os.system",
    "!!float ''",
    "''",
    "",
    " ",
    "~",
    "null",
    "true",
    "1,,2",
    "--",
    "1e3.5",
    "1" + "0" * 400,
)
FLAGS = {
    "train": ("--lr", "--epochs", "--seed", "--batch-size", "--adv-eps", "--weight-decay"),
    "attack": ("--eps", "--restarts", "--test-size", "--probe", "--seed"),
    "evolve": (
        *("--lam", "--population", "--generations", "--workers", "--train-size", "--max-macs"),
        *("--yardstick", "--tolerance", "--lam-ramp", "--penalty-every", "--early-stop"),
        *("--surrogate-trainings", "--search-seed", "--promote"),
    ),
}
# Of `evolve`, beside numbers: each is one line, and nothing is begun.
PROTOCOL = {
    "no weight": ("--lam", ","),
    "a weight twice": ("--lam", "1,1"),
    "a negative weight": ("--lam", "1,-3"),
    "a weight that is none": ("--lam", "1,three"),
    "an unknown baseline": ("--baselines", "architecture", "familly"),
    "no baseline and one": ("--baselines", "none", "pool"),
    "an unknown family": ("--family", "vgg5000"),
    "an unknown view": ("--penalty-views", "corners"),
    "every view twice": ("--penalty-views", "clean", "clean"),
    "references without end": ("--reference", *["small"] * 200),
    "surrogates without end": ("--surrogate", "small", "vgg3", "--surrogate-trainings", "9999"),
    "a reference of no file": ("--reference", "small", "nowhere.safetensors"),
    "an unknown strategy": ("--strategy", "lokal"),
}
TABLES: dict[str, str | bytes] = {
    "empty": "",
    "no JSON": "one\ntwo\n",
    "a number": "1\n" * 10,
    "deep": "[" * 100_000 + "\n",
    "a line without end": "{" + '"a": 1, ' * 4_000_000,
    "another format": '{"format": "evolution-benchmark/99"}\n',
    "binary": bytes(range(256)) * 100,
    "huge numbers": '{"format": ' + "9" * 6000 + "}\n",
    "surrogates": b'{"format": "\\ud800"}\n',
}
KINDS = ("train", "evolve", "attack", "repair", "adapt", "reproduce")
RESUMED = {"evolve": "evolve", "repair": "repair", "adapt": "adapt", "checkpoints": "explain"}


def cases() -> Iterator[Case]:
    """Bad YAML wherever it is read, bad numbers wherever one is typed."""
    for number, (name, content) in enumerate(BAD_YAML.items()):
        yield Case(f"config/{name}", _config(content), ends=EITHER, seconds=20, memory=2**30)
        kind = KINDS[number % len(KINDS)]
        yield Case(
            f"runs/{name}", _listed(kind, content), ends=(0,), seconds=20, after=_both_are_listed
        )
        yield Case(f"report of {kind}/{name}", _reported(kind, content), ends=EITHER, seconds=20)
        run = list(RESUMED)[number % len(RESUMED)]
        yield Case(f"resume of {run}/{name}", _resumed(run, content), seconds=20)
    for verb, flags in FLAGS.items():
        for number, told in enumerate(NUMBERS):
            flag = flags[number % len(flags)]
            yield Case(
                f"number/{verb} {flag}/{number} {told[:12]!r}",
                _numbered(verb, flag, told),
                seconds=20,
                ends=EITHER,
            )
    for name, text in {
        "a newline": "a\nb",
        "an escape": "a\x1b[31mb",
        "no UTF-8": "a\udcffb",
        "a bell": "a\ab",
        "turned": "a\u202eb",
    }.items():
        for flag in ("--out", "--data", "--model", "--config", "--resume"):
            verb = "evolve" if flag == "--resume" else "train"
            yield Case(f"text/{flag}/{name}", _flagged(verb, flag, text))
    for what in ("pipe", "device", "folder", "link to nowhere", "socket"):
        yield Case(f"config/{what}", _odd_config(what), seconds=20)
        yield Case(f"benchmark/{what}", _odd_config(what, "evolve", "--benchmark"), seconds=20)
    for name, table in TABLES.items():
        yield Case(f"benchmark/{name}", _table(table), seconds=20, memory=2**30)
    for name, flags in PROTOCOL.items():
        yield Case(f"protocol/{name}", partial(_asked, flags), seconds=30)
    for name in ("mine.csv", "mine.json", "runs/attack/summary.json", "runs"):
        yield Case(f"export/{name}", _exported(name), after=_unchanged(name))
        yield Case(f"export by a link/{name}", _exported_by_link(name))
    yield Case("export/forced", _forced, ends=(0,), after=_was_replaced)
    yield Case("runs/700 folders in each other", _deep, ends=(0,), seconds=60)


def _config(content: str | bytes) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.write("options.yaml", content)
        return ["attack", "--config", "options.yaml", "--print_config"]

    return prepare


def _saved(folder: Path, content: str | bytes) -> None:
    """Put hostile YAML into a run's configuration: as a value of it, or in its place."""
    path = folder / "config.yaml"
    text = content.encode() if isinstance(content, str) else content
    if text.startswith((b"note: ", b"eps: ")):
        saved = yaml.safe_load(path.read_text())
        path.write_bytes(path.read_bytes() + b"  " + text)
        assert "config" in saved
    else:
        path.write_bytes(text)


def _listed(kind: str, content: str | bytes) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.copy("attack", "all/sound")
        _saved(place.copy(kind, "all/sent"), content)
        return ["runs", "all"]

    return prepare


def _both_are_listed(place: Place, ending: Ending) -> str | None:
    lines = ending.out.splitlines()
    return None if len(lines) == 2 else f"{len(lines)} rows, not 2: {ending.out[:500]}"


def _reported(kind: str, content: str | bytes) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        _saved(place.copy(kind, "sent"), content)
        return ["report", "sent"]

    return prepare


def _resumed(run: str, content: str | bytes) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        _saved(place.unfinished(run, "sent"), content)
        return [RESUMED[run], "--resume", "sent"]

    return prepare


def _numbered(verb: str, flag: str, told: str) -> Callable[[Place], Sequence[str]]:
    return lambda place: [verb, f"{flag}={told}", "--print_config"]


def _flagged(verb: str, flag: str, text: str) -> Callable[[Place], Sequence[str]]:
    return lambda place: [verb, flag, text]


def _table(content: str | bytes) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.write("table.jsonl", content)
        return ["evolve", "--benchmark", "table.jsonl", "--out", "new"]

    return prepare


def _asked(flags: Sequence[str], place: Place) -> Sequence[str]:
    return ["evolve", "--data", "digits", "--out", "new", *flags]


def _odd_config(
    what: str, command: str = "train", option: str = "--config"
) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        path = place.here / "odd"
        if what == "pipe":
            os.mkfifo(path)
        elif what == "device":
            path = Path("/dev/zero")
        elif what == "folder":
            path.mkdir()
        elif what == "link to nowhere":
            path.symlink_to("nowhere")
        else:
            os.mknod(path, 0o140600)
        return [command, option, str(path)]

    return prepare


def _exported(name: str) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.copy("attack", "runs/attack")
        if not (place.here / name).exists():
            place.write(name, "mine\n")
        return ["runs", "runs", "--export", name]

    return prepare


def _unchanged(name: str) -> Callable[[Place, Ending], str | None]:
    def check(place: Place, ending: Ending) -> str | None:
        path = place.here / name
        if path.is_dir() or path.read_text() in ("mine\n", _summary(place)):
            return None
        return f"{name} was overwritten"

    return check


def _summary(place: Place) -> str:
    return (place.run("attack") / "summary.json").read_text()


def _exported_by_link(name: str) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.copy("attack", "runs/attack")
        link = "link.json" if name.endswith(".json") else "link.csv"
        (place.here / link).symlink_to(place.outside / "precious.txt")
        return ["runs", "runs", "--export", link]

    return prepare


def _forced(place: Place) -> Sequence[str]:
    return [*_exported("mine.json")(place), "--force"]


def _was_replaced(place: Place, ending: Ending) -> str | None:
    return None if (place.here / "mine.json").read_text() != "mine\n" else "it was not replaced"


def _deep(place: Place) -> Sequence[str]:
    here = os.getcwd()  # noqa: PTH109 - paths longer than the system takes are made step by step
    os.chdir(place.here)
    try:
        for _ in range(700):
            os.mkdir("d")  # noqa: PTH102
            os.chdir("d")
    finally:
        os.chdir(here)
    return ["runs", "."]
