"""Attacks of TransferAttack by name, from a clone of its repository on the path.

It is not on the package index: the package of this name there is another. Its attacks load their
surrogates themselves; here they are given the model that is attacked.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.attacks.libraries.base import (
    ERRORS,
    LibraryAttack,
    Opened,
    check_signs,
    kinds_of,
    one_line,
)
from robustkit.attacks.norms import NORMS
from robustkit.attacks.parameters import check_parameters
from robustkit.compute import device_of
from robustkit.errors import AttackError
from robustkit.reading import read_bounded

PREFIX = "transferattack:"
_NORMS = {"linf": "linfty", "l2": "l2"}
_OURS = ("self", "model_name", "epsilon", "targeted", "norm", "device", "attack", "kwargs")
_MISSING = (
    "TransferAttack is not there: clone github.com/Trustworthy-AI-Group/TransferAttack and put its "
    "folder on PYTHONPATH"
)


@dataclass(frozen=True, kw_only=True)
class TransferLibraryAttack(LibraryAttack):
    """The attack `library_name` of TransferAttack."""

    @property
    def name(self) -> str:
        """As on the command line."""
        return PREFIX + self.library_name

    @property
    def version(self) -> str:
        """The digest of the library's Python sources, as it has no version of its own."""
        return _digest(Path(str(_library().__file__)).parent)

    def opened(self, model: nn.Module, classes: int, seed: int) -> Opened:
        """Return the library's attack on a copy of the model, which it may change."""
        attacked = copy.deepcopy(model).requires_grad_(True)
        kind = _kind(self.library_name)
        of_model = type(kind.__name__, (kind,), {"load_model": lambda *_: attacked})
        try:
            attack: Callable[[Tensor, Tensor], Any] = of_model(
                model_name="given",
                epsilon=self.eps,
                targeted=self.targeted,
                norm=_NORMS[self.norm],
                device=device_of(model),
                **dict(self.parameters),
            )
        except ERRORS as error:
            raise AttackError(f"{self.name}: {one_line(error)}") from error

        def adversarials(images: Tensor, labels: Tensor) -> Tensor:
            if self.targeted:  # it wants the true labels, too, and has no use for them but a few
                with torch.no_grad():
                    labels = torch.stack([attacked(images).argmax(dim=1), labels])
            moved: Tensor = images + attack(images, labels).to(images)
            return moved.clamp(0, 1)

        return adversarials


@cache
def _digest(folder: Path) -> str:
    """Return 12 hex digits of the SHA-256 of relative paths and bytes of all `.py` in a folder.

    Computed once per process: the modules imported do not change, either.
    """
    sha = hashlib.sha256()
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*.py")}
    for name, file in sorted(files.items()):
        content = read_bounded(file, error=AttackError)
        sha.update(f"{name}\0{len(content)}\0".encode() + content)
    return sha.hexdigest()[:12]


def _library() -> Any:
    try:
        library = import_module("transferattack")
    except ImportError as error:
        missing = getattr(error, "name", None)
        if missing not in (None, "transferattack"):
            raise AttackError(
                f"TransferAttack needs a package that is missing: {missing}"
            ) from None
        raise AttackError(_MISSING) from None
    if not hasattr(library, "load_attack_class"):
        raise AttackError(_MISSING)
    return library


def _kind(name: str) -> type[Any]:
    try:
        kind: type[Any] = _library().load_attack_class(name)
    except AttackError:
        raise
    except Exception as error:  # it raises plain exceptions
        raise AttackError(f"{PREFIX}{name}: {one_line(error)}") from None
    return kind


def make_transfer_attack(name: str, given: Mapping[str, Any]) -> TransferLibraryAttack:
    """Return the attack `name` of TransferAttack with the parameters `given`.

    Raises `AttackError` where the library or the attack is missing, and for a parameter it lacks.
    """
    kind, label = _kind(name), PREFIX + name
    signature = inspect.signature(kind.__init__).parameters
    accepted = {key: item for key, item in signature.items() if key not in _OURS}
    kinds = {key: kinds_of(item) for key, item in accepted.items()}
    check_parameters(label, given, kinds | {"eps": (float,), "norm": (str,), "targeted": (bool,)})
    check_signs(label, given, accepted)
    norm = given.get("norm", "linf")
    if norm in NORMS and norm not in _NORMS:
        raise AttackError(f"attack {label} works in {' or '.join(_NORMS)} only, not {norm}")
    return TransferLibraryAttack(
        library_name=name,
        parameters=tuple((key, given[key]) for key in accepted if key in given),
        eps=given.get("eps", 16 / 255),
        norm=norm,
        targeted=given.get("targeted", False),
    )
