"""How often adversarials made on some nets fool others (methods §1, transferability)."""

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
from robustkit.attacks.cache import Origin, Store, key
from robustkit.attacks.crafting import Recipe
from robustkit.attacks.files import ExternalSet
from robustkit.attacks.predictions import PredictionCache
from robustkit.compute import Note, on_device
from robustkit.compute.batching import warn
from robustkit.compute.tensorfiles import checksum
from robustkit.data import as_image_set
from robustkit.stats import Rate, mcnemar, wilson

Nets = Mapping[str, nn.Module]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TransferMatrix:
    """Outcomes of every target on every source's adversarials, image by image: all bool (N,).

    `correct[net]`: right on the clean image; `source_fooled[source]`: the source errs on its own
    adversarial, which is not known of imported sets; `target_fooled[source, target]`: the target
    errs on the source's; `target_hit[source, target]`, for a targeted attack only: the target
    predicts the label steered to. `keys[source]` names the crafted set.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    correct: Mapping[str, Bools]
    source_fooled: Mapping[str, Bools]
    target_fooled: Mapping[tuple[str, str], Bools]
    target_hit: Mapping[tuple[str, str], Bools]
    keys: Mapping[str, str]

    @property
    def common(self) -> Bools:
        """Return bool (N,): the images that every net, source or target, classifies correctly."""
        return np.asarray(np.stack(list(self.correct.values())).all(axis=0))

    def rates(self, source: str, target: str) -> dict[str, Rate]:
        """Return T(source→target) under its three denominators, each with n and Wilson interval.

        `headline`: over the jointly correct images, the share that the target gets wrong;
        `fooling`: over those of them that fool the source; `all`: over all images, clean errors
        included.
        """
        fooled = self.target_fooled[source, target]
        source_fooled = self.source_fooled.get(source, np.zeros_like(fooled))
        return {
            "headline": share(fooled, self.common),
            "fooling": share(fooled, self.common & source_fooled),
            "all": share(fooled, np.ones_like(fooled)),
        }

    def hit_rate(self, source: str, target: str) -> Rate:
        """Return the share of the jointly correct images on which the target label is predicted."""
        return share(self.target_hit[source, target], self.common)

    def p_value(self, source: str, target: str, other: str) -> float:
        """Return McNemar's exact p of two targets of one source on the jointly correct images."""
        first, second = (self.target_fooled[source, name][self.common] for name in (target, other))
        return mcnemar(first, second)


def share(hits: Bools, among: Bools) -> Rate:
    """Return the share of `hits` in `among`, both bool (N,); a rate of None where n is 0."""
    n = int(among.sum())
    return wilson(float((hits & among).sum() / n) if n else 0.0, n)


def transfer_matrix(
    sources: Nets,
    targets: Nets,
    images: Any,
    attack: Attack,
    *,
    seed: int = 0,
    target_labels: Tensor | None = None,
    imported: Mapping[str, ExternalSet] | None = None,
    store: Store | None = None,
    round: bool = False,  # noqa: A002
    batch_size: int | None = None,
    device: torch.device | None = None,
    on_source: Callable[[str], None] = lambda source: None,
    on_cell: Callable[[str, str], None] = lambda source, target: None,
    on_note: Note | None = None,
) -> TransferMatrix:
    """Craft once on every source, then evaluate every target on all sets; nets by their names.

    `target_labels` int64 (N,) are the labels a targeted attack steers to, the same for all sources;
    without, it steers to the true ones. Sources may be `Ensemble`s; `imported` sets, made
    elsewhere, are evaluated like sources, except for the denominator `fooling`, as their source is
    unknown. With a `store` nothing is computed twice, and a set is read only where a prediction is
    missing; without, sets that are not small lie in a temporary folder meanwhile.

    Nets are any modules from images to logits. Each is looked up by its name when it is needed,
    moved to `device` (None: left where it is) and back, and released: mappings that load a net
    on access keep memory to one of them. `round`, `batch_size` and `on_note` are as in `craft`.
    `on_source` is called with each source before it is crafted on, `on_cell` with each
    (source, target) before it is evaluated. Raises the errors of `craft`.
    """
    images = as_image_set(images)
    note = on_note or (warn if store is None else store.notes.append)
    store = store or Store(None)
    recipe = Recipe(
        images=images,
        attack=attack,
        seed=seed,
        target_labels=target_labels,
        round=round,
        batch_size=batch_size,
        on_note=note,
    )
    with store.with_space_for(len(sources) * recipe.nbytes) as sets:
        matrix = _MatrixBuilder(recipe, sources, store, sets, device)
        for name in sources:
            on_source(name)
            matrix.craft_on(name)
        for name, adversarials in (imported or {}).items():
            matrix.add(name, adversarials)
        for name in targets:
            matrix.evaluate(name, targets, on_cell)
    return matrix.build(tuple(targets))


class _MatrixBuilder:
    """The sets crafted and the predictions made so far; one net at a time is in use."""

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
        self._adversarials: dict[str, _LazySet] = {}
        self._correct: dict[str, Bools] = {}
        self._fooled: dict[str, Bools] = {}
        self._predicted: dict[tuple[str, str], NDArray[np.int64]] = {}

    def craft_on(self, name: str) -> None:
        """Craft on one source, unless all predictions on its set are known."""
        with self._predictions_of(self._sources, name) as (net, predictions):
            origin = self._recipe.origin(predictions.digest)
            adversarials = _LazySet(origin, lambda: self._recipe.fetch(net, origin, self._sets))
            self._fooled[name] = adversarials.predicted_by(predictions) != self._labels
            # The net is released; a target without predictions yet looks it up by its name.
            adversarials.load = lambda: self._craft_later(name, origin)
            self._adversarials[name] = adversarials

    def _craft_later(self, name: str, origin: Origin) -> Tensor:
        source = self._sources[name]
        with on_device(source, self._device):
            return self._recipe.fetch(source, origin, self._sets)

    def add(self, name: str, adversarials: ExternalSet) -> None:
        """Add a set that was made elsewhere."""
        provenance = dict(adversarials.provenance)
        if "sha256" not in provenance:  # made in Python: only the images tell it from others
            provenance["images"] = checksum({"images": adversarials.images})
        self._adversarials[name] = _LazySet({"imported": provenance}, lambda: adversarials.images)

    def evaluate(self, target: str, targets: Nets, on_cell: Callable[[str, str], None]) -> None:
        """Predict all sets with one target."""
        with self._predictions_of(targets, target) as (_, predictions):
            for name, adversarials in self._adversarials.items():
                on_cell(name, target)
                self._predicted[name, target] = adversarials.predicted_by(predictions)

    @contextmanager
    def _predictions_of(self, nets: Nets, name: str) -> Iterator[tuple[nn.Module, PredictionCache]]:
        """Yield one net on the device and its predictions, those of the clean images computed."""
        recipe, net = self._recipe, nets[name]
        with on_device(net, self._device):
            predictions = PredictionCache(
                net,
                recipe.images,
                self._store,
                batch_size=recipe.batch_size,
                on_note=recipe.on_note,
            )
            # A net of the same name that is source and target is one net.
            if name not in self._correct:
                self._correct[name] = predictions.clean().numpy() == self._labels
            yield net, predictions

    def build(self, targets: tuple[str, ...]) -> TransferMatrix:
        """Return the matrix of all predictions."""
        cells = [(source, target) for source in self._adversarials for target in targets]
        target_labels = self._recipe.target_labels
        return TransferMatrix(
            sources=tuple(self._adversarials),
            targets=targets,
            correct={name: self._correct[name] for name in (*targets, *self._sources)},
            source_fooled=self._fooled,
            target_fooled={cell: self._predicted[cell] != self._labels for cell in cells},
            target_hit={}
            if target_labels is None
            else {cell: self._predicted[cell] == target_labels.numpy() for cell in cells},
            keys={
                name: key(adversarials.origin) for name, adversarials in self._adversarials.items()
            },
        )


class _LazySet:
    """Adversarials that are crafted, or read, on first use."""

    def __init__(self, origin: Origin, load: Callable[[], Tensor]) -> None:
        self.origin = origin
        self.load = load
        self._images: Tensor | None = None

    def images(self) -> Tensor:
        """Return the adversarials (N,C,H,W): mapped from a file, or small."""
        if self._images is None:
            self._images = self.load()
        return self._images

    def predicted_by(self, predictions: PredictionCache) -> NDArray[np.int64]:
        """Return the classes (N,) that a net predicts for them."""
        return predictions.classes(self.origin, self.images).numpy()
