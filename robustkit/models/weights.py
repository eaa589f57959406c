"""Weights without a model: users' state dicts, and putting tensors into a network."""

from __future__ import annotations

import os
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from robustkit.errors import ModelError
from robustkit.reading import check_regular, open_bounded, typed_path

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PARALLEL = "module."
_VERSIONS = "_metadata"  # where torch keeps the versions of the modules that wrote a state dict


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors` file or of a state dict of `torch.save`, by name.

    A state dict may lie under the key `state_dict`, `model_state_dict` or `model`, and may come
    from a `DataParallel` net. Nothing but tensors is ever unpickled. Raises `ModelError` when the
    file is missing, damaged, or holds anything that would have to be run.
    """
    path = _checked_path(path)
    tensors = _safe(path) if path.suffix == ".safetensors" else _state_dict(path)
    named = {name.removeprefix(_PARALLEL): tensor for name, tensor in tensors.items()}
    versions = getattr(tensors, _VERSIONS, None)
    if not isinstance(versions, dict):
        return named
    kept = OrderedDict(named)
    # A file may tell anything here, and modules compare the numbers.
    known_versions = {
        str(name).removeprefix(_PARALLEL): version
        for name, version in versions.items()
        if isinstance(version, dict) and type(version.get("version", 1)) is int
    }
    setattr(kept, _VERSIONS, known_versions)
    return kept


def read_checkpoint(path: Path | str) -> Mapping[str, Any]:
    """Return the content of a `.safetensors` file or one of `torch.save`, nested as written.

    For libraries with a way of their own to find the weights in it: tensors and, beside them, plain
    numbers, texts, lists and dicts. Raises `ModelError` as `read_weights`.
    """
    path = _checked_path(path)
    held: Any = _safe(path) if path.suffix == ".safetensors" else _plain(path)
    if not isinstance(held, dict):
        raise ModelError(f"{path}: holds {type(held).__name__}, not a dict of weights")
    return held


def _checked_path(path: Path | str) -> Path:
    """Return the path of a regular file; raises `ModelError`."""
    path = typed_path(path, error=ModelError)
    if not os.path.lexists(path):
        raise ModelError(f"{path}: no such file of weights")
    check_regular(path, error=ModelError)
    return path


def cached_download(url: str, spec: str, *, download: bool) -> Path:
    """Return the file of published weights at `url`, in torch's cache.

    It is fetched only with `download`, and checked against the hash in its name. Raises
    `ModelError` where it is not there and must not, or cannot, be fetched.
    """
    name = Path(urlsplit(url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    if not download:
        raise ModelError(
            f"{spec}: {name} is not in {path.parent}; --download fetches it (download=True), or "
            "name a file: ?weights=FILE"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = re.search(r"-([a-f0-9]{8,})\.", name)
    try:
        torch.hub.download_url_to_file(
            url, str(path), digest.group(1) if digest else None, progress=False
        )
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{spec}: cannot fetch {url} ({reason})") from None
    return path


def fit_weights(net: nn.Module, tensors: Mapping[str, Tensor], path: Path | str) -> None:
    """Copy the `tensors` read from `path` into `net`; errors as `check_weights`, before it."""
    check_weights(net, tensors, path)
    net.load_state_dict(versioned(net, tensors))


def versioned(net: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `tensors` with the module versions of their file or, without any, those of `net`.

    A module may read weights of an older version of itself otherwise, and some insist on one.
    """
    state = OrderedDict(tensors)
    known = getattr(tensors, _VERSIONS, None) or getattr(net.state_dict(), _VERSIONS)
    setattr(state, _VERSIONS, known)
    return state


def check_weights(net: nn.Module, tensors: Mapping[str, Tensor], path: Path | str) -> None:
    """Raise `ModelError` naming the first tensor that is missing, left over or of another shape."""
    wanted = net.state_dict()
    for name, parameter in wanted.items():
        if name not in tensors:
            raise ModelError(f"{path}: does not fit the architecture: '{name}' is missing")
        if parameter.shape != tensors[name].shape:
            raise ModelError(
                f"{path}: does not fit the architecture: '{name}' has shape "
                f"{tuple(tensors[name].shape)}, not {tuple(parameter.shape)}"
            )
        if kind_of(parameter) != kind_of(tensors[name]):
            raise ModelError(
                f"{path}: does not fit the architecture: '{name}' holds "
                f"{kind_of(tensors[name])} numbers, not {kind_of(parameter)} ones"
            )
    for name in tensors:
        if name not in wanted:
            raise ModelError(f"{path}: does not fit the architecture: '{name}' is not part of it")


def kind_of(tensor: Tensor) -> str:
    """Return the kind of numbers in a tensor, as one word: weights never change theirs silently."""
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_quantized:
        return "quantised"
    if tensor.is_complex():
        return "complex"
    if tensor.is_floating_point():
        return "real"
    return "truth" if tensor.dtype == torch.bool else "whole"


def _safe(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: damaged, or not a safetensors file ({error})") from None


def _plain(path: Path) -> Any:
    """Return the content of a file of `torch.save`, if it is tensors and plain values."""
    try:
        # The warnings are of pickle protocols: the error says more.
        with warnings.catch_warnings(action="ignore"), open_bounded(path, error=ModelError) as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception:  # what is damaged raises anything at all
        raise ModelError(
            f"{path}: refused: damaged, or more than tensors, which would run code when loaded; "
            "save net.state_dict() instead"
        ) from None


def _state_dict(path: Path) -> dict[str, Tensor]:
    held = _plain(path)
    for key in _WRAPPERS:
        if isinstance(held, dict) and isinstance(held.get(key), dict):
            held = held[key]
    if not isinstance(held, dict) or not all(map(_is_weight, held.items())):
        raise ModelError(f"{path}: not a state dict, which maps names to tensors")
    return held


def _is_weight(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor) and not item[1].is_meta
