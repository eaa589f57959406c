"""Results as tables: on a terminal, in plain lines, and as the page of the documentation."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.benchmarks.record import Record
from experiments.benchmarks.results import Change, Measured, Results
from experiments.benchmarks.suites import ABOUT
from robustkit.errors import RunError
from robustkit.reading import open_bounded
from robustkit.report import NOTHING
from robustkit.runs import write_text

HEAD = ("what", "ours", "peer", "ratio", "claim", "note")
CHANGES = ("suite", "what", "then", "now", "now by then", "verdict")
MARK = "<!-- Made by `robustkit bench --page`; not to be written by hand. -->"
_INTRODUCTION = """\
What is claimed about speed, and where other libraries do the same job, how long they take for it:
in the same process, in turns, with the same nets, images and iterations. Figures are medians with
their quartiles (with fewer than four rounds the least and greatest value) and the number n of
rounds; a ratio is that of two medians. The results of both sides are compared first: where they
differ by more than stated there is no ratio. Where "peer/ours" is below 1 the peer is faster.

`make bench` measures all of it again, `robustkit bench SUITE …` some of it;
`robustkit bench --compare OLD.json` says what has changed since, and
`robustkit bench --measured FILE.json --page docs/benchmarks.md` makes this page."""


def rows(suite: Measured) -> list[tuple[str, ...]]:
    """Return a row under `HEAD` for each record."""
    return [_row(record) for record in suite.records]


def all_rows(results: Results) -> list[tuple[str, ...]]:
    """Return the rows of every suite, after its name."""
    return [(name, *row) for name, suite in results.suites.items() for row in rows(suite)]


def change_rows(changes: Iterable[Change]) -> list[tuple[str, ...]]:
    """Return a row under `CHANGES` for each change."""
    return [
        (
            each.suite,
            each.what,
            _value(each.old),
            _value(each.new),
            NOTHING if each.factor is None else f"{100 * (each.factor - 1):+.1f} %",
            each.verdict,
        )
        for each in changes
    ]


def check_page(path: Path) -> None:
    """Raise `RunError` where the page of somebody else is in the place of ours, or no page can be.

    It is asked before anything is measured.
    """
    if path.is_dir():
        raise RunError(f"{path}: a folder; name the file of the page, as {path / 'page.md'}")
    if not path.parent.is_dir():
        raise RunError(f"cannot write {path}: {path.parent} is not a folder")
    if os.path.lexists(path) and not _is_ours(path):
        raise RunError(f"{path}: not made by `robustkit bench`; it is left as it is")


def _is_ours(path: Path) -> bool:
    with open_bounded(path, error=RunError) as file:
        return file.read(len(MARK)) == MARK.encode()


def write_page(path: Path, results: Results) -> None:
    """Write the page in Markdown; raises `RunError` as `check_page`."""
    check_page(path)
    write_text(path, page(results))


def page(results: Results) -> str:
    """Return all results in Markdown: the machine, and a table for every suite."""
    machine, versions = results.machine, results.versions
    parts = [MARK, "# Benchmarks", _INTRODUCTION]
    parts.append(
        f"Measured on {machine.get('cpu')}, {machine.get('cores')} cores, "
        f"{machine.get('memory_gib')} GiB of memory, {machine.get('os')}; device: "
        f"{machine.get('device')}. Versions: "
        + ", ".join(f"{name} {version or 'none'}" for name, version in versions.items())
        + "."
    )
    for name, suite in results.suites.items():
        parts.append(f"## {name}")
        parts.append(_about(name, suite))
        parts.append(_markdown(HEAD, rows(suite)))
    return "\n\n".join(parts) + "\n"


def _about(name: str, suite: Measured) -> str:
    commit = (suite.commit or "no checkout")[:12]
    changed = " with changes" if (suite.commit or "").endswith("+changes") else ""
    threads = "1 thread" if suite.threads == 1 else f"{suite.threads} threads"
    setting = ", ".join(f"{key} {value}" for key, value in suite.setting.items())
    about = ABOUT.get(name, name)
    text = f"{about[0].upper()}{about[1:]}. {suite.time[:10]}, commit {commit}{changed}, "
    text += f"{threads}, on {suite.device}, {suite.seconds:.0f} s in all."
    return f"{text} Sizes: {setting}." if setting else text


def _row(record: Record) -> tuple[str, ...]:
    if record.skipped:
        return record.what, NOTHING, NOTHING, NOTHING, NOTHING, f"skipped: {record.skipped}"
    ratio = NOTHING
    if record.ratio is not None:
        ratio = f"{record.ratio_of} {record.shown(record.ratio)}"
    note = f"no ratio, results differ: {record.differs}" if record.differs else record.note
    peer = NOTHING if record.peer is None else str(record.peer)
    return record.what, str(record.ours), peer, ratio, _claim(record), note


def _claim(record: Record) -> str:
    if record.bound is None:
        return NOTHING
    sign = "≥" if record.higher else "≤"
    return f"{sign} {record.shown(record.bound)} {'kept' if record.kept else 'MISSED'}"


def _value(record: Record | None) -> str:
    if record is None or record.value is None or record.ours is None:
        return NOTHING
    if record.peer is None:
        return str(record.ours)
    return f"{record.shown(record.value)} = {record.ratio_of}: {record.ours}, {record.peer}"


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    table = [head, ["---"] * len(head), *lines]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in table
    )
