"""A transfer matrix crafted once per source, beside one crafted per pair, and from the cache."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

from experiments.benchmarks.timing import Claim, medians
from robustkit import attacks, data, models

IMAGES, EPS = 300, 0.1


def claims() -> Iterator[Claim]:
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
        attacks.transfer_matrix(nets, nets, some, attack)

    def pair_by_pair() -> None:
        for source, target in itertools.product(nets.items(), repeat=2):
            attacks.transfer_matrix(dict([source]), dict([target]), some, attack)

    whole, pairs = medians(once, pair_by_pair, rounds=5)
    yield Claim(
        "4 x 4 matrix, crafting per pair in crafting once",
        pairs / whole,
        3.5,
        at_most=False,
        detail=f"{whole:.2f} s and {pairs:.2f} s for {IMAGES} images",
    )
    with tempfile.TemporaryDirectory() as folder:

        def kept() -> None:
            attacks.transfer_matrix(nets, nets, some, attack, store=attacks.Store(Path(folder)))

        kept()
        fresh, again = medians(once, kept, rounds=5)
    yield Claim(
        "4 x 4 matrix, computed, in taken from the cache",
        fresh / again,
        20.0,
        at_most=False,
        detail=f"{fresh:.2f} s and {1e3 * again:.0f} ms",
    )
