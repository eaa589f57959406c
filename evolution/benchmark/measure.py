"""One network of the benchmark: trained with the penalty, measured after 1, 2 and 4 epochs.

The references, R's gradients on the stored views and the adversarials are prepared once in a
folder; every measurement maps them from there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import msgspec
import torch
from msgspec import Meta
from torch import Tensor
from torch.nn.functional import avg_pool2d

from evolution.genotype import Genotype
from evolution.presets import genotype_of
from evolution.space import SearchSpace
from robustkit import attacks, evaluation, models, training
from robustkit.compute import derive_seed
from robustkit.data import ImageSet, channel_stats, load, stratified_sample
from robustkit.errors import ModelError
from robustkit.jobs import DivergedError, InvalidCandidateError, cached_per_process
from robustkit.training.penalty_views import penalty_views

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Cosine = Annotated[float, Meta(ge=-1.001, le=1.001)]
Positive = Annotated[float, Meta(ge=0)]

INPUT_SHAPE = (3, 16, 16)
CLASSES = 10
EPS = 16 / 255  # half of it hardly fools R's own architecture, trained again, at 16x16 pixels
RUNGS = (1, 2, 4)
SEED = 0
TRAIN_IMAGES, VAL_IMAGES, COSINE_IMAGES = 3_000, 2_000, 500
VIEWS = "clean"
PENALTY_EVERY = 4  # a lazy penalty, of four times the weight in every fourth step
LAMBDAS = (1.0, 3.0, 10.0, 30.0)
LAMBDA_LOSS = 0.01
"""Accuracy that the penalty may cost the references' architectures, in the mean, to be chosen."""

REFERENCES = ("vgg5", "small", "resnet20")
"""Three families; the networks of the benchmark are penalised against all three at once."""

ARCHITECTURES: dict[str, dict[str, object]] = {
    "vgg5": {"family": "zoo", "name": "vgg5", "options": {"width": 16}},
    "small": {"family": "zoo", "name": "small", "options": {"width": 32}},
    "resnet20": {"family": "zoo", "name": "resnet20", "options": {"width": 8}},
}

SPACE = SearchSpace(max_params=400_000, max_macs=1_880_704)
"""The default space, at the cost of the reference vgg5 for images of 16x16 pixels."""


def vgg5_genotype(width: int = 16) -> Genotype:
    """Return the zoo's vgg5 as blocks of the search space, which has pools of odd size only."""
    genotype = genotype_of({"family": "zoo", "name": "vgg5", "options": {"width": width}})
    assert genotype is not None
    return genotype


class Rung(msgspec.Struct, frozen=True):
    """A network after some epochs; lists have an entry for each reference, in their order.

    `accuracy` in [0,1] on validation images; `transfer` is the share of a reference's adversarials
    that the network gets wrong among the images that both classify correctly when clean, whose
    number is `transfer_n`; `unseen` the same of a second training of each reference's architecture,
    which took no part in the penalty. `cosine`, `cosine_abs` and `norm` are means of the input
    gradients', `loss` is the last epoch's training loss, `seconds` CPU time since the start.
    """

    epochs: Count
    accuracy: Share
    loss: Positive
    transfer: list[Share]
    transfer_n: list[Count]
    unseen: list[Share]
    cosine: list[Cosine]
    cosine_abs: list[Share]
    norm: Positive
    seconds: Positive


class Measurement(msgspec.Struct, frozen=True):
    """Everything that is kept of a network: its cost, and a row for each number of epochs."""

    params: Count
    macs: Count
    rungs: list[Rung]


class Sets:
    """The images of the benchmark and what was prepared from them in `folder`."""

    def __init__(self, folder: Path, root: Path | None = None) -> None:
        self.folder = folder
        splits = load("cifar10", root=root, seed=SEED)
        self.everything = halved(splits.train)
        chosen = stratified_sample(splits.train.labels, TRAIN_IMAGES, derive_seed(SEED, "train"))
        self.train = self.everything.subset(chosen)
        watched = stratified_sample(splits.val.labels, VAL_IMAGES, derive_seed(SEED, "val"))
        self.val = halved(splits.val).subset(watched)
        self.stats = channel_stats(self.everything)
        self._store = attacks.Store(folder / "adversarials")

    def fresh(self, architecture: Mapping[str, object], seed: int) -> models.Classifier:
        """Return an untrained network for these images; raise `ModelError` if there is none."""
        mean, std = self.stats
        card = models.new_card(architecture, self.train.classes, INPUT_SHAPE, mean, std)
        return models.rebuild(card, seed=seed)

    def reference(self, name: str, replicate: int = 0) -> models.Classifier:
        """Return a trained reference; replicate 1 is the second training, an unseen source."""
        path = self.folder / f"{name}-{replicate}.safetensors"
        if not path.is_file():
            seed = derive_seed(SEED, "reference", name, replicate)
            net = self.fresh(ARCHITECTURES[name], seed)
            config = training.TrainConfig(
                epochs=15, batch_size=64, lr=0.05, augment="crop_flip", seed=seed
            )
            training.fit(net, (self.everything, self.val), config)
            models.save(net, path)
        return models.load(path)

    def adversarials(self, name: str, replicate: int) -> attacks.AdversarialSet:
        """Return the adversarials of a reference on the validation images (PGD, 10 steps)."""
        key = (name, replicate)
        if key not in self._adversarials:
            attack = attacks.make("pgd", eps=EPS, norm="linf", steps=10)
            net = self.reference(name, replicate)
            self._adversarials[key] = attacks.craft(
                net, self.val, attack, seed=SEED, store=self._store
            )
        return self._adversarials[key]

    @cached_property
    def _adversarials(self) -> dict[tuple[str, int], attacks.AdversarialSet]:
        return {}

    @cached_property
    def examples(self) -> training.Examples:
        """The training images' stored views, with all references' gradients there."""
        views = penalty_views(self.train.images, VIEWS, eps=EPS, seed=SEED)
        gradients = [
            training.cached_reference(
                self.reference(name), views, self.train.labels, self.folder / "gradients"
            )
            for name in REFERENCES
        ]
        return training.Examples(views, self.train.labels, tuple(gradients))

    @cached_property
    def cosine_images(self) -> ImageSet:
        """The validation images on which gradients are compared."""
        return self.val.subset(torch.arange(COSINE_IMAGES))

    @cached_property
    def reference_gradients(self) -> list[Tensor]:
        """Each reference's input gradients on `cosine_images`, float32 (n,C,H,W)."""
        return [
            evaluation.input_gradients(self.reference(name), self.cosine_images)
            for name in REFERENCES
        ]

    def prepare(self) -> None:
        """Train the references, and compute what every measurement maps, if it is not there."""
        for replicate in (0, 1):
            for name in REFERENCES:
                self.adversarials(name, replicate)
        assert len(self.examples.references) == len(self.reference_gradients)


@cached_per_process()
def open_sets(folder: str) -> Sets:
    """Return the sets prepared in `folder`, one for each process."""
    return Sets(Path(folder))


def halved(images: ImageSet) -> ImageSet:
    """Return the images at half their height and width, each pixel the mean of four."""
    pixels = avg_pool2d(images.images.float(), 2).round().to(torch.uint8)
    return ImageSet(pixels, images.labels, images.classes)


@dataclass(frozen=True)
class Measure:
    """Train `architecture` with the penalty of weight `lam` and measure it at every rung.

    `replicate` tells the trainings of one network apart.
    """

    id: str
    folder: str
    architecture: dict[str, object]
    lam: float
    replicate: int = 0
    kind = Measurement

    def run(self) -> dict[str, object]:
        """Return a `Measurement` as plain values.

        Raises `InvalidCandidateError` where there is no such network for these images, and
        `DivergedError` where its training or its gradients leave the finite numbers.
        """
        sets = open_sets(self.folder)
        seed = derive_seed(SEED, "benchmark", self.id, self.replicate)
        try:
            net = sets.fresh(self.architecture, seed)
            size = models.cost(net, INPUT_SHAPE)
        except ModelError as error:
            raise InvalidCandidateError(str(error)) from error
        rungs: list[Rung] = []
        spent = 0.0
        start = time.process_time()

        def measure(record: training.EpochRecord) -> None:
            nonlocal spent, start
            spent += time.process_time() - start
            if record.epoch in RUNGS:
                rungs.append(_rung(net, sets, record, spent))
            start = time.process_time()

        config = training.TrainConfig(
            epochs=RUNGS[-1],
            batch_size=50,
            lr=0.05,
            warmup=0.5,
            views=len(sets.examples.views),
            lam=self.lam,
            penalty_every=PENALTY_EVERY if self.lam else 1,
            seed=seed,
        )
        examples = (
            sets.examples if self.lam else training.Examples(sets.examples.views, sets.train.labels)
        )
        training.fit_examples(net, examples, None, config, on_epoch=measure)
        plain: dict[str, object] = msgspec.to_builtins(
            Measurement(params=size.params, macs=size.macs, rungs=rungs)
        )
        return plain


def _rung(net: models.Classifier, sets: Sets, record: training.EpochRecord, seconds: float) -> Rung:
    """Measure a network in the middle of its training, which is left as it was."""
    labels = sets.val.labels
    was_training = net.training
    net.eval()
    right = attacks.predicted_classes(net, sets.val.images) == labels
    transfer: dict[int, list[float]] = {0: [], 1: []}
    counts: list[int] = []
    for replicate in (0, 1) if record.epoch == RUNGS[-1] else (0,):
        for name in REFERENCES:
            made = sets.adversarials(name, replicate)
            common = right & made.correct
            # A net right on nothing that R is right on has no transferability: the worst.
            share = 1.0
            if bool(common.any()):  # on these images alone: half of the work
                fooled = attacks.predicted_classes(net, made.images[common]) != labels[common]
                share = float(fooled.double().mean())
            transfer[replicate].append(share)
            if replicate == 0:
                counts.append(int(common.sum()))
    gradients = evaluation.input_gradients(net, sets.cosine_images)
    if not bool(torch.isfinite(gradients).all()):
        raise DivergedError(f"gradients are not finite after epoch {record.epoch}")
    aligned = [evaluation.alignment(gradients, each) for each in sets.reference_gradients]
    cosines = [each.cosine[~each.cosine.isnan()] for each in aligned]
    net.train(was_training)
    return Rung(
        epochs=record.epoch,
        accuracy=float(right.double().mean()),
        loss=record.train_loss,
        transfer=transfer[0],
        transfer_n=counts,
        unseen=transfer[1],
        cosine=[float(each.mean()) if len(each) else 0.0 for each in cosines],
        cosine_abs=[float(each.abs().mean()) if len(each) else 0.0 for each in cosines],
        norm=float(aligned[0].norm.mean()),
        seconds=round(seconds, 3),
    )
