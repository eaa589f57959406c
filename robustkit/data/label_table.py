"""A file of labels in CSV: one picture a row, its file name and its class."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from robustkit.data.arrays import one_line
from robustkit.errors import DataError, did_you_mean
from robustkit.reading import is_printable, printable, read_text

FILENAMES = ("filename", "file", "image", "path")
LARGEST = 256 * 2**20  # bytes of a file of labels: five times that of ImageNet's training set
_LONGEST = 255  # characters of a name in a path
LABELS = ("label", "class", "target")
NAMES = ("name", "class_name")


@dataclass(frozen=True)
class LabelTable:
    """The file names of pictures, their labels, and what classes the labels tell of.

    `classes` is None where the labels are indices; `hints` are then the names that a further
    column gives for some of them.
    """

    filenames: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...] | None
    hints: Mapping[int, str]


def read_label_table(
    path: Path, *, filename: str | None = None, column: str | None = None
) -> LabelTable:
    """Read a CSV file (UTF-8, comma-separated, with a header row).

    `filename` and `column` name the columns of file names and of labels; None: the first of
    `FILENAMES` and of `LABELS` that is there. Labels that are all whole numbers are indices of
    classes; else they are names, and the classes are the different names, sorted. Raises DataError
    naming file, line and column at fault.
    """
    header, rows = _rows(path)
    files = _column(path, header, "filename", filename, FILENAMES)
    labels = _column(path, header, "column", column, LABELS)
    names = next((header.index(item) for item in NAMES if item in header), None)
    if not rows:
        raise DataError(f"{path} has a header and no rows")
    lines: dict[str, int] = {}
    for line, row in rows:
        for index in (files, labels):
            _check_cell(row, index, header[index], f"{path}, line {line}")
        before = lines.setdefault(inside(row[files], f"{path}, line {line}"), line)
        if before != line:
            raise DataError(
                f"{path} lists '{_short(row[files])}' twice, in lines {before} and {line}"
            )
    cells = [(line, row[labels]) for line, row in rows]
    numbers = _numbers(path, cells)
    if numbers is None:
        classes = tuple(sorted({label for _, label in cells}))
        index_of = {name: index for index, name in enumerate(classes)}
        return LabelTable(tuple(lines), tuple(index_of[label] for _, label in cells), classes, {})
    hints = {} if names is None or names == labels else _hints(path, numbers, rows, names)
    return LabelTable(tuple(lines), tuple(numbers), None, hints)


def _check_cell(row: list[str], index: int, column: str, where: str) -> None:
    """Raise DataError, which begins with `where`, for a cell that is empty or no name."""
    if index >= len(row) or not row[index]:
        raise DataError(f"{where}: nothing in the column '{_short(column)}'")
    if not is_printable(row[index]):
        raise DataError(
            f"{where}: '{_short(row[index])}' holds control characters, which "
            "no name of a picture or class has"
        )


def _hints(
    path: Path, numbers: Sequence[int], rows: Sequence[tuple[int, list[str]]], names: int
) -> dict[int, str]:
    """Return the first name that the column `names` has for each number, where it has any."""
    hints: dict[int, str] = {}
    for number, (line, row) in zip(numbers, rows, strict=True):
        if names < len(row) and row[names]:
            if not is_printable(row[names]):
                raise DataError(
                    f"{path}, line {line}: the name '{_short(row[names])}' holds control characters"
                )
            hints.setdefault(number, row[names])
    return hints


def _rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header, and every other row that is not blank with the number of its line."""
    text = read_text(path, error=DataError, limit=LARGEST, encoding="utf-8-sig")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
    except csv.Error as error:
        raise DataError(
            f"{path} cannot be read as CSV: line {reader.line_num}: {one_line(error)}"
        ) from error
    if not rows:
        raise DataError(f"{path} is empty; a header row with a file name and a label is needed")
    header = rows[0][1]
    for name in header:
        if name and header.count(name) > 1:
            raise DataError(f"{path} has two columns '{_short(name)}'")
    return header, rows[1:]


def _column(
    path: Path, header: Sequence[str], option: str, given: str | None, usual: Sequence[str]
) -> int:
    if given is not None:
        if given not in header:
            raise DataError(f"{path} has no column '{given}'{_columns(given, header)}")
        return header.index(given)
    for name in usual:
        if name in header:
            return header.index(name)
    raise DataError(
        f"{path} has no column {' or '.join(usual)}; name one by {option}=COLUMN"
        f"{_columns('', header)}"
    )


def _columns(given: str, header: Sequence[str]) -> str:
    return did_you_mean(given, [_short(name) for name in header])


def _short(name: str) -> str:
    return printable(" ".join(name.split())[:60])


def inside(name: str, where: str) -> str:
    """Return `name`, which must lead to a file below the folder of pictures.

    Raises DataError, which begins with `where`, for an absolute one, one with `..` in it, and one
    that no file system has.
    """
    if max(map(len, name.split("/"))) > _LONGEST:
        raise DataError(f"{where}: '{_short(name)}' is longer than names of files are")
    if "/" not in name and ".." not in name and "\0" not in name:
        return name  # nearly all of them, and a Path each takes seconds for a large set
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\0" in name:
        raise DataError(
            f"{where}: '{_short(name)}' leads out of the folder of pictures; names "
            f"are relative to it"
        )
    return str(pure)


def _numbers(path: Path, cells: Sequence[tuple[int, str]]) -> list[int] | None:
    """Return the labels as indices, or None where they are names."""
    if not all(_is_number(label) for _, label in cells):
        return None
    numbers = []
    for line, label in cells:
        if not _is_whole(label):
            raise DataError(
                f"{path}, line {line}: the label {label[:60]} is no whole number, and no name"
            )
        number = int(label)
        if not 0 <= number < 2**31:
            raise DataError(f"{path}, line {line}: the label {label[:60]}; labels count from 0")
        numbers.append(number)
    return numbers


def _is_whole(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdecimal() and len(digits) < 20


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
