"""Handwritten digits (LeCun et al. 1998) and its drop-in of clothes (Xiao et al. 2017)."""

from __future__ import annotations

from typing import Any

from robustkit.data.arrays import to_labels, to_nchw
from robustkit.data.registry import Part, Request, Source, required_root, source
from robustkit.data.sources.npz import not_found, npz_under_root

DIGITS = tuple("0123456789")
CLOTHES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


@source("mnist")
def open_mnist(request: Request) -> Source:
    """Offer `{root}/mnist.npz`, else torchvision's files under the root: uint8 (1,28,28)."""
    return npz_under_root(request, DIGITS) or _from_torchvision(request, "MNIST", DIGITS)


@source("fashion_mnist")
def open_fashion_mnist(request: Request) -> Source:
    """Offer `{root}/fashion_mnist.npz`, else torchvision's files: uint8 (1,28,28)."""
    return npz_under_root(request, CLOTHES) or _from_torchvision(request, "FashionMNIST", CLOTHES)


def _from_torchvision(request: Request, dataset: str, classes: tuple[str, ...]) -> Source:
    from torchvision import datasets

    root = required_root(request)
    try:
        train, test = (
            getattr(datasets, dataset)(root, train=train, download=request.download)
            for train in (True, False)
        )
    except (RuntimeError, OSError, ValueError, AssertionError) as error:
        raise not_found(request, f"{dataset}/raw", error) from error
    return Source(
        _part(train, f"{request.name} train"), _part(test, f"{request.name} test"), classes
    )


def _part(dataset: Any, where: str) -> Part:
    images = to_nchw(dataset.data.numpy(), f"{where} images")
    labels = to_labels(dataset.targets.numpy(), len(images), f"{where} labels")
    return Part(labels, images.__getitem__)
