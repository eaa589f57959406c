"""The usual benchmark sets, read from a .npz file of their name under the data root."""

from __future__ import annotations

from robustkit.data.registry import Request, Source, required_root, source
from robustkit.data.sources.npz import read_source
from robustkit.errors import DataError

CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
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
    ),
    "cifar10": (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    "gtsrb": tuple(f"{number:02d}" for number in range(43)),
}


@source("mnist")
@source("fashion_mnist")
@source("cifar10")
@source("gtsrb")
def open_named(request: Request) -> Source:
    """Offer `{root}/{name}.npz`."""
    path = required_root(request) / f"{request.name}.npz"
    if not path.is_file():
        raise DataError(f"no {path}")
    return read_source(path, CLASSES[request.name])
