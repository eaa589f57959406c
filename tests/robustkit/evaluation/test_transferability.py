"""Transfer by the short door is the matrix."""

from __future__ import annotations

import torch

from robustkit import evaluation
from robustkit.attacks import MIFGSM, Store
from robustkit.evaluation.transferability import transfer_matrix
from tests.robustkit.attacks.nets import classifier, smooth_net, striped

IMAGES = striped(24)


def test_it_is_the_matrix_of_any_modules_on_any_images() -> None:
    sources, targets = {"plain": smooth_net()}, {"other": classifier()}
    attack, store = MIFGSM(eps=0.2), Store(None)
    cells: list[tuple[str, str]] = []
    crafted: list[str] = []
    found = evaluation.transfer(
        sources,
        targets,
        (IMAGES.images, IMAGES.labels),
        attack,
        seed=3,
        store=store,
        round=True,
        batch_size=5,
        device=torch.device("cpu"),
        on_source=crafted.append,
        on_cell=lambda source, target: cells.append((source, target)),
    )
    expected = transfer_matrix(sources, targets, IMAGES, attack, seed=3, round=True)
    cell = ("plain", "other")
    assert found.target_fooled[cell].tolist() == expected.target_fooled[cell].tolist()
    assert found.rates(*cell)["all"].n == 24
    assert (crafted, cells) == (["plain"], [cell])
    assert store.misses > 0
