"""The job of the study, which trains a classifier; its result, and the summary of all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from msgspec import Meta
from msgspec.structs import replace

from adaptation import shift
from adaptation.shift import Shift
from adaptation.training import adapt_classifier
from experiments.studies.base import StudyJob, StudySummary
from experiments.studies.measures import accuracy
from robustkit import data, models, training
from robustkit.attacks import make
from robustkit.cli.models import resolve_net
from robustkit.compute import derive_seed
from robustkit.data import ImageSet, Splits, to_unit
from robustkit.errors import RunError
from robustkit.evaluation.robustness import survivors
from robustkit.jobs import cached_per_process
from robustkit.models import Classifier
from robustkit.runs.summaries import MeanShare, Result, check_has, shown

SIDE = 16
Collection = Literal["mnist", "digits"]
COLLECTIONS: tuple[Collection, ...] = ("mnist", "digits")
MODEL = "vgg3?width=16"  # with batch norm, for AdaBN
EPS = 0.1  # radius of the attack that measures robust accuracy
ATTACKED = 300


class Trained(Result, frozen=True, kw_only=True):
    """Accuracies of one training on both collections, and the shift as it sees it."""

    source: MeanShare
    target: MeanShare
    robust: MeanShare
    target_adabn: MeanShare
    shift: Shift


Seeds = Annotated[dict[str, Trained], Meta(min_length=1)]
Radii = dict[str, Seeds]


class Summary(StudySummary, frozen=True, kw_only=True):
    """Trainings by source, radius and seed."""

    sources: dict[Collection, Radii]


def check(summary: Summary, where: str, needed: tuple[str, ...]) -> None:
    """Raise `RunError` where a radius, or plain training of a seed, is missing."""
    for source, radii in summary.sources.items():
        check_has(radii, needed, f"{where}: sources.{source}")
        for eps, runs in radii.items():
            lacking = [seed for seed in runs if seed not in radii["0"]]
            if lacking:
                raise RunError(
                    f"{where}: sources.{source}.0: the seed {shown(lacking[0])} of {shown(eps)} "
                    "is missing"
                )


@dataclass(frozen=True)
class TrainNumerals(StudyJob):
    """Train on `source`, adversarially where `eps` is above 0; evaluate on both collections."""

    path: str
    source: Collection
    eps: float
    count: int
    epochs: int
    number: int

    kind = Trained

    def run(self) -> Trained:
        """Return accuracies, also with AdaBN and under attack, and the measured shift."""
        target = next(name for name in COLLECTIONS if name != self.source)
        source, target_domain = collection(self.source, self.count), collection(target, self.count)
        seed = derive_seed("numerals", self.source, self.number)
        net = resolve_net(MODEL, source, seed=seed)
        config = training.TrainConfig(
            epochs=self.epochs,
            batch_size=64,
            adversarial="pgd" if self.eps else None,
            eps=self.eps,
            attack_steps=5,
            seed=seed,
        )
        training.fit(net, source, config)
        name = f"{self.source}-{self.eps:g}-{self.number}.safetensors"
        models.save(net, Path(self.path) / name)
        features = [
            shift.classifier_features(net, domain.test) for domain in (source, target_domain)
        ]
        before = Trained(
            source=accuracy(net, source.test),
            target=accuracy(net, target_domain.test),
            robust=robust(net, source.test),
            shift=shift.measure_shift(*features, draws=50),
            target_adabn=0.0,  # not known yet
        )
        adapt_classifier(net, target_domain.train)
        return replace(before, target_adabn=accuracy(net, target_domain.test))


@cached_per_process(2)
def collection(name: str, count: int) -> Splits:
    """Return a collection at 16 pixels, at most `count` images to train and to test on."""
    splits = data.load(name)
    train, val, test = (
        resized(first(part, count)) for part in (splits.train, splits.val, splits.test)
    )
    return splits.replaced(train=train, val=val, test=test)


def first(images: ImageSet, count: int) -> ImageSet:
    """Return at most `count` of the images, classes kept even."""
    if len(images) <= count:
        return images
    return images.subset(data.stratified_sample(images.labels, count, 0))


def resized(images: ImageSet) -> ImageSet:
    """Return images of `SIDE` pixels, averaged; classes named by their digits."""
    pixels = images.images
    if pixels.shape[-1] != SIDE:
        small = F.interpolate(to_unit(pixels), size=(SIDE, SIDE), mode="bilinear", antialias=True)
        pixels = (255 * small).round().clamp(0, 255).to(torch.uint8)
    return ImageSet(pixels, images.labels, tuple(map(str, range(10))))


def robust(net: Classifier, images: ImageSet) -> float:
    """Return accuracy under PGD on the first images."""
    few = images.subset(torch.arange(min(ATTACKED, len(images))))
    return float(survivors(net, few, make("pgd", eps=EPS, steps=10)).double().mean())
