"""A few test images kept for the report: adversarials of R, predictions, and where nets look."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as pack
from torch import Tensor

from experiments.evolve.judging import Verdict, load_verdict, verdict_path
from experiments.evolve.workspace import Workspace
from robustkit import attacks
from robustkit.errors import RunError
from robustkit.runs import atomic_path

SHOWN = 8


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


def shown_nets(players: Collection[str]) -> tuple[str, str, str]:
    """R, R' and E, and E0 in place of an R' that is not among the `players`."""
    return ("R", "Rp" if "Rp" in players else "E0", "E")


def make_gallery(space: Workspace, names: Mapping[str, Sequence[str]]) -> Gallery:
    """Images that all nets get right, first those whose adversarial fools all of them but E.

    `names` holds the names of the judged nets by player.
    """
    shown = [names[player][0] for player in shown_nets(names)]
    index = _most_telling(*(load_verdict(verdict_path(space.folder.path, name)) for name in shown))
    test = space.splits.test.subset(index)
    adversarial = space.adversarials("R", "test", flipped=False).images[index]
    nets = [space.net(name) for name in shown]
    return Gallery(
        index=index,
        labels=test.labels,
        clean=test.floats(),
        adversarial=adversarial,
        predicted=torch.stack([attacks.predict(net, test.images).argmax(1) for net in nets]),
        predicted_adversarial=torch.stack(
            [attacks.predict(net, adversarial).argmax(1) for net in nets]
        ),
        gradients=torch.stack([attacks.input_gradients(net, test) for net in nets]),
    )


def _most_telling(reference: Verdict, control: Verdict, evolved: Verdict) -> Tensor:
    common = reference.correct & control.correct & evolved.correct & ~reference.under_own
    wanted = 2 * (evolved.under_R & ~control.under_R).int() + (~control.under_R).int()
    rank = torch.where(common, wanted, -1)
    return torch.argsort(rank, descending=True, stable=True)[:SHOWN].sort().values


def save_gallery(gallery: Gallery, path: Path) -> None:
    """Write a gallery, whole or not at all."""
    tensors = {field.name: getattr(gallery, field.name).contiguous() for field in fields(gallery)}
    with atomic_path(path) as temporary:
        temporary.write_bytes(pack(tensors))


def load_gallery(path: Path) -> Gallery:
    """Read a gallery back; raises `RunError` naming the file if it is missing or damaged."""
    try:
        tensors = load_file(path)
        return Gallery(**{field.name: tensors[field.name] for field in fields(Gallery)})
    except (OSError, SafetensorError, KeyError) as error:
        raise RunError(f"{path}: no whole gallery ({error})") from None
