"""`robustkit shift`: measure how far a target domain is from a source, and advise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from adaptation import detectors, shift
from robustkit import data, models
from robustkit.cli.context import add_run_options, run_folder, settings
from robustkit.cli.output import log
from robustkit.cli.parser import CommandParser, Options, add_config, config_from, names
from robustkit.compute import resolve_device, torch_generator
from robustkit.compute.seeds import check_seed
from robustkit.data.detection import load_detection
from robustkit.errors import ConfigError, DataError
from robustkit.models.card import DETECTOR
from robustkit.settings import setting


@dataclass(frozen=True, kw_only=True)
class ShiftOptions:
    """Two domains, and the model whose features are compared."""

    source: str | None = setting(None, "voc:…, coco:…, shapes:… or a data set")
    target: str | None = setting(None, "the other domain, of the same kind")
    model: str | None = setting(None, "a detector's or a classifier's file: whose features")
    trust: tuple[str, ...] = setting(
        (), "functions, package.module:factory, that a detector's file may have run"
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
    features = _features(chosen, device)
    with run_folder("shift", options, config, keep_failed=False) as folder:
        result = shift.measure_shift(
            *features,
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


def _features(options: ShiftOptions, device: Any) -> tuple[Any, Any]:
    """Return the features of both domains: of a backbone, or before a classifier's last layer."""
    domains = (str(options.source), str(options.target))
    file = str(options.model)
    card = models.read_card(file)
    if card.architecture["family"] == DETECTOR:
        model = detectors.load(file, trust=options.trust).to(device)
        loaded = [load_detection(domain, "test") for domain in domains]
        subsets = [tests.subset(_chosen(len(tests), options).tolist()) for tests in loaded]
        for subset, least in zip(subsets, (8, 4), strict=True):
            if len(subset) < least:
                raise DataError(
                    f"{subset.name}: {len(subset)} images; a distance needs {least} of it"
                )
        first, second = (shift.detector_features(model, subset) for subset in subsets)
        return first, second
    classifier = models.load(file).to(device)
    features = []
    for domain in domains:
        images = data.load(domain).test
        expected = classifier.card.input_shape
        if images.shape != expected:
            raise DataError(f"{domain}: images are {images.shape}, the model takes {expected}")
        chosen = images.subset(_chosen(len(images), options))
        features.append(shift.classifier_features(classifier, chosen))
    return features[0], features[1]


def _chosen(count: int, options: ShiftOptions) -> torch.Tensor:
    """Return random indices of at most `options.images` images: the first may be of one kind."""
    order = torch.randperm(count, generator=torch_generator("shift", options.seed))
    return order[: options.images]
