"""Patches: the changed weights of a model, their old and new values; also as files."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from robustkit.compute.tensorfiles import checksum as checksum_of
from robustkit.compute.tensorfiles import read_tensors, write_tensors
from robustkit.errors import RepairError
from robustkit.models import Classifier, digest
from robustkit.reading import parse_json, printable
from robustkit.repair.weights import Selection, net_of

FORMAT = 1
_NOTE = "robustkit-patch"
PARTS = ("indices", "old", "new")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Change:
    """Changed entries of a parameter: flat `indices` int64 (n,), ascending, `old`, `new` (n,)."""

    indices: Tensor
    old: Tensor
    new: Tensor


@dataclass(frozen=True, eq=False)
class Patch:
    """Changed entries by parameter name, for the model whose `identity` is `parent`.

    `child` is the identity of the model that `apply` makes of it; `provenance` (JSON values) says
    where the patch is from.
    """

    changes: Mapping[str, Change]
    parent: str
    child: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(len(change.indices) for change in self.changes.values())

    def apply(self, model: M) -> M:
        """Return a copy of `model` with the new values.

        Raises `RepairError` unless `model` is the parent.
        """
        if identity(model) != self.parent:
            raise RepairError(
                f"the patch is for the model {self.parent[:12]}…, not for {identity(model)[:12]}…"
            )
        return _with(model, {name: (each.indices, each.new) for name, each in self.changes.items()})

    def revert(self, model: M) -> M:
        """Return the inverse of `apply`: a copy of `model` with the old values.

        Raises `RepairError` unless `model` is the child.
        """
        if identity(model) != self.child:
            raise RepairError(
                f"the patch made the model {self.child[:12]}…, not {identity(model)[:12]}…"
            )
        return _with(model, {name: (each.indices, each.old) for name, each in self.changes.items()})

    def compose(self, after: Patch) -> Patch:
        """Return one patch with the effect of this one and then `after`.

        Raises `RepairError` unless `after` is for the model that this patch makes.
        """
        if after.parent != self.child:
            raise RepairError(
                f"the patches do not follow each other: the first makes {self.child[:12]}…, the "
                f"second is for {after.parent[:12]}…"
            )
        names = dict.fromkeys([*self.changes, *after.changes])
        joined = {name: _join(self.changes.get(name), after.changes.get(name)) for name in names}
        kept = {name: each for name, each in joined.items() if len(each.indices)}
        chain = {"composed": [dict(self.provenance), dict(after.provenance)]}
        return Patch(kept, self.parent, after.child, chain)

    def save(self, path: Path | str) -> None:
        """Write the patch, whole or not at all; raises `RunError` when it cannot be written."""
        tensors = {
            f"{part}/{name}": getattr(change, part).contiguous()
            for name, change in self.changes.items()
            for part in PARTS
        }
        note = {
            "format": FORMAT,
            "parent": self.parent,
            "child": self.child,
            "provenance": dict(self.provenance),
        }
        text = json.dumps(note, sort_keys=True, allow_nan=False)
        notes = {_NOTE: text, "sha256": checksum(tensors, text)}
        write_tensors(path, tensors, notes)

    @classmethod
    def load(cls, path: Path | str) -> Patch:
        """Return the patch in the file `path`.

        Raises `RepairError`, naming the file, where it is missing, damaged, of a newer format or
        no patch.
        """
        note, tensors = _read(Path(path))
        names = [name.removeprefix("new/") for name in tensors if name.startswith("new/")]
        changes = {name: Change(*(tensors[f"{part}/{name}"] for part in PARTS)) for name in names}
        return cls(changes, note["parent"], note["child"], note["provenance"])


def apply_file(path: Path | str, model: M) -> M:
    """Return a copy of `model` changed by the patch in the file `path`, which somebody sent.

    Raises `RepairError`, naming the file, as `Patch.load` and `Patch.apply` do, and where the
    result is not the model that the patch says it makes.
    """
    patch = Patch.load(path)
    for name, change in patch.changes.items():
        if not bool(torch.isfinite(change.new).all()):
            raise RepairError(f"{path}: new values of '{printable(name)}' are not finite")
    try:
        changed = patch.apply(model)
    except RepairError as error:
        raise RepairError(f"{path}: {error}") from None
    if identity(changed) != patch.child:
        raise RepairError(f"{path}: it does not make the model that it names; it was edited")
    return changed


def identity(model: nn.Module) -> str:
    """Return the SHA-256 (hex) that a patch is bound to: a classifier's digest, or of weights."""
    if isinstance(model, Classifier):
        return digest(model)
    return checksum_of(dict(model.state_dict()))


def make_patch(
    model: nn.Module, selection: Selection, values: Tensor | None, **provenance: Any
) -> Patch:
    """Return the patch to these `values` (D,) of the selected weights; None: no change."""
    if values is None:
        return Patch({}, identity(model), identity(model), provenance)
    new = {
        f"{name}.weight": values_of_layer
        for name, values_of_layer in selection.split(values).items()
    }
    old = selection.split(selection.values(model))
    changes = {}
    for name, indices in selection.indices.items():
        after = new[f"{name}.weight"].float()
        moved = _differ(after, old[name])
        if bool(moved.any()):
            changes[f"{name}.weight"] = Change(indices[moved], old[name][moved], after[moved])
    return _finished(model, changes, provenance)


def difference(model: nn.Module, changed: nn.Module, **provenance: Any) -> Patch:
    """Return the patch from `model` to `changed`, a model of the same architecture."""
    changes = {}
    after = dict(net_of(changed).named_parameters())
    for name, parameter in net_of(model).named_parameters():
        old = parameter.detach().flatten().cpu()
        new = after[name].detach().flatten().cpu()
        indices = torch.nonzero(_differ(old, new)).squeeze(1)
        if len(indices):
            changes[name] = Change(indices, old[indices], new[indices])
    return _finished(model, changes, provenance)


def _finished(
    model: nn.Module, changes: Mapping[str, Change], provenance: Mapping[str, Any]
) -> Patch:
    child = _with(model, {name: (each.indices, each.new) for name, each in changes.items()})
    return Patch(changes, identity(model), identity(child), provenance)


def _with(model: M, entries: Mapping[str, tuple[Tensor, Tensor]]) -> M:
    """Return a copy of `model` in which these entries of its parameters have these values."""
    changed = copy.deepcopy(model)
    parameters = dict(net_of(changed).named_parameters())
    with torch.no_grad():
        for name, (indices, values) in entries.items():
            if name not in parameters:
                raise RepairError(f"the patch changes '{name}', which the model does not have")
            parameter = parameters[name]
            flat = parameter.flatten().clone()  # in logical order, whatever the memory's
            if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(flat):
                raise RepairError(f"the patch changes entries that '{name}' does not have")
            flat[indices.to(flat.device)] = values.to(flat)
            parameter.copy_(flat.view(parameter.shape))
    return changed


def _differ(old: Tensor, new: Tensor) -> Tensor:
    """Return where two tensors differ, be it in the sign of a zero, which changes digests, too."""
    return (old != new) | (old.signbit() != new.signbit())


def _join(first: Change | None, second: Change | None) -> Change:
    """Return the change from the old values of the first to the new ones of the second."""
    given = [change for change in (first, second) if change is not None]
    indices: Tensor = torch.unique(torch.cat([change.indices for change in given]))
    old, new = (torch.empty(len(indices), dtype=given[0].old.dtype) for _ in range(2))
    for change in given:
        new[torch.searchsorted(indices, change.indices)] = change.new
    for change in reversed(given):
        old[torch.searchsorted(indices, change.indices)] = change.old
    kept = _differ(old, new)
    return Change(indices[kept], old[kept], new[kept])


def checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    """Return the SHA-256 of `text` and of every tensor's name, type, shape and bytes."""
    hashed = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hashed.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not os.path.lexists(path):
        raise RepairError(f"{path}: no such patch")
    tensors, notes = read_tensors(path, error=RepairError, follow=True)
    if _NOTE not in notes:
        raise RepairError(f"{path}: no patch, but another kind of safetensors file")
    if checksum(tensors, notes[_NOTE]) != notes.get("sha256"):
        raise RepairError(f"{path}: damaged: it does not match the checksum saved with it")
    note = parse_json(notes[_NOTE], f"{path}: its notes", error=RepairError)
    if not isinstance(note, dict):
        raise RepairError(f"{path}: not a patch: its notes are no JSON object")
    if note.get("format") != FORMAT:
        told = printable(note.get("format"))[:40]
        raise RepairError(f"{path}: patch format {told}; this robustkit reads format {FORMAT}")
    _check_shape(path, note, tensors)
    return note, tensors


def _check_shape(path: Path, note: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Refuse a well-summed file that is no patch: a checksum is no proof of who wrote it."""
    fits = isinstance(note.get("provenance"), dict) and all(
        isinstance(note.get(name), str) for name in ("parent", "child")
    )
    names = {name.partition("/")[2] for name in tensors}
    fits &= set(tensors) == {f"{part}/{name}" for name in names for part in PARTS}
    for name in names if fits else ():
        indices, old, new = (tensors[f"{part}/{name}"] for part in PARTS)
        fits &= indices.dtype == torch.int64 and indices.dim() == 1
        fits &= old.dtype in _FLOATS and old.shape == new.shape == indices.shape
        fits &= old.dtype == new.dtype
        fits &= indices.dim() == 1 and bool((indices[1:] > indices[:-1]).all())
    if not fits:
        raise RepairError(f"{path}: not shaped like a patch")
