"""The one kind of model that every part of the laboratory works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from robustkit.compute import device_of
from robustkit.errors import ModelError
from robustkit.geometry import Geometry, Size
from robustkit.models.card import WRAPPED, Card
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
    def in_front(self) -> tuple[str, ...]:
        """Defences that pictures meet before the model sees them, as they are written."""
        return ()

    def another(self, card: Card, order: Tensor | None, notes: Sequence[str]) -> Classifier:
        """Return the same net, shared, with another card, order or notes."""
        return Classifier(self.net, card, order=order, notes=notes)

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
        preprocessing, channels = self.card.preprocessing, self.card.input_shape[0]
        if preprocessing.interpolation is None and preprocessing.input_size not in (
            None,
            tuple(x.shape[2:]),
        ):
            return False
        return channels in (0, x.shape[1]) or (x.shape[1] == 1 and takes_grey(preprocessing))


def takes_grey(preprocessing: Preprocessing) -> bool:
    """Return whether a model shows grey pictures to its net in all of its channels.

    Those made for pictures of one shape refuse any other.
    """
    return len(preprocessing.mean) > 1 and preprocessing.interpolation is not None


def resizing(model: Classifier, size: Size) -> Classifier:
    """Return `model` for pictures of (height, width) `size`, resized inside where necessary.

    Shares the net. A model that refuses other sizes resizes bilinearly from now on, and the new
    one's `notes` say so.
    """
    preprocessing = model.card.preprocessing
    if not preprocessing.resizes(size):
        return model
    filtered = preprocessing.interpolation or "bilinear"
    into = "x".join(map(str, preprocessing.input_size or ()))
    note = f"resizes pictures of {size[0]}x{size[1]} to {into} inside ({filtered})"
    card = replace(model.card, preprocessing=replace(preprocessing, interpolation=filtered))
    return like(model, card=card, notes=(*model.notes, note))


def reordered(model: Classifier, classes: Sequence[str]) -> Classifier:
    """Return `model` with its logits in the order of `classes`, the same names as its own.

    Shares the net. Raises `ModelError` where the names are not the same.
    """
    if tuple(classes) == model.classes:
        return model
    model_classes = model.card.classes
    if sorted(classes) != sorted(model_classes) or len(set(model_classes)) < len(model_classes):
        raise ModelError(f"model: its classes are not those asked for: {', '.join(classes[:4])}, …")
    order = torch.tensor([model_classes.index(name) for name in classes])
    return like(model, order=order)


def like(
    model: Classifier,
    *,
    card: Card | None = None,
    order: Tensor | None = None,
    notes: Sequence[str] | None = None,
    training: bool | None = None,
) -> Classifier:
    """Return another view of `model`'s net, which is shared, with another card, order or notes.

    The modes of the net's modules stay as they are, and buffers are where the net is. `training` is
    the view's own mode, by default the model's.
    """
    classifier = model.another(
        model.card if card is None else card,
        model.order if order is None else order,
        model.notes if notes is None else notes,
    )
    mode = model.training if training is None else training
    classifier.training = classifier.preprocess.training = mode
    classifier.preprocess.to(device_of(model.net))
    if classifier.order is not None:
        classifier.order = classifier.order.to(device_of(model.net))
    return classifier


def wrap(
    module: nn.Module,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    input_size: int | Size | None = None,
    classes: Sequence[str] | None = None,
    interpolation: str = "bilinear",
    channel_order: str = "rgb",
    geometry: Geometry | None = None,
) -> Classifier:
    """Return `module` as a classifier of pictures (N,C,H,W) in [0,1]; it is shared, not copied.

    `mean` and `std`, one number per channel in [0,1] units, are what the module was trained with;
    leave them out where it normalises by itself. `input_size` is the side, or (height, width), that
    it takes: pictures of another size are resized to it by `interpolation`, differentiably; without
    it the module gets pictures as they come. `classes` are the names of its logits. Raises
    `ModelError` for what does not fit together.

    >>> import torch
    >>> net = wrap(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), mean=(0.5,) * 3, std=(0.25,) * 3)
    >>> tuple(net(torch.rand(5, 3, 2, 2)).shape)
    (5, 2)
    """
    if (mean is None) != (std is None):
        raise ModelError("wrap: mean and std are given together")
    if isinstance(module, Classifier):
        raise ModelError(
            "wrap: this is a model already, with its own preprocessing; wrap its .net to change it"
        )
    size = (input_size, input_size) if isinstance(input_size, int) else input_size
    preprocessing = Preprocessing(
        mean=tuple(mean or ()),
        std=tuple(std or ()),
        input_size=size,
        interpolation=interpolation,
        channel_order=channel_order,
        geometry=geometry,
    )
    kind = type(module)
    card = Card(
        architecture={"family": WRAPPED, "module": f"{kind.__module__}.{kind.__qualname__}"},
        classes=tuple(classes or ()),
        input_shape=(len(preprocessing.mean), *(size or (0, 0))),
        preprocessing=preprocessing,
    )
    classifier = Classifier(module, card)
    classifier.training = classifier.preprocess.training = (
        module.training
    )  # not of the module's own parts
    classifier.preprocess.to(device_of(module))
    return classifier


_SHOWN = 4
LEAST_ALIKE = 0.9  # of the names, where both sides have some, for classes to be matched by index


def matched(
    model: Classifier, classes: Sequence[str], where: str = "model", data: str = "the data"
) -> Classifier:
    """Return `model` with its logits in the order of the data's `classes`, and a note about it.

    The same names in another order are matched by name. Where one side has but numbers, or most
    names are the same and in the same places, classes are matched by index. `where` names the model
    in errors, `data` the images. Raises `ModelError` where the counts differ, where names that both
    have stand in different places, and where both have names and most of them differ.
    """
    model_classes, wanted = model.classes, tuple(classes)
    if model_classes == wanted:
        return model
    if not model_classes:
        card = replace(model.card, classes=wanted)
        return like(model, card=card)
    if len(model_classes) != len(wanted):
        raise ModelError(f"{where}: {_differences(model_classes, wanted, data)}")
    if len(set(model_classes)) == len(model_classes) and set(model_classes) == set(wanted):
        return _noted(
            reordered(model, wanted), "classes matched by name: the data has them in another order"
        )
    if not (_named(model_classes) and _named(wanted)):
        return _noted(model, "classes matched by index: names are not known on both sides")
    mine, theirs = [plain(name) for name in model_classes], [plain(name) for name in wanted]
    alike = sum(left == right for left, right in zip(mine, theirs, strict=True))
    moved = [name for index, name in enumerate(mine) if name in theirs and theirs[index] != name]
    if moved and len(set(mine)) == len(mine) and len(set(theirs)) == len(theirs):
        index = mine.index(moved[0])
        raise ModelError(
            f"{where}: class '{model_classes[index]}' is number {index} of the model and number "
            f"{theirs.index(moved[0])} of {data}, and other names differ: rename the data's classes"
        )
    if alike < LEAST_ALIKE * len(model_classes):
        raise ModelError(f"{where}: {_differences(model_classes, wanted, data)}")
    odd = (
        next(i for i in range(len(model_classes)) if mine[i] != theirs[i])
        if alike < len(model_classes)
        else None
    )
    example = "" if odd is None else f", as '{model_classes[odd]}' and '{wanted[odd]}'"
    count = len(model_classes) - alike
    note = f"classes matched by index: {count} of {len(model_classes)} names differ{example}"
    return _noted(model, note)


def _noted(model: Classifier, note: str) -> Classifier:
    return like(model, notes=(*model.notes, note))


def _named(classes: Sequence[str]) -> bool:
    return not all(name.isdecimal() for name in classes)


def plain(name: str) -> str:
    """Return a class name in a comparable form: `Tench, Tinca_tinca` becomes `tench`."""
    return name.partition(",")[0].replace("_", " ").strip().lower()


def _differences(model_classes: Sequence[str], wanted: Sequence[str], data: str) -> str:
    return f"its classes are {_some(model_classes)}, those of {data} {_some(wanted)}"


def _some(classes: Sequence[str]) -> str:
    more = f", … ({len(classes)})" if len(classes) > _SHOWN else ""
    return ", ".join(classes[:_SHOWN]) + more
