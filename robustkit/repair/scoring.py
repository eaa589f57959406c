"""What many candidate repairs say of many images, by the cheapest way that the net allows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

from robustkit.attacks.purity import pure
from robustkit.compute import device_of
from robustkit.data import ImageSet, batches
from robustkit.errors import RepairError
from robustkit.repair.dense import dense_stages
from robustkit.repair.products import Products
from robustkit.repair.tail import Cut, cut, hold
from robustkit.repair.weights import Selection, net_of, seen_by_net, weight_of

BATCH = 250
MEMORY = 1 << 30  # bytes that activations before the first changed layer may take
# Self-check of a traced tail: it must give the net's own logits, up to rounding.
AGREE = 1e-3


class Scorer(ABC):
    """Scores P candidates on the n images it was made for. `how` says by which way.

    A candidate is a vector (D,) of values of the selected weights; scores are of the whole net
    with those values in place, in evaluation mode.
    """

    how: str

    def __init__(self, model: nn.Module, images: ImageSet, selection: Selection) -> None:
        self.model, self.images, self.selection = model, images, selection
        self.device = device_of(model)
        self.labels = images.labels.to(self.device)
        self.current = selection.values(model).to(self.device)

    @abstractmethod
    def parts(self, values: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """Logits of candidates (P,D), in parts: which candidates, which images, (K,p,m)."""

    @torch.no_grad()
    def logits(self, values: Tensor) -> Tensor:
        """All logits (P,n,K) of candidates (P,D), for tests: the search never holds so many."""
        found: Tensor | None = None
        for candidates, images, logits in self.parts(values.to(self.device)):
            if found is None:
                found = logits.new_empty(len(values), len(self.images), len(logits))
            found[candidates, images] = logits.permute(1, 2, 0)
        if found is None:
            raise RepairError("no logits: there are no candidates, or no images")
        return found.cpu()

    @torch.no_grad()
    def score(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Whether each candidate is right, bool (P,n), and its cross-entropy in nats (P,n)."""
        shape = (len(values), len(self.images))
        right = torch.empty(shape, dtype=torch.bool, device=self.device)
        loss = torch.empty(shape, device=self.device)
        for candidates, images, logits in self.parts(values.to(self.device)):
            labels = self.labels[images].expand(1, logits.shape[1], -1)
            highest, said = logits.max(dim=0)
            own = logits.gather(0, labels)[0]
            # NaN is found to be the highest, and is no answer.
            right[candidates, images] = (said == labels[0]) & (own >= highest)
            rest = logits.sub_(highest).exp_().sum(dim=0).log_()
            loss[candidates, images] = rest + highest - own
        return right.cpu(), loss.cpu()


class ProductScorer(Scorer):
    """Batched products over touched rows and columns: the tail is a dense chain."""

    how = "products"

    def __init__(
        self, model: nn.Module, images: ImageSet, selection: Selection, products: Products
    ) -> None:
        super().__init__(model, images, selection)
        self.products = products

    def parts(self, values: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """See `Scorer.parts`."""
        delta = values - self.current
        particles, images = self.products.chunks(len(values))
        for first in range(0, len(self.images), images):
            some = slice(first, min(first + images, len(self.images)))
            for start in range(0, len(values), particles):
                candidates = slice(start, min(start + particles, len(values)))
                yield candidates, some, self.products.logits(delta[candidates], some)


class TailScorer(Scorer):
    """One pass of the traced tail per candidate, from activations computed once."""

    how = "tail"

    def __init__(
        self,
        model: nn.Module,
        images: ImageSet,
        selection: Selection,
        divided: Cut,
        held: list[Tensor],
    ) -> None:
        super().__init__(model, images, selection)
        self.divided, self.held = divided, held

    def parts(self, values: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """See `Scorer.parts`."""
        for number, candidate in enumerate(values):
            weights = _substituted(self.model, self.selection, candidate)
            with pure(self.model):
                for start in range(0, len(self.images), BATCH):
                    some = slice(start, min(start + BATCH, len(self.images)))
                    logits = self.divided.logits([each[some] for each in self.held], weights)
                    yield slice(number, number + 1), some, logits.T[:, None].contiguous()


class WholeScorer(Scorer):
    """One forward pass of the whole net per candidate: nothing can be cached."""

    how = "whole"

    def parts(self, values: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """See `Scorer.parts`."""
        for number, candidate in enumerate(values):
            weights = _substituted(self.model, self.selection, candidate)
            with pure(self.model):
                for start in range(0, len(self.images), BATCH):
                    some = slice(start, min(start + BATCH, len(self.images)))
                    pixels = self.images.floats(torch.arange(some.start, some.stop))
                    shown = seen_by_net(self.model, pixels.to(self.device))
                    logits = functional_call(net_of(self.model), weights, (shown,))
                    yield slice(number, number + 1), some, logits.T[:, None].contiguous()


def make_scorer(
    model: nn.Module,
    images: ImageSet,
    selection: Selection,
    *,
    memory: int = MEMORY,
    ways: tuple[str, ...] = ("products", "tail", "whole"),
) -> Scorer:
    """The cheapest of `ways` that gives the logits of `model` with other values of `selection`.

    "products" where all that comes after the first selected weight is a chain of fully connected
    layers, and no cheaper as a loop; "tail" where the net's code can be traced and the activations
    before that weight fit into `memory` bytes; "whole" always.
    """
    with pure(model):  # tracing sees evaluation mode
        divided = cut(net_of(model), selection.indices) if set(ways) - {"whole"} else None
    held = None if divided is None else _held(model, images, divided, memory)
    if divided is not None and held is not None:
        stages = dense_stages(divided.tail) if "products" in ways and len(held) == 1 else None
        if stages is not None and held[0].dim() == 2:
            with torch.no_grad():
                products = Products(stages, selection, held[0])
            loop = sum(2 * stage.weight.numel() for stage in stages)
            if products.work() < loop or "tail" not in ways:
                return ProductScorer(model, images, selection, products)
        if "tail" in ways:
            return TailScorer(model, images, selection, divided, held)
    return WholeScorer(model, images, selection)


def _held(model: nn.Module, images: ImageSet, divided: Cut, memory: int) -> list[Tensor] | None:
    """The activations at the cut, once the tail has been seen to give the net's own logits."""
    device = device_of(model)

    def shown() -> Iterator[Tensor]:
        for part in batches(len(images), BATCH):
            yield seen_by_net(model, images.floats(part).to(device))

    with pure(model):
        held = hold(divided, shown(), len(images), memory)
        if held is None or not _gives_own_logits(model, divided, held, shown()):
            return None
    return held


@torch.no_grad()
def _gives_own_logits(
    model: nn.Module, divided: Cut, held: list[Tensor], normalised: Iterator[Tensor]
) -> bool:
    """Whether the tail makes of what is held, image by image, what the whole net makes of it."""
    start = 0
    for shown in normalised:
        own = net_of(model)(shown)
        parts = [each[start : start + len(shown)] for each in held]
        # Twice: a tail that writes into what it is given differs the second time.
        for _ in range(2):
            found = divided.logits(parts, {})
            if found.shape != own.shape or not torch.allclose(found, own, AGREE, AGREE):
                return False
        start += len(shown)
    return True


def _substituted(model: nn.Module, selection: Selection, values: Tensor) -> dict[str, Tensor]:
    """The weights of the selected layers with `values` (D,) in place, by parameter name."""
    weights = {}
    for name, part in selection.split(values).items():
        weight = weight_of(model, name)
        changed = weight.detach().clone().flatten()
        changed[selection.indices[name].to(changed.device)] = part
        weights[f"{name}.weight"] = changed.view_as(weight)
    return weights
