"""Which images are repaired on: labels, pairs, and mistakes in naming them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from robustkit.data import ImageSet
from robustkit.errors import RepairError
from robustkit.repair import RepairConfig, TuneConfig, repair_sets, tune
from tests.robustkit.repair.trained import (
    ARACHNE_1,
    BOTH,
    HISTORY_60,
    Trained,
    check_figures,
    said,
)

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "1")


def renamed(images: ImageSet) -> ImageSet:
    """Classes called by words, and the last one by the number of another."""
    return ImageSet(images.images, images.labels, NAMES)


def common_failures(net: Trained) -> list[tuple[int, int]]:
    """(true, predicted), the most frequent first."""
    train = net.splits.train
    rows = list(zip(train.labels.tolist(), said(net.model, train), strict=True))
    wrong = [row for row in rows if row[0] != row[1]]
    return sorted(set(wrong), key=lambda row: (-wrong.count(row), row))


@BOTH
@pytest.mark.parametrize("by", ["name", "number"])
@pytest.mark.parametrize("kind", ["labels", "pairs", "both"])
def test_labels_and_pairs_restrict_what_is_repaired(
    net: Trained, method: RepairConfig, kind: str, by: str
) -> None:
    images, held_out = renamed(net.splits.train), renamed(net.splits.test)
    pairs = [row for row in common_failures(net) if 1 not in row and 9 not in row]
    (true, other), (label, _) = pairs[0], next(row for row in pairs if row[0] != pairs[0][0])

    def called(number: int) -> str:
        return NAMES[number] if by == "name" else str(number)

    wanted: dict[str, tuple[str, ...]] = {}
    if kind != "pairs":
        wanted["labels"] = (called(label),)
    if kind != "labels":
        wanted["pairs"] = (f"{called(true)}:{called(other)}",)

    def of_these(y: int, answer: int) -> bool:
        return ("labels" in wanted and y == label) or (
            "pairs" in wanted and (y, answer) == (true, other)
        )

    of_labels, of_pairs = wanted.get("labels", ()), wanted.get("pairs", ())
    config = replace(method, localisation="arachne", labels=of_labels, pairs=of_pairs)
    made = net.repair(config, images=images, held_out=held_out)
    applied = made.patch.apply(net.model)
    before, after = said(net.model, images), said(applied, images)
    check_figures(made.result, images, before, after, of_these)
    assert (
        0
        < made.result.n_neg
        < sum(y != b for y, b in zip(images.labels.tolist(), before, strict=True))
    )
    others = said(net.model, held_out), said(applied, held_out)
    check_figures(made.result.held_out, held_out, *others, of_these)


def test_a_name_goes_before_a_number(net: Trained) -> None:
    """The class called "1" is the tenth, not the second."""
    train = renamed(net.splits.train)
    sets = repair_sets(net.model, train, labels=("1",))
    labels = train.labels[sets.neg]
    assert len(labels)
    assert bool((labels == 9).all())


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"labels": ("zebra",)}, "no class 'zebra'"),
        ({"labels": ("sevem",)}, "no class 'sevem'; did you mean 'seven'"),
        ({"labels": ("10",)}, "no class '10'"),
        ({"labels": ("-2",)}, "no class '-2'"),
        ({"labels": ("2.0",)}, "no class '2.0'"),
        ({"pairs": ("two:zebra",)}, "no class 'zebra'"),
        ({"pairs": ("zebra:two",)}, "no class 'zebra'"),
        ({"pairs": ("two",)}, "pair 'two': expected TRUE:PREDICTED"),
        ({"pairs": ("two:two",)}, "pair 'two:two': a class is not mistaken for itself"),
    ],
)
@pytest.mark.parametrize("way", ["repair", "tune"])
def test_classes_that_are_not_there_are_an_error(
    net: Trained, way: str, wanted: dict[str, tuple[str, ...]], told: str
) -> None:
    images = renamed(net.splits.train)
    labels, pairs = wanted.get("labels", ()), wanted.get("pairs", ())

    def mend() -> object:
        if way == "repair":
            return net.repair(replace(ARACHNE_1, labels=labels, pairs=pairs), images=images)
        return tune(net.model, TuneConfig(steps=1, labels=labels, pairs=pairs), images)

    with pytest.raises(RepairError, match=told):
        mend()


def test_without_failures_there_is_nothing_to_repair(net: Trained) -> None:
    train = net.splits.train
    content = ImageSet(train.images, torch.tensor(said(net.model, train)), train.classes)
    message = f"no failures to repair: the model is right on {len(train)} of {len(train)} images"
    with pytest.raises(RepairError, match=message):
        net.repair(HISTORY_60, images=content)
    with pytest.raises(RepairError, match=message):
        tune(net.model, TuneConfig(steps=1), content)
