"""The jobs of the study: train a net, compare all nets on the same images; their results."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from experiments.studies.base import StudyJob, StudySummary
from experiments.studies.measures import (
    KnownMean,
    accuracy,
    enlarged_gradcam,
    jointly_correct,
    known_mean,
    spearman_by_image,
)
from robustkit import data, explain, models, training
from robustkit.attacks import make
from robustkit.cli.models import resolve_net
from robustkit.commands.explain.result import MapSimilarity
from robustkit.commands.explain.scores import similarity
from robustkit.compute import derive_seed
from robustkit.data import ImageSet, Splits, channel_stats
from robustkit.evaluation.gradient_similarity import alignment, input_gradients
from robustkit.evaluation.robustness import survivors
from robustkit.models import Classifier
from robustkit.models.blueprint import Blueprint
from robustkit.report import chart
from robustkit.report.pictures import show_image
from robustkit.runs import atomic_path
from robustkit.runs.summaries import Count, MeanShare, Result, check_has

CUTOFF = 0.125  # cycles a pixel: a quarter of the highest frequency there is
TRAINING_STEPS = 3  # of the PGD that is trained on
LAM = 1.0
RADII = (2, 4, 8)  # in 1/255, of the attacks that measure robust accuracy
PICTURED = 8
SPREAD = 3.0  # standard deviations from grey to the end of the scale

Tile = tuple[np.ndarray, Mapping[str, Any]]  # an image, and how `imshow` draws it

# What the search of `experiments/results/misalignment-cifar10` chose, by the key in its summary.
EVOLVED_KEY = "d6d61a5370f29c03"
EVOLVED: Mapping[str, object] = {
    "blocks": [
        {"kind": "dense", "channels": 24, "kernel": 3, "stride": 2, "norm": "none",
         "activation": "gelu", "pool": "avg", "inputs": [0], "merge": "add"},
        {"kind": "dense", "channels": 32, "kernel": 3, "stride": 1, "norm": "batch",
         "activation": "leaky_relu", "pool": "avg", "inputs": [1], "merge": "add"},
        {"kind": "pool", "channels": 16, "kernel": 5, "stride": 2, "norm": "batch",
         "activation": "relu", "pool": "max", "inputs": [2], "merge": "add"},
        {"kind": "dense", "channels": 32, "kernel": 5, "stride": 2, "norm": "batch",
         "activation": "gelu", "pool": "avg", "inputs": [3], "merge": "add"},
    ],
    "head": {"pool": "flatten", "hidden": 128, "activation": "elu"},
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Role:
    """A net of the study: R's architecture or the evolved one, where it starts, its training.

    Nets of one `start` and architecture begin with the same weights and see the same batches.
    `eps` is the radius in 1/255 of PGD adversarials trained on, 0 for the images as they are;
    `against` adds the misalignment penalty against R.
    """

    says: str
    evolved: bool = False
    start: int = 0
    eps: int = 0
    against: bool = False


ROLES = {
    "R": Role(says="plain"),
    "R2": Role(says="plain, another start", start=1),
    "A2": Role(says="adversarial, eps 2/255", start=2, eps=2),
    "A8": Role(says="adversarial, eps 8/255", start=3, eps=8),
    "Rp": Role(says="from R2's start, against R", start=1, against=True),
    "E": Role(says="evolved, against R", evolved=True, against=True),
    "E0": Role(says="evolved, plain", evolved=True),
}


def evolved() -> Blueprint:
    """Return the evolved architecture."""
    return Blueprint.from_dict(dict(EVOLVED))


class Trained(Result, frozen=True, kw_only=True):
    """Accuracy on n test images."""

    test_acc: MeanShare
    n: Count


class Alone(Result, frozen=True, kw_only=True):
    """Properties of a net's gradients."""

    low: KnownMean
    image: KnownMean
    edges: KnownMean
    norm: KnownMean
    gradcam_edges: KnownMean


class Pair(Result, frozen=True, kw_only=True):
    """Two nets beside each other."""

    cosine: KnownMean
    cav: MapSimilarity
    gradcam: MapSimilarity


class Compared(Result, frozen=True, kw_only=True):
    """A comparison of all nets on n images, accuracies on the first `judged`."""

    n: Count
    judged: Count
    noise_low: MeanShare
    robust: dict[str, dict[str, MeanShare]]  # by net and radius, in 1/255
    alone: dict[str, Alone]
    beyond: dict[str, Alone]
    pairs: dict[str, Pair]


class Repeat(Result, frozen=True, kw_only=True):
    """One repetition."""

    train: dict[str, Trained]
    compare: Compared


class Summary(StudySummary, frozen=True, kw_only=True):
    """Repetitions by their seeds."""

    repeats: Annotated[dict[str, Repeat], Meta(min_length=1)]


def check(
    summary: Summary,
    where: str,
    nets: Collection[str],
    radii: Collection[str],
    pairs: Collection[str],
) -> None:
    """Raise `RunError` where a net, a radius or one of `pairs` of nets is missing."""
    others = [net for net in nets if net != "R"]
    for repeat, repetition in summary.repeats.items():
        entry, compared = f"{where}: repeats.{repeat}", repetition.compare
        check_has(repetition.train, nets, f"{entry}.train")
        check_has(compared.alone, nets, f"{entry}.compare.alone")
        check_has(compared.beyond, others, f"{entry}.compare.beyond")
        check_has(compared.robust, nets, f"{entry}.compare.robust")
        for net in nets:
            check_has(compared.robust[net], radii, f"{entry}.compare.robust.{net}")
        check_has(compared.pairs, pairs, f"{entry}.compare.pairs")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One repetition of the study: nets in `path`, their data, R's architecture."""

    path: str
    data: str
    model: str
    epochs: int
    seed: int

    def file(self, role: str) -> Path:
        """Return the trained net of this role."""
        return Path(self.path) / f"{role}-{self.seed}.safetensors"


@dataclass(frozen=True)
class TrainRole(StudyJob):
    """Train the net of `role`; those against R need R's file."""

    setting: Setting
    role: str

    kind = Trained

    def run(self) -> Trained:
        """Train by SGD 0.05 with momentum, cosine to 0, batches of 128, flipped images."""
        setting, role, splits = self.setting, ROLES[self.role], data.load(self.setting.data)
        weights = derive_seed("features", setting.seed, role.evolved, role.start)
        net = _fresh(setting.model, role, splits, weights)
        flip = "flip" if splits.train.shape[0] == 3 else "none"
        config = training.TrainConfig(
            epochs=setting.epochs,
            augment=flip,
            views=0 if not role.against else 1 if flip == "none" else 2,
            lam=LAM if role.against else 0.0,
            adversarial="pgd" if role.eps else None,
            eps=role.eps / 255,
            attack_steps=TRAINING_STEPS,
            seed=weights,
        )
        references = []
        if role.against:
            views = data.fixed_views(splits.train.images, config.views, flip, config.seed)
            against = models.load(setting.file("R")).eval()
            references = [training.compute_reference(against, views, splits.train.labels)]
        training.fit(net, splits, config, references=references)
        models.save(net, setting.file(self.role))
        return Trained(test_acc=accuracy(net, splits.test), n=len(splits.test))


@dataclass(frozen=True)
class Compare(StudyJob):
    """All nets of a repetition on the first `count` test images that every one gets right."""

    setting: Setting
    count: int

    kind = Compared

    def run(self) -> Compared:
        """Return values by net and by pair of nets: see `_alone` and `_together`."""
        setting, splits = self.setting, data.load(self.setting.data)
        nets = {role: models.load(setting.file(role)).eval() for role in ROLES}
        attacked = splits.test.subset(torch.arange(min(self.count, len(splits.test))))
        robust = {role: _robust(net, attacked, setting.seed) for role, net in nets.items()}
        images = splits.test.subset(jointly_correct(nets.values(), splits.test, self.count))
        gradients = {role: input_gradients(net, images) for role, net in nets.items()}
        maps = {role: _maps(net, images) for role, net in nets.items()}
        x = images.floats()
        edges = explain.edges(x)
        noise = low_frequency_share(_noise(x, setting.seed))
        alone = {role: _alone(gradients[role], maps[role]["gradcam"], x, edges) for role in nets}
        pairs = {
            f"{a}/{b}": _together(gradients[a], gradients[b], maps[a], maps[b])
            for a, b in combinations(nets, 2)
        }
        chosen = images.subset(torch.arange(min(PICTURED, len(images))))
        few = slice(0, len(chosen))
        for name, drawn in draw_nets(
            chosen,
            {role: gradient[few] for role, gradient in gradients.items()},
            {
                role: {name: values[few] for name, values in net_maps.items()}
                for role, net_maps in maps.items()
            },
        ):
            with atomic_path(Path(setting.path) / f"{name}-{setting.seed}.png") as temporary:
                temporary.write_bytes(drawn)
        return Compared(
            n=len(images),
            judged=len(attacked),
            noise_low=float(noise.mean()),
            robust=robust,
            alone={role: _means(properties) for role, properties in alone.items()},
            beyond={
                role: _means(
                    {name: values - alone["R"][name] for name, values in properties.items()}
                )
                for role, properties in alone.items()
                if role != "R"
            },
            pairs=pairs,
        )


def _fresh(model: str, role: Role, splits: Splits, seed: int) -> Classifier:
    if not role.evolved:
        return resolve_net(model, splits, seed=seed)
    mean, std = channel_stats(splits.train)
    channels, size, _ = splits.train.shape
    return models.build(
        evolved(),
        num_classes=splits.train.num_classes,
        in_channels=channels,
        image_size=size,
        classes=splits.train.classes,
        mean=mean,
        std=std,
        seed=seed,
    )


def _robust(net: Classifier, images: ImageSet, seed: int) -> dict[str, float]:
    """Return accuracy on the images as they are, and under PGD of each radius."""
    accuracies = {"0": accuracy(net, images)}
    for radius in RADII:
        stands = survivors(net, images, make("pgd", eps=radius / 255, steps=10), seed=seed)
        accuracies[str(radius)] = float(stands.double().mean())
    return accuracies


def _maps(net: Classifier, images: ImageSet) -> dict[str, Tensor]:
    """Return, for the true class, CAV at the pixels and the last stage's Grad-CAM, enlarged."""
    cav, cams = [], []
    for rows in data.batches(len(images), 250):
        with explain.trace(net, images.floats(rows), images.labels[rows]) as trace:
            cav.append(explain.cav(trace)["input"].map)
            cams.append(enlarged_gradcam(trace))
    return {"cav": torch.cat(cav), "gradcam": torch.cat(cams)}


def _alone(gradients: Tensor, cams: Tensor, images: Tensor, edges: Tensor) -> dict[str, Tensor]:
    """Return properties of a net's loss gradients and Grad-CAM, image by image; NaN for zeros."""
    return {
        "low": low_frequency_share(gradients),
        "image": image_alignment(gradients, images),
        "edges": spearman_by_image(gradients.abs().sum(dim=1), edges),
        "norm": gradients.double().flatten(1).norm(dim=1),
        "gradcam_edges": spearman_by_image(cams, edges),
    }


def _means(values: Mapping[str, Tensor]) -> Alone:
    return Alone(**{name: known_mean(value) for name, value in values.items()})


def _together(a: Tensor, b: Tensor, first: dict[str, Tensor], second: dict[str, Tensor]) -> Pair:
    """Return cosine of two nets' gradients, and how alike their maps are."""
    alike = {name: similarity(maps, second[name]) for name, maps in first.items()}
    return Pair(cosine=known_mean(alignment(a, b).cosine), **alike)


def _noise(like: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(derive_seed("noise", seed))
    return torch.randn(like.shape, generator=generator)


def low_frequency_share(gradients: Tensor, cutoff: float = CUTOFF) -> Tensor:
    """Return the share (N,) of gradients' energy at radial frequencies up to `cutoff`.

    `cutoff` is in cycles a pixel. White noise has the share of frequencies there are, about
    pi·cutoff². NaN where the gradient is zero.
    """
    height, width = gradients.shape[-2:]
    energy = torch.fft.fft2(gradients.double()).abs().square()
    radius = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None])
    share: Tensor = energy[..., radius <= cutoff].sum(dim=(1, 2)) / energy.sum(dim=(1, 2, 3))
    return share


def image_alignment(gradients: Tensor, images: Tensor) -> Tensor:
    """Return |cos| (N,) between gradients (N,C,H,W) and the images minus each channel's mean.

    After Etmann, Lunz, Maass and Schönlieb 2019, without the scale. NaN where either is zero.
    """
    return alignment(gradients, images - images.mean(dim=(2, 3), keepdim=True)).cosine.abs()


def draw_nets(
    images: ImageSet,
    gradients: Mapping[str, Tensor],
    maps: Mapping[str, Mapping[str, Tensor]],
) -> Iterator[tuple[str, bytes]]:
    """Yield names and PNGs: "gradients", and one for each kind of map."""
    yield (
        "gradients",
        _drawn(images, {role: _colours(gradient) for role, gradient in gradients.items()}),
    )
    for kind in next(iter(maps.values())):
        yield (
            kind,
            _drawn(images, {role: _signed(net_maps[kind]) for role, net_maps in maps.items()}),
        )


def _colours(gradients: Tensor) -> list[Tile]:
    """Return each gradient around grey, cut at three standard deviations, as Tsipras et al.

    2019.
    """
    size = gradients.flatten(1).std(dim=1).view(-1, 1, 1, 1).clamp_min(1e-30)
    laid = (0.5 + gradients / size / (2 * SPREAD)).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    grey = {"cmap": "gray", "vmin": 0, "vmax": 1}
    return [(image[..., 0] if image.shape[2] == 1 else image, grey) for image in laid]


def _signed(maps: Tensor) -> list[Tile]:
    tiles: list[Tile] = []
    for image in maps:
        size = float(image.abs().max()) or 1.0
        tiles.append((image.numpy(), {"cmap": "bwr", "vmin": -size, "vmax": size}))
    return tiles


def _drawn(images: ImageSet, tiles: Mapping[str, list[Tile]]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    rows, columns = len(images), 1 + len(tiles)
    with chart(1.15 * columns, 1.15 * rows + 0.4) as drawing:
        axes: Any = drawing.subplots(rows, columns, squeeze=False)
        for axis in axes.ravel():
            axis.set_axis_off()
        for row in range(rows):
            show_image(axes[row, 0], images.images[row])
            axes[row, 0].set_title(images.classes[int(images.labels[row])], fontsize=7)
            for column, (role, drawn) in enumerate(tiles.items(), start=1):
                values, how = drawn[row]
                axes[row, column].imshow(values, **how)
                if row == 0:
                    axes[row, column].set_title(f"{role}\n{ROLES[role].says}", fontsize=6)
        packed = io.BytesIO()
        FigureCanvasAgg(drawing).print_png(packed)  # type: ignore[no-untyped-call]
    return packed.getvalue()
