"""The one kind of model that every part of the laboratory works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from robustkit.compute import device_of
from robustkit.errors import ModelError
from robustkit.geometry import Size
from robustkit.models.card import Card
from robustkit.models.preprocessing import Preprocess, Preprocessing


class Classifier(nn.Module):
    """A network from pictures in [0,1] to logits that prepares its input and knows its card.

    `notes` says in a line each what was done on the way that its user should know (a new head,
    pictures resized inside); `order` int64 (K,) or None: which of the net's logits are given, where
    the classes asked for stand in another order than the net's own.
    """

    order: Tensor | None

    def __init__(
        self,
        net: nn.Module,
        card: Card,
        *,
        order: Tensor | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.card = card
        self.preprocess = Preprocess(card.preprocessing)
        self.net = net
        self.notes = tuple(notes)
        self.register_buffer("order", order, persistent=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the logits as they are given, in order."""
        if self.order is None:
            return self.card.classes
        return tuple(self.card.classes[index] for index in self.order.tolist())

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N,K) of float pictures `x` (N,C,H,W) in [0,1].

        Raises `ModelError` for a tensor of another shape or an integer one. The range is not
        looked at: that would cost a pass over every batch.
        """
        if not self._takes(x):
            wanted = ", ".join(str(size) if size else "any" for size in self.card.input_shape)
            raise ModelError(
                f"model: images must be float (N, {wanted}) in [0,1], "
                f"not {str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"
            )
        logits: Tensor = self.net(self.preprocess(x))
        return logits if self.order is None else logits[:, self.order]

    def _takes(self, x: Tensor) -> bool:
        if x.dim() != 4 or not x.is_floating_point():
            return False
        own, channels = self.card.preprocessing, self.card.input_shape[0]
        if own.interpolation is None and own.input_size not in (None, tuple(x.shape[2:])):
            return False
        return channels in (0, x.shape[1]) or (x.shape[1] == 1 and takes_grey(own))


def takes_grey(preprocessing: Preprocessing) -> bool:
    """Whether a model shows grey pictures to its net in all of its channels.

    Those made for pictures of one shape refuse any other.
    """
    return len(preprocessing.mean) > 1 and preprocessing.interpolation is not None


def resizing(model: Classifier, size: Size) -> Classifier:
    """`model` for pictures of (height, width) `size`, which it resizes inside where it has to.

    Shares the net. A model that refuses other sizes resizes bilinearly from now on, and the new
    one's `notes` say so.
    """
    own = model.card.preprocessing
    if not own.resizes(size):
        return model
    filtered = own.interpolation or "bilinear"
    into = "x".join(map(str, own.input_size or ()))
    note = f"resizes pictures of {size[0]}x{size[1]} to {into} inside ({filtered})"
    card = replace(model.card, preprocessing=replace(own, interpolation=filtered))
    return like(model, card=card, notes=(*model.notes, note))


def reordered(model: Classifier, classes: Sequence[str]) -> Classifier:
    """`model` with its logits in the order of `classes`, the same names as its own.

    Shares the net. Raises `ModelError` where the names are not the same.
    """
    if tuple(classes) == model.classes:
        return model
    own = model.card.classes
    if sorted(classes) != sorted(own) or len(set(own)) < len(own):
        raise ModelError(f"model: its classes are not those asked for: {', '.join(classes[:4])}, …")
    order = torch.tensor([own.index(name) for name in classes])
    return like(model, order=order)


def like(
    model: Classifier,
    *,
    card: Card | None = None,
    order: Tensor | None = None,
    notes: Sequence[str] | None = None,
) -> Classifier:
    """Another view of `model`'s net, which is shared: with another card, order or notes.

    The modes of the net's modules stay as they are, and buffers are where the net is.
    """
    made = Classifier(
        model.net,
        model.card if card is None else card,
        order=model.order if order is None else order,
        notes=model.notes if notes is None else notes,
    )
    made.training = made.preprocess.training = model.training
    made.preprocess.to(device_of(model.net))
    if made.order is not None:
        made.order = made.order.to(device_of(model.net))
    return made
