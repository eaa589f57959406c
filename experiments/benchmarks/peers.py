"""Other libraries doing the same job: there or not, in agreement or not, timed in turns."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from experiments.benchmarks.record import Record, skipped, speedup
from experiments.benchmarks.timing import timed

Result = TypeVar("Result")

# Modules that are installed under another name, and those that come with another extra.
_PACKAGES = {"pytorch_grad_cam": "grad-cam"}
_EXTRAS = {"ray": "ray", "foolbox": "bench", "captum": "bench", "torchattack": "bench"}
_EXTRAS |= {"pytorch_grad_cam": "bench", "zennit": "bench"}


@dataclass(frozen=True)
class Agreement:
    """Whether two results are the same for the comparison's purpose, and how they were found to
    be; `apart` is by how much, where that is one number."""

    same: bool
    said: str
    apart: float = 0.0


@dataclass(frozen=True)
class Peer(Generic[Result]):
    """A library: `module` is what has to be importable, `prepare` imports it, builds what it needs
    and returns the work to be timed. `at_least` is what we claim of its time in units of ours."""

    name: str
    module: str
    prepare: Callable[[], Callable[[], Result]]
    at_least: float | None = None


def versus(
    what: str,
    ours: Callable[[], Result],
    peers: Sequence[Peer[Result]],
    agree: Callable[[Result, Result], Agreement],
    *,
    rounds: int,
    note: str = "",
) -> Iterator[Record]:
    """Yield a record of each of `peers` beside the same work of `ours`, all timed in turns.

    The warm-up is where results are compared, by `agree(ours, theirs)`.
    """
    told = {peer.name: f"{what}: {peer.name}" for peer in peers}
    reasons = {peer.name: absent(peer.module) for peer in peers}
    present = [peer for peer in peers if not reasons[peer.name]]
    if present:
        found = ours()
        works = {peer.name: peer.prepare() for peer in present}
        agreements = {name: agree(found, work()) for name, work in works.items()}
        mine, *theirs = timed({"ours": ours, **works}, rounds=rounds, warm_ups=0)
        values = dict(zip(works, theirs, strict=True))
    for peer in peers:
        if reasons[peer.name]:
            yield skipped(told[peer.name], reasons[peer.name])
            continue
        agreement = agreements[peer.name]
        remarks = [each for each in (note, agreement.said if agreement.same else "") if each]
        yield speedup(
            told[peer.name],
            mine,
            values[peer.name],
            at_least=peer.at_least,
            note="; ".join(remarks),
            differs="" if agreement.same else agreement.said,
        )


def absent(module: str) -> str:
    """Return why `module` cannot be used; an empty text where it can."""
    package = _PACKAGES.get(module, module)
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            return f"{package} does not load: {error}"
        extra = _EXTRAS.get(module)
        wanted = f"'robustkit[{extra}]'" if extra else package
        return f"{package} is not installed (pip install {wanted})"
    except ImportError as error:
        return f"{package} does not load: {error}"
    return ""


def same_maps(ours: Tensor, theirs: Tensor, most: float = 1e-3) -> Agreement:
    """Return whether maps agree, by their greatest difference in units of our greatest value."""
    if ours.shape != theirs.shape:
        return Agreement(False, f"maps of {tuple(ours.shape)} and {tuple(theirs.shape)}")
    apart = float((ours - theirs).abs().max() / ours.abs().max().clamp_min(1e-30))
    said = f"maps differ by {apart:.1g} of the greatest value at most"
    return Agreement(apart <= most, said, apart)


def same_images(ours: Tensor, theirs: Tensor, most: float = 0.01) -> Agreement:
    """Return whether adversarials agree, by the share of pixels that differ beyond rounding.

    The sign of a gradient near zero is decided by rounding, so that a few may.
    """
    share = float(((ours - theirs).abs() > 1e-5).double().mean())
    return Agreement(share <= most, f"{share:.2%} of pixels differ (at most {most:.0%})")


def similar(again: Tensor, most: float = 0.1) -> Callable[[Tensor, Tensor], Agreement]:
    """Return a rule for random maps: theirs is as similar to ours as `again`, of another seed."""

    def agree(ours: Tensor, theirs: Tensor) -> Agreement:
        between, within = _correlation(ours, theirs), _correlation(ours, again)
        said = f"correlation with theirs {between:.2f}, with ours of another seed {within:.2f}"
        return Agreement(between >= within - most, said)

    return agree


def same_sets(ours: Sequence[Tensor], theirs: Sequence[Tensor], most: float = 1e-3) -> Agreement:
    """Return whether several maps agree by `same_maps`; the largest difference is named."""
    found = [same_maps(one, other, most) for one, other in zip(ours, theirs, strict=True)]
    return min(found, key=lambda each: (each.same, -each.apart))


def _correlation(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])
