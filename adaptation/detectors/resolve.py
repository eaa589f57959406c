"""The detectors, and the classifiers to be backbones, that options name."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from adaptation import detectors
from adaptation.detectors import Detector, coco_classes, in_words_of
from robustkit import models
from robustkit.errors import ConfigError, ModelError
from robustkit.models import Classifier
from robustkit.models.resolve import is_untrained, parse
from robustkit.models.sources.factory import FACTORY
from robustkit.models.weights import fit_weights, read_weights

_CLASSES, _SIDE = 1000, 224  # of a net that nothing tells about: a backbone has no use for its head


def factory_of(spec: str | None) -> str | None:
    """Return the user's function that a spec names, package.module:factory or FILE.py:factory."""
    parsed = None if spec is None else parse(spec)
    return parsed.name if parsed is not None and parsed.scheme == FACTORY else None


def load_backbone(
    spec: str, *, download: bool = False, trust: Collection[str] = ()
) -> tuple[Classifier, tuple[str, ...]]:
    """Return the classifier that `spec` names, in evaluation mode, and lines for the user about it.

    Any source of models will do, also without trained weights, which is said. A model file whose
    net a user's function makes is refused unless `trust` names the function; a function that `spec`
    itself names is run. Raises `ModelError` for what cannot be loaded.
    """
    if is_untrained(spec):
        model = models.resolve(spec, num_classes=_CLASSES, in_channels=3, image_size=_SIDE, seed=0)
        note = f"backbone: {spec} has fresh weights, not trained"
        return model.eval(), (*model.notes, note)
    model = models.load(spec, download=download, trust=tuple(trust))
    if factory_of(spec) is None:
        return model, model.notes
    return model, (*model.notes, f"backbone: {spec}, with the weights that its function gives it")


def resolve_detector(
    spec: str,
    weights: str | None,
    classes: Sequence[str],
    device: torch.device,
    *,
    download: bool = False,
    trust: Collection[str] = (),
) -> Detector:
    """Return the detector `spec` names, in evaluation mode on `device`.

    torchvision:NAME?weights=COCO_V1 keeps COCO's classes, told in the words of `classes`; so does a
    state dict for torchvision:NAME of COCO's 91, which may also be of `classes` and background.
    `download` allows torchvision's weights to be fetched; `trust` names the functions that a file
    may have run. Raises `ModelError` for a classifier's file and for weights that do not fit.
    """
    if not spec.startswith("torchvision:"):
        if weights is not None:
            raise ConfigError(f"{spec}: a detector's file has its own weights; leave out --weights")
        return detectors.load(spec, trust=trust).to(device)
    named = spec.partition("?")[2]
    if "weights_backbone" in named:
        raise ConfigError(f"{spec}: on a backbone's weights alone its head has learnt nothing")
    if not named and weights is None:
        raise ConfigError(f"{spec}: without ?weights=COCO_V1 or --weights FILE it learnt nothing")
    if named and weights is not None:
        raise ConfigError(f"{spec}: names its weights; leave out --weights {weights}")
    if named:
        detector = detectors.build(
            spec, in_words_of(coco_classes(), classes), seed=0, download=download
        )
    else:
        detector = _on_file(spec, str(weights), classes)
    return detector.to(device).eval()


def _on_file(spec: str, weights: str, classes: Sequence[str]) -> Detector:
    tensors = read_weights(weights)
    try:
        words = in_words_of(coco_classes(), classes)
        return detectors.build(f"{spec}?weights={weights}", words, seed=0)
    except ModelError as error:
        failed = str(error)
    detector = detectors.build(spec, classes, seed=0)
    try:
        fit_weights(detector.net, tensors, weights)
    except ModelError:
        hint = f"(neither for COCO's 91 classes nor for the data's {len(classes)})"
        raise ModelError(f"{failed} {hint}") from None
    return detector
