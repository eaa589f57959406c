"""The state of a training in one file, tensors only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.compute.tensorfiles import read_notes as read_texts
from robustkit.compute.tensorfiles import read_tensors, write_tensors
from robustkit.errors import RunError
from robustkit.reading import Json, parse_json
from robustkit.reading.files import ENDLESS

NOTES = "training"
_ADAM = {"step", "exp_avg", "exp_avg_sq"}


def save_state(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    notes: Mapping[str, Any],
) -> None:
    """Write modules, the optimiser's state, more tensors and plain notes, whole or not at all."""
    packed = {
        f"{prefix}/{name}": value
        for prefix, module in modules.items()
        for name, value in module.state_dict().items()
    }
    for number, state in optimizer.state_dict()["state"].items():
        packed |= {f"optimizer/{number}/{name}": value for name, value in state.items()}
    packed |= {f"tensor/{name}": value for name, value in tensors.items()}
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in packed.items()}
    write_tensors(path, copies, {NOTES: json.dumps(notes)})


def load_state(
    path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Put back what `save_state` wrote; returns the further tensors.

    Raises `RunError`, naming the file, for one that is damaged or of another training.
    """
    tensors, _ = read_tensors(
        path, error=RunError, follow=True, limit=ENDLESS, damaged=partial(unusable, path)
    )
    try:
        for prefix, module in modules.items():
            module.load_state_dict(_under(tensors, prefix))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(tensors, "optimizer").items():
            number, _, entry = name.partition("/")
            state.setdefault(int(number), {})[entry] = value
        _check_state(state, optimizer)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    except (KeyError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise unusable(path, reason) from None
    return _under(tensors, "tensor")


def read_notes(path: Path) -> Json:
    """Return the notes that `save_state` wrote; raises `RunError` for a file that has none."""
    texts = read_texts(path, error=RunError, follow=False, damaged=partial(unusable, path))
    if NOTES not in texts:
        raise unusable(path, f"'{NOTES}'")
    notes = parse_json(texts[NOTES], f"{path}: its notes", error=RunError)
    if not isinstance(notes, dict):
        raise unusable(path, "its notes are none")
    return notes


def _check_state(
    state: Mapping[int, Mapping[str, Tensor]], optimizer: torch.optim.Optimizer
) -> None:
    """Raise `ValueError` where a state is not that of the optimiser's parameters."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    names = {"momentum_buffer"} if isinstance(optimizer, torch.optim.SGD) else _ADAM
    for number, entries in state.items():
        if not 0 <= number < len(parameters) or entries.keys() != names:
            raise ValueError(f"a state of the optimiser for parameter {number}, which has none")
        for name, value in entries.items():
            shape = torch.Size() if name == "step" else parameters[number].shape
            if value.shape != shape or not value.is_floating_point():
                raise ValueError(f"the optimiser's {name} of parameter {number} does not fit")


def unusable(path: Path, reason: str) -> RunError:
    """Return the error for a file that is no state of this training."""
    return RunError(
        f"{path}: damaged, or the state of another training ({reason}); delete it to train this "
        "one anew"
    )


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {n.removeprefix(start): tensor for n, tensor in tensors.items() if n.startswith(start)}
