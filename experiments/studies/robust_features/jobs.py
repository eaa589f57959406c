"""The jobs of the study: train a net, then look at all nets on the same images."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.studies.base import Json, StudyJob
from experiments.studies.robust_features.result import Compared, Trained
from robustkit import data, explain, models, training
from robustkit.attacks import correct, make
from robustkit.cli.models import resolve_net
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
from robustkit.stats import mean_over_images

CUTOFF = 0.125  # cycles a pixel: a quarter of the highest frequency there is


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


# What the search of `experiments/results/misalignment-cifar10` chose, by the key in its summary.
EVOLVED_KEY = "d6d61a5370f29c03"
EVOLVED: Json = {
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
    return Blueprint.from_dict(EVOLVED)


SPREAD = 3.0  # standard deviations from grey to the end of the scale


def draw_nets(
    images: ImageSet,
    gradients: Mapping[str, Tensor],
    maps: Mapping[str, Mapping[str, Tensor]],
) -> Iterator[tuple[str, bytes]]:
    """Yield names and PNGs: "gradients", and one for each kind of map."""
    yield "gradients", _drawn(images, {role: _colours(each) for role, each in gradients.items()})
    for kind in next(iter(maps.values())):
        yield kind, _drawn(images, {role: _signed(each[kind]) for role, each in maps.items()})


def _colours(gradients: Tensor) -> list[tuple[np.ndarray, dict[str, Any]]]:
    """Return each gradient around grey, cut at three standard deviations, as Tsipras et al.

    2019.
    """
    size = gradients.flatten(1).std(dim=1).view(-1, 1, 1, 1).clamp_min(1e-30)
    laid = (0.5 + gradients / size / (2 * SPREAD)).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    grey = {"cmap": "gray", "vmin": 0, "vmax": 1}
    return [(each[..., 0] if each.shape[2] == 1 else each, grey) for each in laid]


def _signed(maps: Tensor) -> list[tuple[np.ndarray, dict[str, Any]]]:
    tiles = []
    for each in maps:
        size = float(each.abs().max()) or 1.0
        tiles.append((each.numpy(), {"cmap": "bwr", "vmin": -size, "vmax": size}))
    return tiles


def _drawn(images: ImageSet, tiles: Mapping[str, list[tuple[np.ndarray, dict[str, Any]]]]) -> bytes:
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


TRAINING_STEPS = 3  # of the PGD that is trained on
LAM = 1.0
RADII = (2, 4, 8)  # in 1/255, of the attacks that measure robust accuracy
PICTURED = 8


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

    def run(self) -> Json:
        """Train by SGD 0.05 with momentum, cosine to 0, batches of 128, flipped images."""
        of, role, splits = self.setting, ROLES[self.role], data.load(self.setting.data)
        weights = derive_seed("features", of.seed, role.evolved, role.start)
        net = _fresh(of.model, role, splits, weights)
        flip = "flip" if splits.train.shape[0] == 3 else "none"
        config = training.TrainConfig(
            epochs=of.epochs,
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
            against = models.load(of.file("R")).eval()
            references = [training.compute_reference(against, views, splits.train.labels)]
        training.fit(net, splits, config, references=references)
        models.save(net, of.file(self.role))
        right = correct(net, splits.test)
        return {"test_acc": float(right.double().mean()), "n": len(right)}


@dataclass(frozen=True)
class Compare(StudyJob):
    """All nets of a repetition on the first `count` test images that every one gets right."""

    setting: Setting
    count: int

    kind = Compared

    def run(self) -> Json:
        """Return values by net and by pair of nets: see `_alone` and `_together`."""
        of, splits = self.setting, data.load(self.setting.data)
        nets = {role: models.load(of.file(role)).eval() for role in ROLES}
        attacked = splits.test.subset(torch.arange(min(self.count, len(splits.test))))
        robust = {role: _robust(net, attacked, of.seed) for role, net in nets.items()}
        images = _shared(nets, splits.test, self.count)
        gradients = {role: input_gradients(net, images) for role, net in nets.items()}
        maps = {role: _maps(net, images) for role, net in nets.items()}
        x = images.floats()
        edges = explain.edges(x)
        noise = low_frequency_share(_noise(x, of.seed))
        alone = {
            role: {**_alone(gradients[role], x, edges), "gradcam_edges": _ranks(each, edges)}
            for role, each in ((role, maps[role]["gradcam"]) for role in nets)
        }
        control = _versus(alone, "R")
        pairs = {
            f"{a}/{b}": _together(gradients[a], gradients[b], maps[a], maps[b])
            for a, b in combinations(nets, 2)
        }
        chosen = images.subset(torch.arange(min(PICTURED, len(images))))
        few = slice(0, len(chosen))
        for name, drawn in draw_nets(
            chosen,
            {role: gradient[few] for role, gradient in gradients.items()},
            {role: {name: of[few] for name, of in each.items()} for role, each in maps.items()},
        ):
            with atomic_path(Path(of.path) / f"{name}-{of.seed}.png") as temporary:
                temporary.write_bytes(drawn)
        return {
            "n": len(images),
            "judged": len(attacked),
            "noise_low": float(noise.mean()),
            "robust": robust,
            "alone": {
                role: {k: _summed(v) for k, v in each.items()} for role, each in alone.items()
            },
            "beyond": control,
            "pairs": pairs,
        }


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
    right = correct(net, images)
    found = {"0": float(right.double().mean())}
    for radius in RADII:
        stands = survivors(net, images, make("pgd", eps=radius / 255, steps=10), seed=seed)
        found[str(radius)] = float(stands.double().mean())
    return found


def _shared(nets: dict[str, Classifier], images: ImageSet, count: int) -> ImageSet:
    right = torch.ones(len(images), dtype=torch.bool)
    for net in nets.values():
        right &= correct(net, images)
    return images.subset(torch.nonzero(right).squeeze(1)[:count])


def _maps(net: Classifier, images: ImageSet) -> dict[str, Tensor]:
    """Return, for the true class, CAV at the pixels and the last stage's Grad-CAM, enlarged."""
    cav, cams = [], []
    for rows in data.batches(len(images), 250):
        x = images.floats(rows)
        with explain.trace(net, x, images.labels[rows]) as trace:
            cav.append(explain.cav(trace)["input"].map)
            last = list(explain.gradcam(trace).values())[-1]
        cams.append(explain.enlarged(last, (x.shape[2], x.shape[3])))
    return {"cav": torch.cat(cav), "gradcam": torch.cat(cams)}


def _alone(gradients: Tensor, images: Tensor, edges: Tensor) -> dict[str, Tensor]:
    """Return properties of a net's loss gradients, image by image; NaN where they are zero."""
    return {
        "low": low_frequency_share(gradients),
        "image": image_alignment(gradients, images),
        "edges": _ranks(gradients.abs().sum(dim=1), edges),
        "norm": gradients.double().flatten(1).norm(dim=1),
    }


def _ranks(maps: Tensor, edges: Tensor) -> Tensor:
    """Return Spearman's correlation with the image's edges (N,), NaN for constant maps."""
    found = [explain.spearman(a[None], b[None]) for a, b in zip(maps, edges, strict=True)]
    return torch.tensor([each.mean if each.values else torch.nan for each in found])


def _versus(alone: dict[str, dict[str, Tensor]], base: str) -> dict[str, Json]:
    """Return, by net and property, the difference to `base`, image by image."""
    return {
        role: {name: _summed(values - alone[base][name]) for name, values in each.items()}
        for role, each in alone.items()
        if role != base
    }


def _together(a: Tensor, b: Tensor, first: dict[str, Tensor], second: dict[str, Tensor]) -> Any:
    """Return cosine of two nets' gradients, and how alike their maps are."""
    return {
        "cosine": _summed(alignment(a, b).cosine),
        **{name: similarity(first[name], second[name]).to_json() for name in first},
    }


def _noise(like: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(derive_seed("noise", seed))
    return torch.randn(like.shape, generator=generator)


def _summed(values: Tensor) -> Json:
    """Return mean and interval over the images that have a value, and how many have none."""
    known = values[~values.isnan()]
    return {**mean_over_images(known.tolist()).to_json(), "without": len(values) - len(known)}
