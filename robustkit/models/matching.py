"""Whether a model's classes are those of the data: by their names where both have names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from robustkit.errors import ModelError
from robustkit.models.classifier import Classifier, like, reordered

_SHOWN = 4
LEAST_ALIKE = 0.9  # of the names, where both sides have some, for classes to be matched by index


def matched(
    model: Classifier, classes: Sequence[str], where: str = "model", data: str = "the data"
) -> Classifier:
    """`model` with its logits in the order of the data's `classes`; its `notes` say what was done.

    The same names in another order are matched by name. Where one side has but numbers, or most
    names are the same and in the same places, classes are matched by index. `where` names the model
    in errors, `data` the images. Raises `ModelError` where the counts differ, where names that both
    have stand in different places, and where both have names and most of them differ.
    """
    own, wanted = model.classes, tuple(classes)
    if own == wanted:
        return model
    if not own:
        card = replace(model.card, classes=wanted)
        return like(model, card=card)
    if len(own) != len(wanted):
        raise ModelError(f"{where}: {_they_differ(own, wanted, data)}")
    if len(set(own)) == len(own) and set(own) == set(wanted):
        return _noted(
            reordered(model, wanted), "classes matched by name: the data has them in another order"
        )
    if not (_named(own) and _named(wanted)):
        return _noted(model, "classes matched by index: names are not known on both sides")
    mine, theirs = [plain(name) for name in own], [plain(name) for name in wanted]
    alike = sum(left == right for left, right in zip(mine, theirs, strict=True))
    moved = [name for index, name in enumerate(mine) if name in theirs and theirs[index] != name]
    if moved and len(set(mine)) == len(mine) and len(set(theirs)) == len(theirs):
        index = mine.index(moved[0])
        raise ModelError(
            f"{where}: class '{own[index]}' is number {index} of the model and number "
            f"{theirs.index(moved[0])} of {data}, and other names differ: rename the data's classes"
        )
    if alike < LEAST_ALIKE * len(own):
        raise ModelError(f"{where}: {_they_differ(own, wanted, data)}")
    odd = next(i for i in range(len(own)) if mine[i] != theirs[i]) if alike < len(own) else None
    told = "" if odd is None else f", as '{own[odd]}' and '{wanted[odd]}'"
    count = len(own) - alike
    return _noted(model, f"classes matched by index: {count} of {len(own)} names differ{told}")


def _noted(model: Classifier, note: str) -> Classifier:
    return like(model, notes=(*model.notes, note))


def _named(classes: Sequence[str]) -> bool:
    return not all(name.isdecimal() for name in classes)


def plain(name: str) -> str:
    """A name as others may write it: `Tench, Tinca_tinca` is a tench."""
    return name.partition(",")[0].replace("_", " ").strip().lower()


def _they_differ(own: Sequence[str], wanted: Sequence[str], data: str) -> str:
    return f"its classes are {_some(own)}, those of {data} {_some(wanted)}"


def _some(classes: Sequence[str]) -> str:
    more = f", … ({len(classes)})" if len(classes) > _SHOWN else ""
    return ", ".join(classes[:_SHOWN]) + more
