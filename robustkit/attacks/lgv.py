"""torchattacks' LGV, which trains copies of the model and attacks those (Gubri et al. 2022)."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from robustkit.attacks.store import checksum
from robustkit.compute import device_of
from robustkit.compute.seeds import isolated_rng
from robustkit.data import ImageSet
from robustkit.errors import AttackError

if TYPE_CHECKING:
    import torchattacks

BATCH = 256  # the paper's
# What was collected last from a model, and from which weights and settings.
_COLLECTED: WeakKeyDictionary[nn.Module, tuple[str, list[nn.Module]]] = WeakKeyDictionary()


def open_lgv(
    kind: type[torchattacks.attack.Attack],
    model: nn.Module,
    images: ImageSet,
    eps: float,
    parameters: dict[str, Any],
) -> torchattacks.attack.Attack:
    """The attack with its models collected: by training on `images`, once for the same weights.

    What is collected does not depend on global random states. The model itself stays as it is.
    """
    device = device_of(model)
    apart = copy.deepcopy(model).requires_grad_(True)
    attack = kind(apart, _Loader(images, device), eps=eps, verbose=False, **parameters)
    wanted = f"{checksum(dict(model.state_dict()))} {images.digest()} {sorted(parameters.items())}"
    known, kept = _COLLECTED.get(model, ("", []))
    if known != wanted:
        quiet = io.StringIO()
        with isolated_rng(0), torch.enable_grad(), contextlib.redirect_stderr(quiet):
            attack.collect_models()
        kept = [each.eval().requires_grad_(False) for each in attack.list_models]
        if not kept:
            raise AttackError(
                "torchattacks:LGV collected no model: epochs and nb_models_epoch must be at least 1"
            )
        _COLLECTED[model] = (wanted, kept)
    attack.load_models(list(kept))
    return attack


@dataclass(frozen=True)
class _Loader:
    """Shuffled batches of float images, as a DataLoader gives them."""

    images: ImageSet
    device: torch.device

    def __len__(self) -> int:
        return -(-len(self.images) // BATCH)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for part in torch.split(torch.randperm(len(self.images)), BATCH):
            labels = self.images.labels[part].to(self.device)
            yield self.images.floats(part).to(self.device), labels
