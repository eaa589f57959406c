"""The jobs of the study: train a VGG, mask what its maps mark, cover objects; their results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated

import torch
from msgspec import UNSET, Meta, UnsetType
from torch import Tensor, nn

from experiments.studies.base import StudyJob, StudySummary
from experiments.studies.measures import accuracy
from robustkit import data, explain, models, training
from robustkit.attacks import correct, predict, predicted_classes
from robustkit.class_names import imagenet_classes
from robustkit.cli.models import resolve_net
from robustkit.commands.explain.panels import draw_panels
from robustkit.commands.explain.subject import Subject
from robustkit.compute import torch_generator
from robustkit.data import ImageSet, find_images, read_images, survey
from robustkit.errors import DataError, RunError
from robustkit.explain import Contribution
from robustkit.explain.methods import MapSettings, make_maps
from robustkit.models import Classifier
from robustkit.runs import atomic_path
from robustkit.runs.summaries import Amount, Count, MeanShare, Result, check_has
from robustkit.stats import Mean, mean_over_images

PICTURES = "pictures:"  # how a folder of them is told from a data set
SIDE = 224
PLACES = 256_000  # pixels of a batch
PANELS = 8
SIGNS = ("positive", "negative")
NO_MEAN = Mean(value=None, low=None, high=None)


class Trained(Result, frozen=True, kw_only=True):
    """A net, and how accurate it is where that can be told."""

    model: str
    test_acc: MeanShare | None
    n: Count


class Mask(Result, frozen=True, kw_only=True):
    """The effect of a mask on the score: to how much of a layer, how far, beyond a random one."""

    drop: Mean
    expected: Mean
    share: Mean
    lost: Mean
    beyond: Mean | UnsetType = UNSET

    @property
    def beyond_random(self) -> Mean:
        """Return by how much more the score falls than without a random region of that size."""
        return NO_MEAN if isinstance(self.beyond, UnsetType) else self.beyond


class Masks(Result, frozen=True, kw_only=True):
    """Masks by `LAYER/KIND`, likeness to Grad-CAM by layer."""

    n: Count
    layers: Annotated[list[str], Meta(min_length=1)]
    residual_max: Amount
    masks: dict[str, Mask]
    like_gradcam: dict[str, Mean]


class Objects(Result, frozen=True, kw_only=True):
    """Of pictures of two objects: how many have both on top, and whose half counts."""

    pairs: Count
    n: Count
    own: Mean


class Summary(StudySummary, frozen=True, kw_only=True):
    """The three results by name."""

    train: Trained
    masks: Masks
    objects: Objects


def check(summary: Summary, where: str) -> None:
    """Raise `RunError` where a layer has no masks, or no likeness to Grad-CAM."""
    check_masks(summary.masks, f"{where}: masks")


def check_masks(masks: Masks, where: str) -> None:
    """Raise `RunError` where a layer has no masks, or no likeness to Grad-CAM."""
    check_has(masks.like_gradcam, masks.layers, f"{where}.like_gradcam")
    for layer, sign in product((*masks.layers, "input"), SIGNS):
        names = (f"{layer}/{sign}", f"{layer}/random, as {sign}")
        check_has(masks.masks, names, f"{where}.masks")
        if masks.masks[names[0]].beyond_random.value is None and masks.n:
            raise RunError(f"{where}.masks.{names[0]}: 'beyond' is missing")


@dataclass(frozen=True)
class TrainVgg(StudyJob):
    """Train `model` on `data`; the model goes to `path`."""

    path: str
    data: str
    model: str
    epochs: int
    seed: int

    kind = Trained

    def run(self) -> Trained:
        """Train by SGD 0.05 with momentum, cosine to 0, batches of 128, flipped images."""
        splits = data.load(self.data)
        net = resolve_net(self.model, splits, seed=self.seed)
        flip = "flip" if splits.train.shape[0] == 3 else "none"
        config = training.TrainConfig(epochs=self.epochs, augment=flip, seed=self.seed)
        training.fit(net, splits, config)
        models.save(net, Path(self.path))
        return Trained(model=self.model, test_acc=accuracy(net, splits.test), n=len(splits.test))


@dataclass(frozen=True)
class TakeVgg(StudyJob):
    """torchvision's VGG-16 with the user's file of its ImageNet weights; the model goes to `path`.

    Nothing is downloaded. Raises `ModelError` for a file that does not fit.
    """

    path: str
    weights: str

    kind = Trained

    def run(self) -> Trained:
        """Save the model; its accuracy is unknown without ImageNet's labels."""
        classes = imagenet_classes()
        net = models.resolve(
            "torchvision:vgg16",
            num_classes=len(classes),
            in_channels=3,
            image_size=SIDE,
            classes=classes,
            weights=self.weights,
        )
        models.save(net, Path(self.path))
        return Trained(model="torchvision:vgg16", test_acc=None, n=0)


@dataclass(frozen=True)
class MaskMaps(StudyJob):
    """On `count` test images that are right: what is left of the score without what CAV marks."""

    path: str
    data: str
    count: int
    seed: int

    kind = Masks

    def run(self) -> Masks:
        """Return, by layer, the effect of masks of both signs and of random ones.

        CAV against Grad-CAM.
        """
        model = models.load(Path(self.path)).eval()
        images = recognised(model, self.data, self.count)
        layers = taps(model)
        scores: dict[tuple[str, str], dict[str, list[Tensor]]] = {}  # by layer and region
        alike: dict[str, list[float]] = {}
        residual = 0.0
        for number, rows in enumerate(data.batches(len(images), batch_of(images))):
            x = images.floats(rows)
            with explain.trace(model, x, images.labels[rows], layers) as trace:
                contributions, cams = explain.cav(trace), explain.gradcam(trace)
            residual = max(
                residual,
                *(
                    float(contribution.residual.abs().max())
                    for contribution in contributions.values()
                ),
            )
            for layer, contribution in contributions.items():
                for kind, region in _regions(contribution, self.seed, number):
                    masked = explain.disable(model, x, trace.targets, contribution, region, layer)
                    effects = scores.setdefault((layer, kind), {})
                    before, after = masked.scores()
                    assert masked.predicted is not None
                    for name, values in (
                        ("drop", before - after),
                        ("expected", before - masked.predicted),
                        ("share", masked.share),
                        ("lost", (masked.after.argmax(1) != trace.targets).double()),
                    ):
                        effects.setdefault(name, []).append(values)
                if layer in cams:
                    same = explain.spearman(contribution.map.clamp_min(0), cams[layer])
                    alike.setdefault(layer, []).extend(same.values)
        for (layer, kind), effects in scores.items():
            control = scores.get((layer, f"random, as {kind}"))
            if control is not None:  # image by image
                effects["beyond"] = [
                    ours - theirs
                    for ours, theirs in zip(effects["drop"], control["drop"], strict=True)
                ]
        self._draw(model, images, layers)
        return Masks(
            n=len(images),
            layers=layers,
            residual_max=residual,
            masks={
                f"{layer}/{kind}": Mask(
                    **{
                        effect: mean_over_images(torch.cat(parts).tolist())
                        for effect, parts in effects.items()
                    }
                )
                for (layer, kind), effects in scores.items()
            },
            like_gradcam={layer: mean_over_images(values) for layer, values in alike.items()},
        )

    def _draw(self, model: Classifier, images: ImageSet, layers: list[str]) -> None:
        first = images.subset(torch.arange(min(PANELS, len(images))))
        names = tuple(f"test image {number}" for number in range(len(first)))
        subject = Subject(model, None, first.images, first.labels, names, images.classes)
        settings = MapSettings(layers=tuple(layers))
        maps = make_maps(model, first.floats(), first.labels, ("cav", "gradcam"), settings)
        for name, drawn in draw_panels(subject, first.labels, maps, None):
            with atomic_path(Path(self.path).with_name(name)) as temporary:
                temporary.write_bytes(drawn)


@dataclass(frozen=True)
class CoverObjects(StudyJob):
    """Pictures of two objects side by side: does each class's score belong to its own half?"""

    path: str
    data: str
    count: int
    seed: int

    kind = Objects

    def run(self) -> Objects:
        """Return, of `count` pairs with both classes on top, whose half each class's score
        needs.
        """
        model = models.load(Path(self.path)).eval()
        images = recognised(model, self.data, 2 * self.count)
        pictures, a, b = self._paired(images)
        if not len(pictures):
            return Objects(pairs=0, n=0, own=mean_over_images([]))
        top = predict(model, pictures).topk(2).indices.sort(dim=1).values
        on_top = (top == torch.stack([a, b], dim=1).sort(dim=1).values).all(dim=1) & (a != b)
        pictures, a, b = pictures[on_top], a[on_top], b[on_top]
        if not len(pictures):
            return Objects(pairs=len(on_top), n=0, own=mean_over_images([]))
        halves = []
        half = images.shape[2] // 2
        plain = predict(model, pictures)
        for own_class, other_class, columns in (
            (a, b, slice(0, half)),
            (b, a, slice(half, 2 * half)),
        ):
            covered = pictures.clone()
            covered[:, :, :, columns] = 0.5
            fall = plain - predict(model, covered)
            own_fall, other_fall = (
                fall.gather(1, classes[:, None])[:, 0] for classes in (own_class, other_class)
            )
            halves.append((own_fall > other_fall).double())
        shares = torch.stack(halves).mean(dim=0)  # the two halves of a picture are no two samples
        return Objects(pairs=len(on_top), n=len(pictures), own=mean_over_images(shares.tolist()))

    def _paired(self, images: ImageSet) -> tuple[Tensor, Tensor, Tensor]:
        """Return pairs of images side by side (N,C,H,W), and the labels (N,) left and right.

        Each image is shrunk to half its width, so that all of both is in the picture.
        """
        order = torch.randperm(len(images), generator=torch_generator("pairs", self.seed))
        left, right = order[: len(order) // 2], order[len(order) // 2 :][: len(order) // 2]
        size = (images.shape[1], images.shape[2] // 2)
        shrunk = nn.functional.interpolate(
            images.floats(), size=size, mode="bilinear", antialias=True
        )
        pictures = torch.cat([shrunk[left], shrunk[right]], dim=3)
        return pictures, images.labels[left], images.labels[right]


def own_pictures(model: Classifier, folder: Path, count: int) -> ImageSet:
    """Return the first `count` pictures in `folder`, labelled by the model's predictions.

    They are resized to its square without keeping their aspect. Raises `DataError` for a folder
    without any, and for a file that cannot be read.
    """
    files = find_images(folder)[:count]
    if not files:
        raise DataError(f"{folder}: no pictures there")
    images = read_images(files, survey(files, model.card.input_shape[1]))
    if images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1).contiguous()
    return ImageSet(images, predicted_classes(model, images), model.card.classes)


def recognised(model: Classifier, source: str, count: int) -> ImageSet:
    """Return the first `count` test images that the model gets right.

    Pictures without labels are labelled by its predictions.
    """
    if source.startswith(PICTURES):
        return own_pictures(model, Path(source.removeprefix(PICTURES)), count)
    images = data.load(source).test
    right = correct(model, images)
    return images.subset(torch.nonzero(right).squeeze(1)[:count])


def taps(model: Classifier) -> list[str]:
    """Return the ReLU before the pool of each stage, first stage first."""
    chosen, before = [], ""
    for name, module in model.named_modules():
        if isinstance(module, nn.MaxPool2d) and before:
            chosen.append(before)
        before = name if isinstance(module, nn.ReLU) else ""
    return chosen


def batch_of(images: ImageSet) -> int:
    """Return images of a batch, so that large ones fit into memory."""
    _, height, width = images.shape
    return max(1, PLACES // (height * width))


def _regions(contribution: Contribution, seed: int, batch: int) -> Iterator[tuple[str, Tensor]]:
    """Yield where the map is positive, where negative, and as many random places of each."""
    generator = torch_generator("regions", seed, batch)
    for sign in explain.MASK_SIGNS:
        region = explain.signed_region(contribution, sign)
        yield sign, region
        rank = torch.rand(region.shape, generator=generator).flatten(1).argsort(1).argsort(1)
        size = region.flatten(1).sum(dim=1, keepdim=True)
        yield f"random, as {sign}", (rank < size).view(region.shape)
