"""Test images kept for the report: adversarials of R, predictions and input gradients."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from evolution.protocol.jobs import NetEvaluation, evaluation_path, load_evaluation
from evolution.protocol.workspace import Workspace
from robustkit import attacks, evaluation
from robustkit.compute.tensorfiles import (
    Shapes,
    check_range,
    check_shapes,
    read_tensors,
    write_tensors,
)
from robustkit.errors import RunError

SHOWN = 8
_STEEPEST = ("gradients", -1e30, 1e30)  # beyond it their pictures overflow
_SHAPES: Shapes = {
    "index": (torch.int64, ("n",)),
    "labels": (torch.int64, ("n",)),
    "clean": (torch.float32, ("n", "c", "h", "w")),
    "adversarial": (torch.float32, ("n", "c", "h", "w")),
    "predicted": (torch.int64, ("m", "n")),
    "predicted_adversarial": (torch.int64, ("m", "n")),
    "gradients": (torch.float32, ("m", "n", "c", "h", "w")),
}


@dataclass(frozen=True, eq=False)
class Gallery:
    """n images under m nets, the first training of each of `shown_nets`.

    `index` (n,) positions in the test set; `labels` (n,); `clean` and `adversarial` float32
    (n,C,H,W) in [0,1]; `predicted` and `predicted_adversarial` int64 (m,n); `gradients` float32
    (m,n,C,H,W): each net's input gradient on the clean image.
    """

    index: Tensor
    labels: Tensor
    clean: Tensor
    adversarial: Tensor
    predicted: Tensor
    predicted_adversarial: Tensor
    gradients: Tensor


def shown_nets(roles: Collection[str]) -> tuple[str, str, str]:
    """Return R, R' and E, and E0 in place of an R' that is not among the `roles`."""
    return ("R", "Rp" if "Rp" in roles else "E0", "E")


def make_gallery(space: Workspace, names: Mapping[str, Sequence[str]]) -> Gallery:
    """Return images that all nets get right, first those whose adversarial fools all of them but E.

    `names` holds the names of the evaluated nets by role.
    """
    shown = [names[role][0] for role in shown_nets(names)]
    run, images = space.folder.path, len(space.splits.test)
    index = _most_telling(*(load_evaluation(evaluation_path(run, name), images) for name in shown))
    test = space.splits.test.subset(index)
    adversarial = space.adversarials("R", "test", flipped=False).images[index]
    nets = [space.net(name) for name in shown]
    return Gallery(
        index=index,
        labels=test.labels,
        clean=test.floats(),
        adversarial=adversarial,
        predicted=torch.stack([attacks.predicted_classes(net, test.images) for net in nets]),
        predicted_adversarial=torch.stack(
            [attacks.predicted_classes(net, adversarial) for net in nets]
        ),
        gradients=torch.stack([evaluation.input_gradients(net, test) for net in nets]),
    )


def _most_telling(
    reference: NetEvaluation, control: NetEvaluation, evolved: NetEvaluation
) -> Tensor:
    common = reference.correct & control.correct & evolved.correct & ~reference.under_own
    priority = 2 * (evolved.under_R & ~control.under_R).int() + (~control.under_R).int()
    rank = torch.where(common, priority, -1)
    return torch.argsort(rank, descending=True, stable=True)[:SHOWN].sort().values


def save_gallery(gallery: Gallery, path: Path) -> None:
    """Write a gallery, whole or not at all."""
    tensors = {field.name: getattr(gallery, field.name).contiguous() for field in fields(gallery)}
    write_tensors(path, tensors)


def load_gallery(path: Path, classes: int | None = None) -> Gallery:
    """Return the gallery written to `path`, of nets with so many `classes` where that is known.

    Raises `RunError`, naming the file, if it is missing, damaged or does not fit together.
    """
    tensors, _ = read_tensors(path, error=RunError)
    where = str(path)
    lengths = check_shapes(
        tensors, _SHAPES, where, error=RunError, known={"m": len(shown_nets(()))}
    )
    if lengths["c"] not in (1, 3) or lengths["n"] > SHOWN or lengths["h"] * lengths["w"] == 0:
        raise RunError(f"{where}: not up to {SHOWN} images of 1 or 3 channels")
    for name in ("labels", "predicted", "predicted_adversarial", "index"):
        end = 2**53 if classes is None or name == "index" else classes
        check_range(tensors[name], 0, end, f"{where}: '{name}'", error=RunError)
    for name, least, most in (("clean", 0.0, 1.0), ("adversarial", 0.0, 1.0), _STEEPEST):
        values = tensors[name]
        if values.numel() and not least <= float(values.min()) <= float(values.max()) <= most:
            raise RunError(f"{where}: '{name}': numbers that are not within [{least:g}, {most:g}]")
    return Gallery(**{field.name: tensors[field.name] for field in fields(Gallery)})
