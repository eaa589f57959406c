"""The classifier that `--backbone` names, and whose code making it runs."""

from __future__ import annotations

from collections.abc import Collection

from robustkit import models
from robustkit.errors import ModelError
from robustkit.models import Classifier

LIBRARIES = ("torchvision", "timm", "robustbench")
CLASSES, SIDE = 1000, 224  # of a net that nothing tells about: a backbone has no use for its head


def is_factory(spec: str | None) -> bool:
    """Whether a model is named as a user's function: package.module:factory or FILE.py:factory."""
    if spec is None or spec.endswith(".safetensors"):
        return False
    scheme, colon, _ = spec.partition(":")
    return bool(colon) and scheme not in LIBRARIES


def load_backbone(spec: str, *, trust: Collection[str] = ()) -> tuple[Classifier, tuple[str, ...]]:
    """The classifier that `spec` names, in evaluation mode, and lines for the user about it.

    A model file whose net a user's function makes is refused unless `trust` names the function;
    a function that `spec` itself names is run. Raises `ModelError` for what cannot be loaded.
    """
    if spec.endswith(".safetensors"):
        factory = models.read_card(spec).architecture.get("factory")
        if factory is not None and factory not in trust:
            raise ModelError(
                f"{spec}: its network is made by the function {factory}, which loading would run; "
                f"if you trust it: --trust {factory}"
            )
        return models.load(spec, allow_code=factory is not None), ()
    made = models.build(spec, num_classes=CLASSES, in_channels=3, image_size=SIDE, seed=0)
    if is_factory(spec):
        note = f"backbone: {spec}, with the weights that its function gives it"
    else:
        note = f"backbone: {spec} has fresh weights, which nobody trained"
    return made.eval(), (note,)
