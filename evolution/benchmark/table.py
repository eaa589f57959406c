"""The table of the benchmark: one JSON line about it, then one for each network.

Nothing in it is evaluated: lines are read as the types below, and genotypes are checked like any
user's. Genes at their defaults are left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from evolution.benchmark.measure import (
    CLASSES,
    EPS,
    INPUT_SHAPE,
    PENALTY_EVERY,
    REFERENCES,
    RUNGS,
    SPACE,
    TRAIN_IMAGES,
    VAL_IMAGES,
    VIEWS,
    Measurement,
    Rung,
)
from evolution.genotype import Genotype
from robustkit.errors import ModelError, RunError
from robustkit.models.blueprint import Block, Head
from robustkit.reading import parse_json, printable, read_text
from robustkit.reading.jsonfile import check_kind
from robustkit.runs import atomic_path

FORMAT = 1
TABLE = "table.jsonl"
LARGEST = 16 * 2**20  # bytes


class Setting(msgspec.Struct, frozen=True):
    """How every network of a table was trained and measured."""

    format: int
    data: str
    input_shape: tuple[int, int, int]
    classes: int
    train_images: int
    val_images: int
    references: tuple[str, ...]
    epochs: tuple[int, ...]
    penalty_views: str
    penalty_every: Annotated[int, Meta(ge=1)]
    eps: float
    lam: float


class _Row(Rung, frozen=True, array_like=True):
    """A rung as a list of its fields, in their order."""


class _Line(msgspec.Struct, frozen=True):
    """A network in the file."""

    number: Annotated[int, Meta(ge=0)]
    origin: str
    parents: list[Annotated[int, Meta(ge=0)]]
    blocks: list[dict[str, object]]
    head: dict[str, object]
    params: Annotated[int, Meta(ge=1)]
    macs: Annotated[int, Meta(ge=1)]
    trainings: list[list[_Row] | None]


@dataclass(frozen=True)
class Record:
    """A network of the table with its trainings, None for one that left the finite numbers.

    `parents` are the numbers of those that it was bred from.
    """

    number: int
    origin: str
    parents: tuple[int, ...]
    genotype: Genotype
    params: int
    macs: int
    trainings: tuple[tuple[Rung, ...] | None, ...]


@dataclass(frozen=True)
class Table:
    """All networks of a benchmark, by number, and how they were measured."""

    setting: Setting
    records: tuple[Record, ...]


def setting_of(lam: float) -> Setting:
    """Return the setting of this version's benchmark with the chosen weight of the penalty."""
    return Setting(
        format=FORMAT,
        data="cifar10, the first 20,000 training images, halved to 16x16",
        input_shape=INPUT_SHAPE,
        classes=CLASSES,
        train_images=TRAIN_IMAGES,
        val_images=VAL_IMAGES,
        references=REFERENCES,
        epochs=RUNGS,
        penalty_views=VIEWS,
        penalty_every=PENALTY_EVERY,
        eps=EPS,
        lam=lam,
    )


def table_path(path: Path | str | None = None) -> Path:
    """Return `path`, or where the table lies that comes with the package."""
    return Path(str(files("evolution.benchmark") / TABLE)) if path is None else Path(path)


def load_table(path: Path | str | None = None) -> Table:
    """Return the table in the file at `path`, by default the one that comes with the package.

    Raises `RunError`, naming the file and the line, for another format, a damaged line, a number
    out of its range, a genotype outside the benchmark's space, and a network that is there twice.
    """
    source = table_path(path)
    if path is None and not source.exists():
        raise RunError("this robustkit comes without the benchmark's table; name a file of one")
    head, *lines = read_text(source, error=RunError, limit=LARGEST).splitlines() or [""]
    plain = parse_json(head, f"{source}: line 1", error=RunError)
    found = plain.get("format") if isinstance(plain, dict) else None
    if found != FORMAT:
        raise RunError(
            f"{source}: a benchmark of format {printable(found)}; this robustkit reads {FORMAT}"
        )
    setting = check_kind(plain, Setting, f"{source}: line 1", error=RunError)
    records: list[Record] = []
    known: dict[str, int] = {}
    for number, text in enumerate(lines, start=2):
        record = _record(text, f"{source}: line {number}", setting)
        if (first := known.setdefault(record.genotype.key(), number)) != number:
            raise RunError(f"{source}: line {number}: the same network as line {first}")
        records.append(record)
    return Table(setting, tuple(records))


def save_table(table: Table, path: Path) -> None:
    """Write a table, whole or not at all; numbers are rounded to four significant digits."""
    lines = [json.dumps(msgspec.to_builtins(table.setting))]
    lines += [json.dumps(_plain(record), separators=(",", ":")) for record in table.records]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def record_of(
    number: int,
    origin: str,
    parents: Sequence[int],
    genotype: Genotype,
    trainings: Sequence[Measurement | None],
) -> Record:
    """Return the record of a network; `trainings` has at least one that succeeded."""
    size = next(each for each in trainings if each is not None)
    rungs = tuple(None if each is None else tuple(each.rungs) for each in trainings)
    genotype = genotype.canonical()
    return Record(number, origin, tuple(parents), genotype, size.params, size.macs, rungs)


def _record(text: str, where: str, setting: Setting) -> Record:
    line = check_kind(parse_json(text, where, error=RunError), _Line, where, error=RunError)
    defaults = _plain_genes(Block()), _plain_genes(Head())
    try:
        genotype = Genotype.from_dict(
            {
                "blocks": [defaults[0] | each for each in line.blocks],
                "head": defaults[1] | line.head,
            }
        )
    except ModelError as error:
        raise RunError(f"{where}: {error}") from None
    if not SPACE.fits(genotype, setting.input_shape, setting.classes):
        raise RunError(f"{where}: the network is outside the benchmark's space")
    for rungs in line.trainings:
        if rungs is not None and tuple(each.epochs for each in rungs) != setting.epochs:
            raise RunError(f"{where}: measured after other epochs than {setting.epochs}")
    trainings = tuple(
        None if rungs is None else tuple(Rung(*msgspec.structs.astuple(each)) for each in rungs)
        for rungs in line.trainings
    )
    parents = tuple(line.parents)
    return Record(line.number, line.origin, parents, genotype, line.params, line.macs, trainings)


def _plain(record: Record) -> dict[str, object]:
    genes = record.genotype.canonical()
    blocks = [_changed(_plain_genes(each), _plain_genes(Block())) for each in genes.blocks]
    return {
        "number": record.number,
        "origin": record.origin,
        "parents": list(record.parents),
        "blocks": blocks,
        "head": _changed(_plain_genes(genes.head), _plain_genes(Head())),
        "params": record.params,
        "macs": record.macs,
        "trainings": _rounded(
            [
                rungs and [msgspec.structs.astuple(each) for each in rungs]
                for rungs in record.trainings
            ]
        ),
    }


def _plain_genes(genes: Block | Head) -> dict[str, object]:
    plain = {each.name: getattr(genes, each.name) for each in fields(genes)}
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()
    }


def _changed(genes: dict[str, object], defaults: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in genes.items() if value != defaults[name]}


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return value
