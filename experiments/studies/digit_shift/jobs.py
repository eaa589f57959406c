"""The jobs of the study: train a classifier, evaluate it on both collections."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from adaptation import shift
from adaptation.training import adapt_classifier
from experiments.studies.base import Json, StudyJob
from experiments.studies.digit_shift.result import Trained
from robustkit import data, models, training
from robustkit.attacks import correct, make
from robustkit.cli.models import resolve_net
from robustkit.compute import derive_seed
from robustkit.data import ImageSet, Splits, to_unit
from robustkit.evaluation.robustness import survivors
from robustkit.jobs import cached_per_process
from robustkit.models import Classifier

SIDE = 16
COLLECTIONS = ("mnist", "digits")
MODEL = "vgg3?width=16"  # with batch norm, for AdaBN
EPS = 0.1  # radius of the attack that measures robust accuracy
ATTACKED = 300


@dataclass(frozen=True)
class TrainNumerals(StudyJob):
    """Train on `source`, adversarially where `eps` is above 0; evaluate on both collections."""

    path: str
    source: str
    eps: float
    count: int
    epochs: int
    number: int

    kind = Trained

    def run(self) -> Json:
        """Return accuracies, also with AdaBN and under attack, and the measured shift."""
        target = next(name for name in COLLECTIONS if name != self.source)
        own, other = collection(self.source, self.count), collection(target, self.count)
        seed = derive_seed("numerals", self.source, self.number)
        net = resolve_net(MODEL, own, seed=seed)
        config = training.TrainConfig(
            epochs=self.epochs,
            batch_size=64,
            adversarial="pgd" if self.eps else None,
            eps=self.eps,
            attack_steps=5,
            seed=seed,
        )
        training.fit(net, own, config)
        name = f"{self.source}-{self.eps:g}-{self.number}.safetensors"
        models.save(net, Path(self.path) / name)
        features = [shift.classifier_features(net, each.test) for each in (own, other)]
        found = {
            "source": accuracy(net, own.test),
            "target": accuracy(net, other.test),
            "robust": robust(net, own.test),
            "shift": asdict(shift.measure_shift(*features, draws=50)),
        }
        adapt_classifier(net, other.train)
        return {**found, "target_adabn": accuracy(net, other.test)}


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


def accuracy(net: Classifier, images: ImageSet) -> float:
    """Return the share of images that the net gets right."""
    right = correct(net, images)
    return float(right.double().mean())


def robust(net: Classifier, images: ImageSet) -> float:
    """Return accuracy under PGD on the first images."""
    few = images.subset(torch.arange(min(ATTACKED, len(images))))
    return float(survivors(net, few, make("pgd", eps=EPS, steps=10)).double().mean())
