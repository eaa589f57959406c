"""What becomes of a classifier's batch norms when it is the backbone of a detector.

Batches of detectors are small, and adversarial ones differ from those that the norms know.
"""

from __future__ import annotations

import math

from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from robustkit.errors import ModelError

BATCH, FROZEN, GROUP = "batch", "frozen", "group"
NORMS = (BATCH, FROZEN, GROUP)
GROUPS = 32  # at most (Wu and He 2018)

_Norm = nn.modules.batchnorm._BatchNorm


def hold_norms(net: nn.Module) -> None:
    """Take scales and offsets of batch norms out of training.

    Their statistics hold as long as the net is in evaluation mode.
    """
    for module in net.modules():
        if isinstance(module, _Norm):
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)


def constant_norms(net: nn.Module, eps: float) -> None:
    """Replace batch norms by fresh constant ones, whose tensors have the same names."""
    for owner, attribute, module in _batch_norms(net):
        setattr(owner, attribute, FrozenBatchNorm2d(module.num_features, eps))


def group_norms(net: nn.Module) -> None:
    """Replace batch norms by group norms that have their scales and offsets.

    Raises `ModelError` for a batch norm that is not torch's own, and where there is none.
    """
    found = _batch_norms(net)
    if not found:
        raise ModelError("norm=group replaces batch norms, and this backbone has none")
    for owner, attribute, module in found:
        if type(module) is not nn.BatchNorm2d:
            kind = type(module).__name__
            raise ModelError(f"norm=group: '{attribute}' is a {kind}, of which none can be made")
        count = module.num_features
        group = nn.GroupNorm(math.gcd(GROUPS, count), count, module.eps, module.affine)
        if module.affine:
            group.load_state_dict({"weight": module.weight, "bias": module.bias})
        setattr(owner, attribute, group)


def _batch_norms(net: nn.Module) -> list[tuple[nn.Module, str, nn.BatchNorm2d]]:
    found = []
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            owner, _, attribute = name.rpartition(".")
            found.append((net.get_submodule(owner), attribute, module))
    return found
