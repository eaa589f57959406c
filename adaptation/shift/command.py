"""`robustkit shift`: measure how far a target domain is from a source, and advise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from adaptation import detectors, shift
from adaptation.detectors.resolve import load_backbone
from robustkit import data, models
from robustkit.cli.context import add_run_options, run_folder, settings
from robustkit.cli.output import log
from robustkit.cli.parser import CommandParser, Options, add_config, config_from, names
from robustkit.compute import resolve_device, torch_generator
from robustkit.compute.seeds import check_seed
from robustkit.data.detection import DetectionSet, load_detection
from robustkit.data.detection.loading import FORMS, KINDS
from robustkit.errors import ConfigError, DataError, ModelError
from robustkit.models.card import DETECTOR
from robustkit.models.resolve import FILE, is_untrained, parse
from robustkit.settings import setting


@dataclass(frozen=True, kw_only=True)
class ShiftOptions:
    """Two domains, and the model whose features are compared."""

    source: str | None = setting(None, "voc:…, coco:…, shapes:… or a data set")
    target: str | None = setting(None, "the other domain, of the same kind")
    model: str | None = setting(
        None,
        "whose features: a detector's file, or any trained classifier (a model file, "
        "torchvision:NAME?weights=DEFAULT, timm:NAME?pretrained=true, package.module:factory, …)",
    )
    download: bool = setting(
        False, "allow torchvision's weights to be fetched into the cache of torch's hub"
    )
    trust: tuple[str, ...] = setting(
        (), "functions, package.module:factory, that a model file may have run"
    )
    threshold: float = setting(
        shift.THRESHOLD, "ratio above which adversarial training of the source is advised"
    )
    images: int = setting(1000, "of each domain, at most")
    draws: int = setting(shift.DRAWS, "random halves")
    seed: int = setting(0, "of the halves")

    def __post_init__(self) -> None:
        for name in ("source", "target", "model"):
            if not getattr(self, name):
                raise ConfigError(
                    f"--{name} is needed: whose distance is to be measured, and by whom"
                )
        if not self.threshold > 0:
            raise ConfigError(f"--threshold must be positive, not {self.threshold:g}")
        check_seed(self.seed)
        for name, least in (("images", 8), ("draws", 2)):
            if getattr(self, name) < least:
                raise ConfigError(f"--{name} must be at least {least}, not {getattr(self, name)}")


def add_arguments(parser: CommandParser) -> None:
    """Declare the two domains, the model whose features are compared, and the threshold."""
    add_config(parser, ShiftOptions, title="shift", forms={"trust": {"type": names}})
    add_run_options(parser, resumable=False)


def run(options: Options) -> int:
    """Measure, print the distance, the threshold and the advice, and write a summary."""
    config = settings("shift", options)
    chosen = config_from(ShiftOptions, config)
    device = resolve_device(config["device"])
    compared = _compared(chosen, device)
    with run_folder("shift", options, config, keep_failed=False) as folder:
        result = shift.measure_shift(
            *compared.features,
            names=compared.names,
            threshold=chosen.threshold,
            draws=chosen.draws,
            seed=chosen.seed,
        )
        folder.write_summary({"shift": result.to_json()})
    log(
        f"Fréchet distance {result.frechet:.4g}, within the source {result.within_source:.4g}: "
        f"ratio {result.ratio:.1f} [{result.low:.1f}, {result.high:.1f}], "
        f"threshold {result.threshold:g}"
    )
    log(result.advice)
    return 0


@dataclass(frozen=True, eq=False)
class _Compared:
    """The features of both domains, and the names of their images."""

    features: tuple[Any, Any]
    names: tuple[list[str], list[str]]


def _compared(options: ShiftOptions, device: torch.device) -> _Compared:
    """Return the features of both domains: of a backbone, or before a classifier's last layer."""
    domains = (str(options.source), str(options.target))
    spec = str(options.model)
    parsed = parse(spec)
    file = parsed is None or parsed.scheme == FILE
    if file and models.read_card(spec).architecture["family"] == DETECTOR:
        detector = detectors.load(spec, trust=options.trust).to(device)
        return _of_pictures(options, domains, partial(shift.detector_features, detector))
    if is_untrained(spec):
        raise ModelError(f"--model {spec}: its weights are fresh, and their features tell nothing")
    classifier, notes = load_backbone(spec, download=options.download, trust=options.trust)
    for note in notes:
        log(note)
    classifier.to(device)
    detection = [domain.partition(":")[0] in KINDS for domain in domains]
    if all(detection):
        return _of_pictures(options, domains, partial(shift.classifier_features, classifier))
    if any(detection):
        raise DataError(f"{domains[0]} and {domains[1]} are not of the same kind: {FORMS}")
    features, names = [], []
    for domain in domains:
        images = data.load(domain).test
        expected = classifier.card.input_shape
        if images.shape != expected:
            raise DataError(f"{domain}: images are {images.shape}, the model takes {expected}")
        chosen = _chosen(len(images), options)
        features.append(shift.classifier_features(classifier, images.subset(chosen)))
        names.append([f"{domain} {row}" for row in chosen.tolist()])
    return _Compared((features[0], features[1]), (names[0], names[1]))


def _of_pictures(
    options: ShiftOptions, domains: tuple[str, str], features_of: Callable[[DetectionSet], Any]
) -> _Compared:
    loaded = [load_detection(domain, "test", labelled=False) for domain in domains]
    subsets = [tests.subset(_chosen(len(tests), options).tolist()) for tests in loaded]
    for subset, least in zip(subsets, (8, 4), strict=True):
        if len(subset) < least:
            raise DataError(f"{subset.name}: {len(subset)} images; a distance needs {least} of it")
    first, second = map(features_of, subsets)
    named = [list(subset.paths or subset.ids) for subset in subsets]
    return _Compared((first, second), (named[0], named[1]))


def _chosen(count: int, options: ShiftOptions) -> torch.Tensor:
    """Return random indices of at most `options.images` images: the first may be of one kind."""
    order = torch.randperm(count, generator=torch_generator("shift", options.seed))
    return order[: options.images]
