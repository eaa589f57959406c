"""Evaluation sets: opened and sampled first, decoded afterwards, streamed when large."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from robustkit.compute.seeds import check_seed
from robustkit.data.imageset import CHUNK_BYTES, ImageSet
from robustkit.data.loading import (
    VAL_FRACTION,
    check_classes,
    check_part,
    divided,
    named,
    open_source,
    positions,
)
from robustkit.data.pictures import Format, PictureFiles, Pictures, with_channels
from robustkit.data.sampling import sample
from robustkit.data.sources.base import PARTS, Part, Source
from robustkit.data.splits import missing_part
from robustkit.errors import ConfigError, DataError
from robustkit.geometry import Geometry

IN_MEMORY = CHUNK_BYTES  # bytes of pictures; a set that takes more is mapped from a file


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """A sample of one split of a source, of which the labels are known and no pixel is decoded.

    `split` is the part it is taken from; `labels` int64 (n,) and `indices` int64 (n,), positions in
    the whole split, say what of. `classes` is None where the labels are indices and how many
    classes there are is not known; `hints` are the names known for some of them. `geometry` is
    what the spec's options say, None without any; `notes` are sentences for the user.
    """

    name: str
    split: str
    classes: tuple[str, ...] | None
    labels: Tensor
    indices: Tensor
    pictures: Pictures = field(repr=False)
    rows: Tensor = field(repr=False)  # positions in `pictures`
    tracks: Tensor | None = None
    hints: Mapping[int, str] = field(default_factory=dict)
    geometry: Geometry | None = None
    notes: tuple[str, ...] = ()
    _forms: dict[Geometry | None, Format] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def from_files(self) -> bool:
        """Whether the pictures are files, which have no size before a geometry gives them one."""
        return isinstance(self.pictures, PictureFiles)

    def take(self, chosen: Tensor) -> EvaluationSet:
        """Return the pictures at `chosen` (int64), positions in this sample, in that order."""
        return replace(
            self,
            labels=self.labels[chosen],
            indices=self.indices[chosen],
            rows=self.rows[chosen],
            tracks=None if self.tracks is None else self.tracks[chosen],
        )

    def named(self, classes: tuple[str, ...], note: str | None = None) -> EvaluationSet:
        """Return the sample with labels that index `classes`, and a further note.

        Names are matched where the set has names, all of which must be among `classes`; labels that
        are numbers stay as they are.
        """
        labels = self.labels
        if self.classes is not None:
            places = torch.tensor([classes.index(name) for name in self.classes])
            labels = places[labels]
        notes = self.notes if note is None else (*self.notes, note)
        return replace(self, labels=labels, classes=classes, notes=notes)

    def shape(self, geometry: Geometry | None = None) -> tuple[int, int, int]:
        """Return (C, H, W) of the pictures as `read` gives them, by their headers alone.

        `geometry` is used where the spec says none. Raises DataError where neither does and the
        pictures differ in size.
        """
        with self._named():
            return self._form(geometry).shape

    def read(
        self,
        *,
        geometry: Geometry | None = None,
        channels: int | None = None,
        classes: tuple[str, ...] | None = None,
    ) -> ImageSet:
        """Decode the sample.

        `geometry` and `classes` are used where the set has none of its own; `channels=3` turns
        grey pictures into RGB. Up to 64 MiB are kept in memory, more are mapped from a file.

        Raises DataError for pictures of different sizes without a geometry, one that cannot be
        decoded, colour to be read as grey, and labels that name none of the classes.
        """
        names = self.classes if self.classes is not None else classes
        if names is None:
            raise DataError(
                f"{self.name}: labels are numbers, and how many classes there are is not known; "
                f"give their names as classes"
            )
        with self._named():
            check_part(self.split, self.labels, names)
            form = with_channels(self._form(geometry), channels)
            pixels = self.pictures.read(self.rows, form, IN_MEMORY)
        return ImageSet(pixels, self.labels, tuple(names), self.tracks)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say of which set an error is."""
        try:
            yield
        except DataError as error:
            raise named(self.name, error) from error

    def _form(self, geometry: Geometry | None) -> Format:
        wanted = self.geometry or geometry
        if wanted not in self._forms:
            self._forms[wanted] = self.pictures.form(self.rows, wanted)
        return self._forms[wanted]


def open_evaluation(
    source: str,
    *,
    split: str | None = None,
    size: int | None = None,
    seed: int = 0,
    root: Path | str | None = None,
    download: bool = False,
) -> EvaluationSet:
    """Open one split of `source` as `load` would have it, and sample it; nothing is decoded.

    `split`: "test", "val" or "train", None for the first of them that the source has. Where there
    are no validation images of its own, "val" is a tenth of the training images. `size` images are
    drawn by `seed`, keeping the proportions of the classes where every class can have one, else
    each with the same chance; None takes all. `source`, `root` and `download` are those of `load`.

    Raises ConfigError for another split, DataError for one that is not there, for a size beyond
    the set's, and as `load` does for what cannot be read.
    """
    check_seed(seed)
    if split is not None and split not in PARTS:
        raise ConfigError(f"split must be test, val or train, not '{split}'")
    opened = open_source(source, root, download)
    chosen = split or next(part for part in reversed(PARTS) if part in opened.parts())
    try:
        if opened.classes is not None:
            check_classes(opened.classes)
        part, rows = _rows(opened, chosen, source)
        labels = part.labels[rows]
        check_part(chosen, labels, opened.classes)
        taken = torch.arange(len(labels)) if size is None else sample(labels, size, seed)
    except DataError as error:
        raise named(source, error) from error
    notes = opened.notes
    if len(taken) < len(torch.unique(labels)):
        notes += (f"{len(taken)} images are fewer than the classes: drawn without regard to class",)
    rows = rows[taken]
    return EvaluationSet(
        name=source,
        split=chosen,
        classes=opened.classes,
        labels=labels[taken],
        indices=taken,
        pictures=part.pictures,
        rows=rows,
        tracks=None if part.tracks is None else part.tracks[rows],
        hints=opened.hints,
        geometry=opened.geometry,
        notes=notes,
    )


def open_files(paths: Sequence[Path], classes: tuple[str, ...] | None = None) -> EvaluationSet:
    """Open unlabelled picture files: all have the label 0.

    `classes` are the names of what a model may see in them, where that is known.
    """
    count = len(paths)
    return EvaluationSet(
        name=str(paths[0]) if count == 1 else f"{paths[0]} and {count - 1} more",
        split="files",
        classes=classes,
        labels=torch.zeros(count, dtype=torch.int64),
        indices=torch.arange(count),
        pictures=PictureFiles([str(path) for path in paths]),
        rows=torch.arange(count),
    )


def _rows(source: Source, split: str, name: str) -> tuple[Part, Tensor]:
    """Return the part that has a split's images, and their positions in it."""
    part = source.parts().get(split)
    if part is not None and (split != "train" or source.val is not None):
        return part, positions(part)
    if split == "test" or source.train is None:
        raise missing_part(name, split, source.parts())
    try:
        train, val = divided(source, VAL_FRACTION, seed=0)
    except DataError:
        if split == "val":
            raise
        train = positions(source.train)  # nothing can be held out, so all of it is for training
    return source.train, val if split == "val" else train
