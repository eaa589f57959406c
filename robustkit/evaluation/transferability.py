"""How far adversarials made on some nets mislead others (methods §1, transferability)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustkit.attacks.base import Attack
from robustkit.attacks.cache import Store, checksum, key
from robustkit.attacks.crafting import Recipe
from robustkit.attacks.files import ForeignSet
from robustkit.attacks.predictions import Answers
from robustkit.compute import Note, on_device
from robustkit.compute.batching import warn
from robustkit.data import as_image_set
from robustkit.stats import Rate, mcnemar, wilson

Nets = Mapping[str, nn.Module]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TransferMatrix:
    """What every target says of every source's adversarials, image by image; all arrays bool (N,).

    `correct[net]`: right on the clean image; `fooled[source]`: the source errs on its own
    adversarial, which is not known of imported sets; `misled[source, target]`: the target errs on
    the source's; `reached[source, target]`, for a targeted attack only: the target answers the
    label steered to. `keys[source]` names the crafted set.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    correct: Mapping[str, Bools]
    fooled: Mapping[str, Bools]
    misled: Mapping[tuple[str, str], Bools]
    reached: Mapping[tuple[str, str], Bools]
    keys: Mapping[str, str]

    @property
    def common(self) -> Bools:
        """The images that every net, source or target, classifies correctly."""
        everyone = np.stack(list(self.correct.values()))
        return np.asarray(everyone.all(axis=0))

    def rates(self, source: str, target: str) -> dict[str, Rate]:
        """T(source→target) under its three denominators, each with n and Wilson interval.

        `headline`: over the common images, the share the target gets wrong; `fooling`: over those
        of them that fool the source; `all`: over all images, clean errors included.
        """
        misled = self.misled[source, target]
        fooled = self.fooled.get(source, np.zeros_like(misled))
        return {
            "headline": share(misled, self.common),
            "fooling": share(misled, self.common & fooled),
            "all": share(misled, np.ones_like(misled)),
        }

    def reach(self, source: str, target: str) -> Rate:
        """The share of the common images that the target takes for the label steered to."""
        return share(self.reached[source, target], self.common)

    def p_value(self, source: str, target: str, other: str) -> float:
        """McNemar's exact p for two targets of one source, over the common images."""
        common = self.common
        return mcnemar(self.misled[source, target][common], self.misled[source, other][common])


def share(hits: Bools, among: Bools) -> Rate:
    """The share of `hits` among `among`, both bool (N,); all None where there is nothing."""
    n = int(among.sum())
    return wilson(float((hits & among).sum() / n) if n else 0.0, n)


def transfer_matrix(
    sources: Nets,
    targets: Nets,
    images: Any,
    attack: Attack,
    *,
    seed: int = 0,
    wanted: Tensor | None = None,
    imported: Mapping[str, ForeignSet] | None = None,
    store: Store | None = None,
    round: bool = False,  # noqa: A002
    batch_size: int | None = None,
    device: torch.device | None = None,
    on_source: Callable[[str], None] = lambda source: None,
    on_cell: Callable[[str, str], None] = lambda source, target: None,
    on_note: Note | None = None,
) -> TransferMatrix:
    """Craft once on every source, then score every target on all sets; nets by their names.

    `wanted` int64 (N,) are the labels a targeted attack steers to, the same for all sources;
    without, it steers to the true ones. Sources may be `Ensemble`s; `imported` sets, made
    elsewhere, are scored like sources, but for the denominator of what fools a source unknown.
    With a `store` nothing is computed twice, and a set is read only where an answer about it is
    missing; without, sets that are not small lie in a temporary folder meanwhile.

    Nets are any modules from images to logits. Each is looked up by its name when it is needed,
    moved to `device` (None: left where it is) and back, and let go of: mappings that load a net
    when it is asked for keep memory to one of them. `round`, `batch_size` and `on_note` are as in
    `craft`. `on_source` is told of each source before it is crafted on, `on_cell` of each
    (source, target) before it is scored. Raises the errors of `craft`.
    """
    images = as_image_set(images)
    note = on_note or (warn if store is None else store.notes.append)
    store = store or Store(None)
    recipe = Recipe(
        images=images,
        attack=attack,
        seed=seed,
        targets=wanted,
        round=round,
        batch_size=batch_size,
        on_note=note,
    )
    with store.room(len(sources) * recipe.nbytes) as sets:
        scoring = _Scoring(recipe, sources, store, sets, device)
        for name in sources:
            on_source(name)
            scoring.craft_on(name)
        for name, foreign in (imported or {}).items():
            scoring.add(name, foreign)
        for name in targets:
            scoring.score(name, targets, on_cell)
    return scoring.matrix(tuple(targets))


class _Scoring:
    """What has been crafted and answered so far; one net at a time is in use."""

    def __init__(
        self,
        recipe: Recipe,
        sources: Nets,
        store: Store,
        sets: Store,
        device: torch.device | None,
    ) -> None:
        self._recipe = recipe
        self._sources = sources
        self._store = store
        self._sets = sets
        self._device = device
        self._labels = recipe.images.labels.numpy()
        self._pictures: dict[str, _Pictures] = {}
        self._correct: dict[str, Bools] = {}
        self._fooled: dict[str, Bools] = {}
        self._said: dict[tuple[str, str], NDArray[np.int64]] = {}

    def craft_on(self, name: str) -> None:
        """Craft on one source, unless all that is asked of its set is known."""
        with self._asked(self._sources, name) as (net, answers):
            origin = self._recipe.origin(answers.digest)
            pictures = _Pictures(origin, lambda: self._recipe.fetch(net, origin, self._sets))
            self._fooled[name] = pictures.seen_by(answers) != self._labels
            # The net is let go of; a target that has not answered yet asks for it by its name.
            pictures.make = lambda: self._craft_later(name, origin)
            self._pictures[name] = pictures

    def _craft_later(self, name: str, origin: dict[str, Any]) -> Tensor:
        source = self._sources[name]
        with on_device(source, self._device):
            return self._recipe.fetch(source, origin, self._sets)

    def add(self, name: str, foreign: ForeignSet) -> None:
        """A set that was made elsewhere."""
        told = dict(foreign.provenance)
        if "sha256" not in told:  # made in Python: nothing but the images tells it from others
            told["images"] = checksum({"images": foreign.images})
        self._pictures[name] = _Pictures({"imported": told}, lambda: foreign.images)

    def score(self, target: str, targets: Nets, on_cell: Callable[[str, str], None]) -> None:
        """Ask one target about all sets."""
        with self._asked(targets, target) as (_, answers):
            for name, pictures in self._pictures.items():
                on_cell(name, target)
                self._said[name, target] = pictures.seen_by(answers)

    @contextmanager
    def _asked(self, nets: Nets, name: str) -> Iterator[tuple[nn.Module, Answers]]:
        """One net on the device, and what it answers; about the clean images first."""
        recipe, net = self._recipe, nets[name]
        with on_device(net, self._device):
            answers = Answers(
                net,
                recipe.images,
                self._store,
                batch_size=recipe.batch_size,
                on_note=recipe.on_note,
            )
            # A net of the same name that is source and target is one net.
            if name not in self._correct:
                self._correct[name] = answers.clean().numpy() == self._labels
            yield net, answers

    def matrix(self, targets: tuple[str, ...]) -> TransferMatrix:
        """All that was said, source by source."""
        cells = [(source, target) for source in self._pictures for target in targets]
        wanted = self._recipe.targets
        return TransferMatrix(
            sources=tuple(self._pictures),
            targets=targets,
            correct={name: self._correct[name] for name in (*targets, *self._sources)},
            fooled=self._fooled,
            misled={cell: self._said[cell] != self._labels for cell in cells},
            reached={}
            if wanted is None
            else {cell: self._said[cell] == wanted.numpy() for cell in cells},
            keys={name: key(pictures.origin) for name, pictures in self._pictures.items()},
        )


class _Pictures:
    """Adversarials that are made, or read, when they are first asked for."""

    def __init__(self, origin: dict[str, Any], make: Callable[[], Tensor]) -> None:
        self.origin = origin
        self.make = make
        self._images: Tensor | None = None

    def images(self) -> Tensor:
        """The adversarials (N,C,H,W): mapped from a file, or small."""
        if self._images is None:
            self._images = self.make()
        return self._images

    def seen_by(self, answers: Answers) -> NDArray[np.int64]:
        """The classes (N,) that a net sees in them."""
        return answers.seen(self.origin, self.images).numpy()
