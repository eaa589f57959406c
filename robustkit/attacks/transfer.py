"""How far adversarials made on some nets mislead others (methods §1, transferability)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from robustkit.attacks.answers import answers, clean_answers
from robustkit.attacks.base import Attack
from robustkit.attacks.crafting import crafted_images, set_origin
from robustkit.attacks.exchange import ForeignSet
from robustkit.attacks.rates import Rate, mcnemar, wilson
from robustkit.attacks.store import Store, key
from robustkit.data import ImageSet

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
    images: ImageSet,
    attack: Attack,
    *,
    seed: int = 0,
    wanted: Tensor | None = None,
    imported: Mapping[str, ForeignSet] | None = None,
    store: Store | None = None,
    on_cell: Callable[[str, str], None] = lambda source, target: None,
) -> TransferMatrix:
    """Craft once on every source, score on every target, in that order; nets by their names.

    `wanted` int64 (N,) are the labels a targeted attack steers to, the same for all sources;
    without, it steers to the true ones. Sources may be `Ensemble`s; `imported` sets, made
    elsewhere, are scored like sources, but for the denominator of what fools a source unknown.
    With a `store` nothing is computed twice, and a set is read only where an answer about it is
    missing. `on_cell` is told of each (source, target) before it is scored. Raises `AttackError`
    as `craft` does.
    """
    store = store or Store(None)
    nets = {**targets, **sources}
    labels = images.labels.numpy()
    correct = {
        name: clean_answers(net, images, store).numpy() == labels for name, net in nets.items()
    }
    made: dict[str, _Pictures] = {}
    fooled: dict[str, Bools] = {}
    for name, source in sources.items():
        origin = set_origin(source, images, attack, seed, wanted)
        make = partial(crafted_images, source, images, attack, origin, seed, wanted, store)
        made[name] = _Pictures(origin, make)
    for name, foreign in (imported or {}).items():
        made[name] = _Pictures({"imported": foreign.provenance}, partial(_images_of, foreign))
    misled: dict[tuple[str, str], Bools] = {}
    reached: dict[tuple[str, str], Bools] = {}
    for name, pictures in made.items():
        if name in sources:
            fooled[name] = pictures.seen_by(sources[name], store) != labels
        for other, target in targets.items():
            on_cell(name, other)
            said = pictures.seen_by(target, store)
            misled[name, other] = said != labels
            if wanted is not None:
                reached[name, other] = said == wanted.numpy()
        pictures.forget()
    keys = {name: key(pictures.origin) for name, pictures in made.items()}
    return TransferMatrix(tuple(made), tuple(targets), correct, fooled, misled, reached, keys)


def _images_of(foreign: ForeignSet) -> Tensor:
    return foreign.images


class _Pictures:
    """Adversarials that are made, or read, when they are first asked for."""

    def __init__(self, origin: dict[str, Any], make: Callable[[], Tensor]) -> None:
        self.origin = origin
        self._make = make
        self._images: Tensor | None = None

    def images(self) -> Tensor:
        """The adversarials (N,C,H,W), in memory from now on."""
        if self._images is None:
            self._images = self._make()
        return self._images

    def seen_by(self, net: nn.Module, store: Store) -> NDArray[np.int64]:
        """The classes (N,) that `net` sees in them."""
        return answers(net, self.origin, self.images, store).numpy()

    def forget(self) -> None:
        """Let go of the memory; several sets need not fit into it together."""
        self._images = None
