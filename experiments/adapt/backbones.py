"""The classifier that `--backbone` names, and whose code making it runs."""

from __future__ import annotations

from collections.abc import Collection

from robustkit import models
from robustkit.models import Classifier
from robustkit.models.sources.factory import FACTORY
from robustkit.models.specs import names_untrained, parse

CLASSES, SIDE = 1000, 224  # of a net that nothing tells about: a backbone has no use for its head


def factory_of(spec: str | None) -> str | None:
    """The user's function that a spec names, package.module:factory or FILE.py:factory."""
    parsed = None if spec is None else parse(spec)
    return parsed.name if parsed is not None and parsed.scheme == FACTORY else None


def load_backbone(
    spec: str, *, download: bool = False, trust: Collection[str] = ()
) -> tuple[Classifier, tuple[str, ...]]:
    """The classifier that `spec` names, in evaluation mode, and lines for the user about it.

    Any source of models will do, also without trained weights, which is said. A model file whose
    net a user's function makes is refused unless `trust` names the function; a function that `spec`
    itself names is run. Raises `ModelError` for what cannot be loaded.
    """
    if names_untrained(spec):
        made = models.resolve(spec, num_classes=CLASSES, in_channels=3, image_size=SIDE, seed=0)
        note = f"backbone: {spec} has fresh weights, which nobody trained"
        return made.eval(), (*made.notes, note)
    made = models.load(spec, download=download, trust=tuple(trust))
    if factory_of(spec) is None:
        return made, made.notes
    return made, (*made.notes, f"backbone: {spec}, with the weights that its function gives it")
