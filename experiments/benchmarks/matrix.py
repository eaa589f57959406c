"""A transfer matrix crafted once per source, beside one crafted per pair, and from the cache."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

from experiments.benchmarks.record import Record, speedup
from experiments.benchmarks.timing import timed
from robustkit import attacks, data, evaluation, models

IMAGES, EPS = 300, 0.1


def records() -> Iterator[Record]:
    """Four nets of the zoo on digits with MI-FGSM, 10 steps; what they have learnt is no matter."""
    test = data.load("digits").test
    some = test.subset(data.stratified_sample(test.labels, IMAGES, 0))
    nets = {
        f"{name}-{seed}": models.build(
            name, num_classes=10, in_channels=1, image_size=16, seed=seed
        ).eval()
        for name in ("small", "vgg3")
        for seed in (0, 1)
    }
    attack = attacks.MIFGSM(eps=EPS)

    def once() -> None:
        evaluation.transfer_matrix(nets, nets, some, attack)

    def pair_by_pair() -> None:
        for source, target in itertools.product(nets.items(), repeat=2):
            evaluation.transfer_matrix(dict([source]), dict([target]), some, attack)

    whole, pairs = timed({"once a source": once, "once a pair": pair_by_pair}, rounds=5)
    yield speedup(f"4 x 4 matrix, {IMAGES} images: crafting per pair", whole, pairs, at_least=3.5)
    with tempfile.TemporaryDirectory() as folder:

        def kept() -> None:
            evaluation.transfer_matrix(nets, nets, some, attack, store=attacks.Store(Path(folder)))

        kept()
        fresh, again = timed({"computed": once, "from the cache": kept}, rounds=5)
    yield speedup(
        f"4 x 4 matrix, {IMAGES} images: computing instead of reading", again, fresh, at_least=20.0
    )
