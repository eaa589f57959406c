"""Defences in front of any model: what is done to pictures before it sees them.

Written behind a model as in "model.safetensors|jpeg?quality=50|bits". Where a defence has no
gradient, an attack on the defended model is given that of the identity (BPDA, Athalye et al. 2018).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from robustkit.compute.draws import uniform
from robustkit.errors import ModelError
from robustkit.models.card import Card
from robustkit.models.classifier import Classifier, like
from robustkit.reading import parse_real
from robustkit.registry import Registry
from robustkit.specs import split_options

Classify = Callable[[Tensor], Tensor]
SEPARATOR = "|"
MOST_VOTES = 10_000


@dataclass(frozen=True, kw_only=True)
class Defence(ABC):
    """A defence; its fields are its parameters. `paper` names its source."""

    name: ClassVar[str] = ""
    paper: ClassVar[str] = ""

    @abstractmethod
    def __call__(self, classify: Classify, pictures: Tensor) -> Tensor:
        """Return logits (N,K) of pictures (N,C,H,W) in [0,1], by a model that gives logits."""

    def spec(self) -> str:
        """Return name and parameters as they are written."""
        given = "&".join(f"{name}={value!r}" for name, value in asdict(self).items())
        return f"{self.name}?{given}" if given else self.name


DEFENCES: Registry[type[Defence]] = Registry("defence", ModelError)


def defence(name: str) -> Callable[[type[Defence]], type[Defence]]:
    """Return a decorator that enters a class in `DEFENCES` under `name`."""

    def entering(kind: type[Defence]) -> type[Defence]:
        kind.name = name
        DEFENCES.enter(name, kind)
        return kind

    return entering


def straight_through(changed: Tensor, pictures: Tensor) -> Tensor:
    """Return `changed` with the gradient of the identity in `pictures`."""
    return pictures + (changed - pictures).detach() if pictures.requires_grad else changed


@defence("jpeg")
@dataclass(frozen=True, kw_only=True)
class Jpeg(Defence):
    """Compression to JPEG and back, of 1 to 100 `quality`."""

    paper: ClassVar[str] = "Guo et al. 2018 (arXiv 1711.00117)"
    quality: int = 75

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ModelError(f"jpeg: quality must be in [1,100], not {self.quality:g}")

    def __call__(self, classify: Classify, pictures: Tensor) -> Tensor:
        """Return the logits of the pictures after compression."""
        from torchvision.io import decode_jpeg, encode_jpeg  # seconds; few models have it

        if pictures.shape[1] not in (1, 3):
            raise ModelError(f"jpeg: pictures of 1 or 3 channels, not {pictures.shape[1]}")
        levels = (pictures.detach() * 255).round().clamp(0, 255).to(torch.uint8).cpu()
        read = [decode_jpeg(encode_jpeg(each, self.quality)) for each in levels]
        changed = torch.stack(read) if read else levels
        return classify(straight_through(changed.to(pictures) / 255, pictures))


@defence("bits")
@dataclass(frozen=True, kw_only=True)
class BitDepth(Defence):
    """Colours rounded to `depth` bits a channel."""

    paper: ClassVar[str] = "Xu et al. 2018 (arXiv 1704.01155)"
    depth: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= 8:
            raise ModelError(f"bits: depth must be in [1,8], not {self.depth:g}")

    def __call__(self, classify: Classify, pictures: Tensor) -> Tensor:
        """Return the logits of the rounded pictures."""
        steps = 2**self.depth - 1
        changed = (pictures.detach() * steps).round() / steps
        return classify(straight_through(changed, pictures))


@defence("smoothing")
@dataclass(frozen=True, kw_only=True)
class Smoothing(Defence):
    """The vote of the model on `votes` copies with Gaussian noise of deviation `sigma`.

    Logits are logarithms of shares of the votes, ties being decided by mean probabilities, whose
    gradient an attack is given. A picture's noise depends on its pixels and nothing else, so that
    the answer does not change from batch to batch.
    """

    paper: ClassVar[str] = "Cohen et al. 2019 (arXiv 1902.02918)"
    sigma: float = 0.25
    votes: int = 64

    def __post_init__(self) -> None:
        if not 0 < self.sigma < float("inf"):
            raise ModelError(f"smoothing: sigma must be above 0, not {self.sigma:g}")
        if not 1 <= self.votes <= MOST_VOTES:
            raise ModelError(f"smoothing: votes must be in [1,{MOST_VOTES}], not {self.votes:g}")

    def __call__(self, classify: Classify, pictures: Tensor) -> Tensor:
        """Return the logarithms of shares of votes."""
        seeds, shape = content_seeds(pictures), pictures.shape[1:]
        votes: Tensor | None = None
        shares: Tensor | None = None
        for number in range(self.votes):
            luck = uniform(seeds, shape, "smoothing", number).clamp(1e-7, 1 - 1e-7)
            noise = self.sigma * torch.special.ndtri(luck).to(pictures)
            logits = classify(pictures + noise)
            voted = torch.nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1])
            share = logits.softmax(dim=1) / self.votes
            votes = voted if votes is None else votes + voted
            shares = share if shares is None else shares + share
        assert votes is not None
        assert shares is not None
        soft = shares.clamp_min(torch.finfo(shares.dtype).tiny).log()
        # Less than a vote between any two classes.
        hard = ((votes + 0.5 * shares) / (self.votes + 0.5)).clamp_min(1e-12).log()
        return soft + (hard - soft).detach()


def content_seeds(pictures: Tensor) -> Tensor:
    """Return a seed for each picture (N,C,H,W) that depends on its pixels alone, int64 (N,)."""
    values = pictures.detach().float().contiguous().view(torch.int32).flatten(1).long()
    odd = torch.arange(values.shape[1], device=values.device) * -7046029254386353131 * 2 + 1
    return (values * odd).sum(dim=1)  # modulo 2^64


class Defended(Classifier):
    """A classifier behind defences, the last of them the first that a picture meets."""

    def __init__(self, model: Classifier, chain: Sequence[Defence]) -> None:
        super().__init__(model.net, model.card, order=model.order, notes=model.notes)
        self.chain = tuple(chain)

    @property
    def in_front(self) -> tuple[str, ...]:
        """The defences as they are written."""
        return tuple(each.spec() for each in self.chain)

    def another(self, card: Card, order: Tensor | None, notes: Sequence[str]) -> Defended:
        """Return the same net behind the same defences, with another card, order or notes."""
        return Defended(super().another(card, order, notes), self.chain)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N,K) of float pictures `x` (N,C,H,W) in [0,1]."""
        classify: Classify = super().forward
        for each in self.chain:
            classify = _before(each, classify)
        return classify(x)


def _before(each: Defence, classify: Classify) -> Classify:
    return lambda pictures: each(classify, pictures)


def defended(model: Classifier, specs: Sequence[str]) -> Classifier:
    """Return `model` behind the defences that are named, which pictures meet last to first.

    Shares the net. Raises `ModelError` for an unknown name or parameter, or one outside its range.

    >>> from robustkit.models import build
    >>> net = build("vgg3", num_classes=2, in_channels=1, image_size=8, seed=0)
    >>> defended(net, ["bits?depth=3", "jpeg"]).in_front
    ('bits?depth=3', 'jpeg?quality=75')
    """
    chain = [_defence(spec) for spec in specs]
    known = model.chain if isinstance(model, Defended) else ()
    return like(Defended(model, (*known, *chain)), training=model.training)


def _defence(spec: str) -> Defence:
    name, options = split_options(spec, ModelError)
    kind = DEFENCES.find(name)
    given: dict[str, Any] = {}
    kinds = {each.name: str(each.type) for each in fields(kind)}
    for option, text in options.items():
        if option not in kinds:
            known = ", ".join(kinds) or "none"
            raise ModelError(f"{spec}: no option '{option}' (known: {known})")
        try:
            value = parse_real(text)
        except ValueError:
            raise ModelError(f"{spec}: {option} must be a number, not '{text}'") from None
        if kinds[option] == "int" and value != int(value):
            raise ModelError(f"{spec}: {option} must be a whole number, not {text}")
        given[option] = int(value) if kinds[option] == "int" else value
    return kind(**given)
