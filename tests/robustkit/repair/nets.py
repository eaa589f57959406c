"""Tiny nets and noise for the tests of repair, and the slow way to put values into a net."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from robustkit.data import ImageSet
from robustkit.models import Card, Classifier
from robustkit.repair import Selection

SIDE, CLASSES = 6, 4


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """What `make` makes with the global generator seeded; the generator is put back."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def wrap(
    net: nn.Module, *, classes: int = CLASSES, side: int = SIDE, channels: int = 1
) -> Classifier:
    """A classifier in evaluation mode around a hand-made net; its digest knows it by its weights
    alone."""
    card = Card.trained_on(
        architecture={"family": "factory", "factory": "tests:handmade"},
        classes=tuple(f"class{number}" for number in range(classes)),
        input_shape=(channels, side, side),
        mean=(0.45,) * channels,
        std=(0.3,) * channels,
    )
    return Classifier(net, card).eval()


def noise(
    count: int, *, classes: int = CLASSES, side: int = SIDE, channels: int = 1, seed: int = 0
) -> ImageSet:
    """Random images with random labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, channels, side, side), generator=generator)
    labels = torch.randint(0, classes, (count,), generator=generator)
    names = tuple(f"class{number}" for number in range(classes))
    return ImageSet(images.to(torch.uint8), labels, names)


def mixed_net(seed: int = 0) -> Classifier:
    """Two convolutions and two fully connected layers, "0", "2", "5" and "7"."""
    return wrap(
        seeded(
            lambda: nn.Sequential(
                nn.Conv2d(1, 3, 3),
                nn.ReLU(),
                nn.Conv2d(3, 4, 3, padding=1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(64, 7),
                nn.ReLU(),
                nn.Linear(7, CLASSES),
            ),
            seed,
        )
    )


def mlp(seed: int = 0, classes: int = CLASSES) -> Classifier:
    """Two fully connected layers, "1" and "3"."""
    return wrap(
        seeded(
            lambda: nn.Sequential(
                nn.Flatten(), nn.Linear(SIDE**2, 8), nn.ReLU(), nn.Linear(8, classes)
            ),
            seed,
        ),
        classes=classes,
    )


def chosen(**indices: list[int]) -> Selection:
    """A selection of these flat indices; a layer's name is written with _ for the dot, and may
    start with one."""
    return Selection(
        {
            name.lstrip("_").replace("_", "."): torch.tensor(each, dtype=torch.int64)
            for name, each in indices.items()
        }
    )


def parameter(model: Classifier, layer: str, kind: str = "weight") -> Tensor:
    """The weight (or the bias) of a layer of `model.net`."""
    found = getattr(model.net.get_submodule(layer), kind)
    assert isinstance(found, Tensor)
    return found


def substituted(model: Classifier, selection: Selection, values: Tensor) -> Classifier:
    """A deep copy of `model` in which the selected weights are `values` (D,), one by one."""
    other = copy.deepcopy(model).eval()
    place = 0
    with torch.no_grad():
        for name, indices in selection.indices.items():
            weight = parameter(other, name)
            for index in indices.tolist():
                where = [int(at) for at in torch.unravel_index(torch.tensor(index), weight.shape)]
                weight[tuple(where)] = values[place]
                place += 1
    assert place == len(values)
    return other


def same_tensors(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Whether two states have the same names and the same bits, NaN and the sign of 0 included."""
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and bits(first[name]) == bits(second[name])
        for name in first
    )


def bits(tensor: Tensor) -> bytes:
    """The bytes of a tensor."""
    return tensor.detach().cpu().contiguous().numpy().tobytes()


def frozen(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's parameters and buffers."""
    return {name: each.clone() for name, each in model.state_dict().items()}
