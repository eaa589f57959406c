"""The jobs of the study: train references, take their gradients, train R's architecture again."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated

import torch
from msgspec import Meta

from evolution.benchmark.measure import halved
from experiments.studies.base import StudyJob, StudySummary
from robustkit import attacks, data, evaluation, models, training
from robustkit.cli.models import resolve_net
from robustkit.compute import derive_seed
from robustkit.data import Splits, stratified_sample
from robustkit.errors import RunError
from robustkit.jobs import DivergedError, cached_per_process
from robustkit.runs import atomic_path
from robustkit.runs.summaries import Amount, Count, MeanShare, Result, Share, check_has

NONE, CLEAN = "none", "clean"
SECOND = 1  # replicate of a reference that no penalty knows
BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Option:
    """One way to train R's architecture; `noise` is that of the stored views."""

    noise: str = "clean"
    penalised: bool = True
    lam_ramp: float = 0.0
    penalty_every: int = 1
    grad_loss: str = "ce"


OPTIONS: dict[str, Option] = {
    NONE: Option(penalised=False),
    "uniform alone": Option(noise="uniform", penalised=False),
    "corner alone": Option(noise="corner", penalised=False),
    "mixed alone": Option(noise="mixed", penalised=False),
    CLEAN: Option(),
    "clean, every 2": Option(penalty_every=2),
    "clean, every 4": Option(penalty_every=4),
    "uniform": Option(noise="uniform"),
    "corner": Option(noise="corner"),
    "mixed": Option(noise="mixed"),
    "mixed, ramp": Option(noise="mixed", lam_ramp=1.0),
    "mixed, every 2": Option(noise="mixed", penalty_every=2),
    "mixed, margin": Option(noise="mixed", grad_loss="margin"),
}


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Data and budgets of a scale; `lams` are the weights of the penalty tried."""

    data: str
    halve: bool
    augment: str
    references: tuple[str, ...]
    reference_images: int
    reference_epochs: int
    images: int
    epochs: int
    watched: int
    tested: int
    eps: float
    lams: tuple[float, ...]
    seeds: int


SCALES = {
    False: Scale(
        data="cifar10",
        halve=True,
        augment="flip",
        references=("vgg5?width=16", "small?width=32"),
        reference_images=12_000,
        reference_epochs=8,
        images=12_000,
        epochs=4,
        watched=1_500,
        tested=3_000,
        eps=16 / 255,
        lams=(0.1, 0.3, 1.0, 3.0, 10.0),
        seeds=3,
    ),
    True: Scale(
        data="digits",
        halve=False,
        augment="none",
        references=("small?width=8", "vgg3?width=8"),
        reference_images=300,
        reference_epochs=2,
        images=128,
        epochs=1,
        watched=50,
        tested=60,
        eps=0.15,
        lams=(3.0,),
        seeds=2,
    ),
}
"""By whether it is a rehearsal."""

ONE_WEIGHT = ("mixed, ramp", "mixed, every 2", "mixed, margin")  # trained with the largest λ alone
SMALL_WEIGHTS = (CLEAN, "clean, every 2", "clean, every 4", "mixed")  # trained with λ below 1, too


class Transfer(Result, frozen=True, kw_only=True):
    """The share of a source's adversarials that a net gets wrong, of n images both get right."""

    rate: Share
    n: Count


class Referenced(Result, frozen=True, kw_only=True):
    """A reference on test: accuracy, and how often its own adversarials fool it."""

    accuracy: Share
    fooled: Share


class Prepared(Result, frozen=True, kw_only=True):
    """R's gradients on stored views: how many, how many without direction, CPU seconds."""

    gradients: Count
    masked: Count
    seconds: Amount


class Measured(Result, frozen=True, kw_only=True):
    """A trained net: on validation, which decides, then on test, which is quoted.

    `second` is the transfer from a second training of R's architecture, `stranger` from the other
    reference; no penalty knew either. `cosine_abs` and `norm` are means over test images of the
    input gradient's |cosine| with R's and of its L2 norm.
    """

    val_accuracy: Share
    val_transfer: Transfer
    accuracy: Share
    transfer: Transfer
    second: Transfer
    stranger: Transfer
    cosine_abs: MeanShare
    norm: Amount


class Trained(Result, frozen=True, kw_only=True):
    """One training in CPU `seconds`; nothing is `measured` of one that diverged."""

    seconds: Amount
    measured: Measured | None


Seeds = Annotated[dict[str, Trained], Meta(min_length=1)]


class Summary(StudySummary, frozen=True, kw_only=True):
    """References by name and replicate, gradients by name and views, nets by name, option, λ, seed.

    λ is "0" without a penalty.
    """

    reference: Annotated[dict[str, dict[str, Referenced]], Meta(min_length=1)]
    gradients: dict[str, dict[str, Prepared]]
    trained: Annotated[dict[str, dict[str, dict[str, Seeds]]], Meta(min_length=1)]


def check(summary: Summary, where: str) -> None:
    """Raise `RunError` where references differ in options, λ or seeds, or a control is missing."""
    check_has(summary.trained, summary.reference, f"{where}: trained")
    check_has(summary.reference, summary.trained, f"{where}: reference")
    first, *others = summary.trained
    wanted = _trainings(summary, first)
    for name in summary.trained:
        check_has(summary.reference[name], ("0", str(SECOND)), f"{where}: reference.{name}")
        check_has(summary.trained[name], (NONE, CLEAN), f"{where}: trained.{name}")
        check_has(summary.trained[name][NONE], ("0",), f"{where}: trained.{name}.{NONE}")
        _check_options(summary, name, where)
    for name in others:
        if _trainings(summary, name) != wanted:
            raise RunError(f"{where}: trained.{name}: other options, λ or seeds than of {first}")


def _check_options(summary: Summary, name: str, where: str) -> None:
    seeds = set(summary.trained[name][NONE]["0"])
    for option, weights in summary.trained[name].items():
        entry = f"{where}: trained.{name}.{option}"
        check_has(OPTIONS, (option,), f"{where}: the study's options")
        if not weights:
            raise RunError(f"{entry}: no λ")
        for lam, trained in weights.items():
            try:
                fits = (float(lam) > 0) == OPTIONS[option].penalised
            except ValueError:
                fits = False
            if not fits:
                raise RunError(f"{entry}: '{lam}' is no λ of this option")
            if set(trained) != seeds:
                raise RunError(f"{entry}.{lam}: other seeds than those of '{NONE}'")


def _trainings(summary: Summary, name: str) -> set[tuple[str, str, str]]:
    return {
        (option, lam, seed)
        for option, weights in summary.trained[name].items()
        for lam, trained in weights.items()
        for seed in trained
    }


class Place:
    """The images of a scale, and what was trained and computed in `folder`."""

    def __init__(self, folder: Path, seed: int, *, smoke: bool) -> None:
        self.folder, self.seed, self.scale = folder, seed, SCALES[smoke]
        self._store = attacks.Store(folder / "adversarials")

    @cached_property
    def splits(self) -> Splits:
        """Images to train references on, to decide by, and to quote; classes kept even."""
        scale = self.scale
        loaded = data.load(scale.data, seed=self.seed)

        def some(name: str, count: int) -> data.ImageSet:
            part: data.ImageSet = getattr(loaded, name)
            chosen = stratified_sample(part.labels, count, derive_seed(self.seed, "penalty", name))
            return halved(part.subset(chosen)) if scale.halve else part.subset(chosen)

        return Splits(
            some("train", scale.reference_images),
            some("val", scale.watched),
            some("test", scale.tested),
            scale.data,
        )

    @cached_property
    def train(self) -> data.ImageSet:
        """The training images of all nets but the references: theirs, or a part of them."""
        images = self.splits.train
        seed = derive_seed(self.seed, "penalty", "images")
        return images.subset(stratified_sample(images.labels, self.scale.images, seed))

    def fresh(self, name: str, seed: int) -> models.Classifier:
        """Return the untrained architecture of a reference."""
        return resolve_net(name, self.splits, seed=seed)

    def reference_file(self, name: str, replicate: int) -> Path:
        """Return where a trained reference is kept."""
        number = self.scale.references.index(name)
        return self.folder / f"reference-{number}-{replicate}.safetensors"

    def adversarials(self, name: str, replicate: int, part: str) -> attacks.AdversarialSet:
        """Return a reference's adversarials on "val" or "test" (PGD, 10 steps), kept on disk."""
        return attacks.craft(
            models.load(self.reference_file(name, replicate)),
            getattr(self.splits, part),
            attacks.make("pgd", eps=self.scale.eps, norm="linf", steps=10),
            seed=self.seed,
            store=self._store,
        )

    def config(self, option: Option, lam: float, seed: int) -> training.TrainConfig:
        """Return how a net is trained with `option` and weight `lam`."""
        scale = self.scale
        return training.TrainConfig(
            epochs=scale.epochs,
            batch_size=BATCH,
            augment=scale.augment,
            views=1 if scale.augment == "none" else 2,
            penalty_views=option.noise,
            eps=scale.eps,
            lam=lam,
            lam_ramp=option.lam_ramp,
            penalty_every=option.penalty_every,
            grad_loss=option.grad_loss,
            seed=seed,
        )

    def examples(self, option: Option) -> training.Examples:
        """Return the views of `option`, the same for every net and seed; no gradients yet."""
        views = derive_seed(self.seed, "penalty", "views")
        return training.make_examples(self.train, self.config(option, 0.0, views))

    def gradients(
        self, name: str, option: Option, examples: training.Examples
    ) -> training.ReferenceGradients:
        """Return R's gradients there, computed by the first who asks, mapped by the others."""
        return training.cached_reference(
            models.load(self.reference_file(name, 0)),
            examples.views,
            examples.labels,
            self.folder / "gradients",
            option.grad_loss,
        )


@cached_per_process(2)
def open_place(folder: str, seed: int, smoke: bool) -> Place:
    """Return the place of a study, one in a process."""
    return Place(Path(folder), seed, smoke=smoke)


@dataclass(frozen=True)
class PlacedJob(StudyJob):
    """A job on the images of the study in the folder `path`."""

    path: str
    seed: int
    smoke: bool
    name: str

    @property
    def place(self) -> Place:
        """Return what all jobs share."""
        return open_place(self.path, self.seed, self.smoke)


@dataclass(frozen=True)
class TrainReference(PlacedJob):
    """Train a reference, or once more with another seed, and make its adversarials."""

    replicate: int

    kind = Referenced

    def run(self) -> Referenced:
        """Return accuracy and white-box success on test."""
        place, scale = self.place, self.place.scale
        seed = derive_seed(self.seed, "penalty", "reference", self.name, self.replicate)
        net = place.fresh(self.name, seed)
        config = training.TrainConfig(
            epochs=scale.reference_epochs,
            batch_size=BATCH,
            augment="none" if scale.augment == "none" else "crop_flip",
            seed=seed,
        )
        training.fit(net, place.splits, config)
        with atomic_path(place.reference_file(self.name, self.replicate)) as temporary:
            models.save(net, temporary)
        place.adversarials(self.name, self.replicate, "val")
        made = place.adversarials(self.name, self.replicate, "test")
        fooled = made.fooled[made.correct].double()
        return Referenced(
            accuracy=float(made.correct.double().mean()),
            fooled=float(fooled.mean()) if len(fooled) else 0.0,
        )


@dataclass(frozen=True)
class TakeGradients(PlacedJob):
    """Compute R's gradients on the views of an option."""

    option: str

    kind = Prepared

    def run(self) -> Prepared:
        """Return how many there are, and what they cost."""
        option = OPTIONS[self.option]
        examples = self.place.examples(option)
        start = time.process_time()
        gradients = self.place.gradients(self.name, option, examples)
        return Prepared(
            gradients=gradients.norms.numel(),
            masked=gradients.masked,
            seconds=time.process_time() - start,
        )


@dataclass(frozen=True)
class TrainNet(PlacedJob):
    """Train R's architecture with an option and measure it; `lam` is 0 without a penalty."""

    option: str
    lam: float
    replicate: int

    kind = Trained

    def run(self) -> Trained:
        """Return its measures; trainings of one replicate begin with the same weights."""
        place, option = self.place, OPTIONS[self.option]
        seed = derive_seed(self.seed, "penalty", "net", self.name, self.replicate)
        net = place.fresh(self.name, seed)
        examples = place.examples(option)
        if option.penalised:
            references = (place.gradients(self.name, option, examples),)
            examples = replace(examples, references=references)
        start = time.process_time()
        try:
            training.fit_examples(net, examples, None, place.config(option, self.lam, seed))
        except DivergedError:
            return Trained(seconds=time.process_time() - start, measured=None)
        seconds = time.process_time() - start
        return Trained(seconds=seconds, measured=measured(net, self.name, place))


def measured(net: models.Classifier, name: str, place: Place) -> Measured:
    """Return the measures of a trained net of the architecture of the reference `name`."""
    splits = place.splits
    right = {part: attacks.correct(net, getattr(splits, part)) for part in ("val", "test")}

    def transfer(source: str, replicate: int, part: str) -> Transfer:
        made = place.adversarials(source, replicate, part)
        both = right[part] & made.correct
        labels = getattr(splits, part).labels
        fooled = attacks.predicted_classes(net, made.images) != labels
        # A net right on nothing that R is right on has no transferability: the worst.
        rate = float(fooled[both].double().mean()) if bool(both.any()) else 1.0
        return Transfer(rate=rate, n=int(both.sum()))

    own = evaluation.input_gradients(net, splits.test)
    reference = models.load(place.reference_file(name, 0))
    aligned = evaluation.alignment(own, evaluation.input_gradients(reference, splits.test))
    cosines = aligned.cosine[~aligned.cosine.isnan()].abs()
    return Measured(
        val_accuracy=float(right["val"].double().mean()),
        val_transfer=transfer(name, 0, "val"),
        accuracy=float(right["test"].double().mean()),
        transfer=transfer(name, 0, "test"),
        second=transfer(name, SECOND, "test"),
        stranger=transfer(other(name, place.scale.references), 0, "test"),
        cosine_abs=float(cosines.mean()) if len(cosines) else 0.0,
        norm=float(torch.nan_to_num(aligned.norm).mean()),
    )


def other(name: str, references: Collection[str]) -> str:
    """Return the next reference, the first after the last."""
    names = list(references)
    return names[(names.index(name) + 1) % len(names)]
