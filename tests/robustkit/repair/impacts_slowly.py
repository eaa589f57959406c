"""Impacts from their definitions: image by image, position by position, in float64."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from robustkit.data import ImageSet
from robustkit.models import Classifier
from robustkit.repair import Impacts, impacts, repairable
from tests.robustkit.repair.nets import CLASSES, SIDE, parameter


def slow_backward(model: Classifier, images: ImageSet, name: str) -> Tensor:
    """|∂L/∂w|, L = 1/N Σ cross-entropy, summed up image by image."""
    exact = copy.deepcopy(model).double().eval()
    weight = parameter(exact, name)
    total = torch.zeros_like(weight)
    for image, label in zip(images.floats().double(), images.labels, strict=True):
        log_p = exact(image[None])[0].log_softmax(dim=0)
        (gradient,) = torch.autograd.grad(-log_p[label], weight)
        total += gradient / len(images)
    return total.abs()


def inputs_of(model: Classifier, images: ImageSet, name: str) -> tuple[nn.Module, list[Tensor]]:
    """The layer, in float64, and what it is given for each image alone."""
    exact = copy.deepcopy(model).double().eval()
    layer = exact.net.get_submodule(name)
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _, given, out: seen.append(given[0][0].detach()))
    for image in images.floats().double():
        exact(image[None])
    hook.remove()
    return layer, seen


def slow_linear(model: Classifier, images: ImageSet, name: str) -> Tensor:
    layer, seen = inputs_of(model, images, name)
    assert isinstance(layer, nn.Linear)
    total = torch.zeros_like(layer.weight)
    weights = layer.weight.tolist()
    for o in seen:
        for j, row in enumerate(weights):
            for i, w in enumerate(row):
                total[j, i] += abs(float(o[i]) * w)
    return (total / len(images)).detach()


def pixel(rows: list[list[float]], y: int, x: int, mode: str) -> float:
    """The pixel at (y, x), which may lie in the padding."""
    height, width = len(rows), len(rows[0])
    if mode == "circular":
        return rows[y % height][x % width]
    if mode == "replicate":
        return rows[min(max(y, 0), height - 1)][min(max(x, 0), width - 1)]
    if mode == "reflect":
        y, x = (abs(at) if at < size else 2 * (size - 1) - at for at, size in mirrored(y, x, rows))
        return rows[y][x]
    inside = 0 <= y < height and 0 <= x < width
    return rows[y][x] if inside else 0.0


def mirrored(y: int, x: int, rows: list[list[float]]) -> list[tuple[int, int]]:
    return [(y, len(rows)), (x, len(rows[0]))]


def slow_conv(model: Classifier, images: ImageSet, name: str) -> Tensor:
    """Mean over images and over positions of the kernel of |o·w|, for each weight by itself."""
    layer, seen = inputs_of(model, images, name)
    assert isinstance(layer, nn.Conv2d)
    out, per_group, kh, kw = layer.weight.shape
    weight = layer.weight.detach()
    total = torch.zeros(layer.weight.shape, dtype=torch.float64)
    for image in seen:
        planes = image.tolist()
        height, width = image.shape[1:]
        (sy, sx), (dy, dx) = layer.stride, layer.dilation
        py, px, ends = padding_of(layer)
        steps_y = (height + py + ends[0] - dy * (kh - 1) - 1) // sy + 1
        steps_x = (width + px + ends[1] - dx * (kw - 1) - 1) // sx + 1
        for o in range(out):
            group = o // (out // layer.groups)
            for c in range(per_group):
                plane = planes[group * per_group + c]
                for i in range(kh):
                    for j in range(kw):
                        w = float(weight[o, c, i, j])
                        found = [
                            abs(w * pixel(plane, y, x, layer.padding_mode))
                            for y in range(i * dy - py, i * dy - py + sy * steps_y, sy)
                            for x in range(j * dx - px, j * dx - px + sx * steps_x, sx)
                        ]
                        assert len(found) == steps_y * steps_x
                        total[o, c, i, j] += sum(found) / len(found)
    return total / len(images)


def padding_of(layer: nn.Conv2d) -> tuple[int, int, tuple[int, int]]:
    """Padding above, to the left, and (below, to the right)."""
    if layer.padding == "same":
        wide = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return wide[0] // 2, wide[1] // 2, (wide[0] - wide[0] // 2, wide[1] - wide[1] // 2)
    if layer.padding == "valid":
        return 0, 0, (0, 0)
    py, px = (int(each) for each in layer.padding)
    return py, px, (py, px)


def close(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == torch.float32
    assert float(expected.max()) > 0
    scale = float(expected.max())
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6 * scale)


def check(model: Classifier, images: ImageSet) -> Impacts:
    """Both impacts of all layers are their definitions."""
    layers = repairable(model, ("both",))
    made = impacts(model, images, layers)
    assert list(made.backward) == list(made.forward) == list(layers)
    for name, layer in layers.items():
        close(made.backward[name], slow_backward(model, images, name))
        slow = slow_conv if isinstance(layer, nn.Conv2d) else slow_linear
        close(made.forward[name], slow(model, images, name))
    return made


class TiedNet(nn.Module):
    """Two layers with one weight, and biases of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(SIDE**2, SIDE**2), nn.Linear(SIDE**2, SIDE**2)
        self.second.weight = self.first.weight
        self.last = nn.Linear(SIDE**2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        y: Tensor = self.last(torch.relu(self.second(torch.relu(self.first(x.flatten(1))))))
        return y
