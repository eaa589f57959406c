"""Tiny networks and images for the tests of attacks and training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustkit import models
from robustkit.attacks.ascent import Ascent
from robustkit.attacks.norms import NORMS
from robustkit.data import ImageSet, Splits
from robustkit.training import TrainConfig, fit

SIDE, CLASSES = 8, 3


def smooth_net(*, norm: bool = False, seed: int = 0) -> nn.Sequential:
    """Conv, SiLU, linear on 1x8x8; `norm` puts batch norm and dropout between."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        between = [nn.BatchNorm2d(3), nn.Dropout(0.5)] if norm else []
        return nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1),
            *between,
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(3 * SIDE**2, CLASSES),
        )


def classifier(name: str = "small", *, seed: int = 0) -> models.Classifier:
    return models.build(
        name, num_classes=CLASSES, in_channels=1, image_size=SIDE, width=2, seed=seed
    )


def striped(count: int, seed: int = 0) -> ImageSet:
    """Noise with a bright band whose height in the image is the class: soon learnt."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 120, (count, 1, SIDE, SIDE), generator=generator)
    labels = torch.arange(count) % CLASSES
    for label in range(CLASSES):
        images[labels == label, :, 1 + 2 * label : 3 + 2 * label] += 130
    return ImageSet(images.to(torch.uint8), labels, ("low", "middle", "high"))


def batch(count: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    images = striped(count, seed)
    return images.floats(), images.labels


def trained(seed: int = 0) -> models.Classifier:
    """A net that is right on most of the `striped` images, in evaluation mode."""
    net = classifier(seed=seed)
    splits = Splits(striped(60, seed), striped(9, 7), striped(9, 8), "stripes")
    fit(net, splits, TrainConfig(epochs=12, batch_size=10, lr=0.05, seed=seed))
    return net.eval()


def ascent_of(
    images: Tensor, labels: Tensor, net: nn.Module | None = None, seeds: Tensor | None = None
) -> Ascent:
    """An attack on these images as it begins, with ε 0.2 in three steps."""
    source = nn.Identity() if net is None else net
    return Ascent(
        source=source,
        model=source,
        clean=images,
        labels=labels,
        seeds=torch.arange(len(images)) if seeds is None else seeds,
        eps=0.2,
        alpha=0.2 / 3,
        decay=1.0,
        targeted=False,
        steps=3,
        geometry=NORMS["linf"],
        rows=torch.arange(len(images)),
    )
