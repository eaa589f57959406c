"""`robustkit shift`: measure how far a target domain is from a source, and advise."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from adaptation import detectors, shift
from robustkit import data, models
from robustkit.cli.context import add_run_options, run_folder, settings
from robustkit.cli.parser import CommandParser, Options, names
from robustkit.compute import resolve_device, torch_generator
from robustkit.compute.seeds import check_seed
from robustkit.data.detection import load_detection
from robustkit.errors import ConfigError, DataError
from robustkit.models.card import DETECTOR


def add_arguments(parser: CommandParser) -> None:
    """Declare the two domains, the model whose features are compared, and the threshold."""
    group = parser.add_argument_group("shift")
    group.add_argument("--source", metavar="DATA", help="voc:…, coco:…, shapes:… or a data set")
    group.add_argument("--target", metavar="DATA", help="the other domain, of the same kind")
    group.add_argument(
        "--model", metavar="MODEL", help="a detector's or a classifier's file: whose features"
    )
    group.add_argument(
        "--trust",
        type=names,
        default=[],
        metavar="FACTORY,…",
        help="functions, package.module:factory, that a detector's file may have run",
    )
    group.add_argument(
        "--threshold",
        type=float,
        default=shift.THRESHOLD,
        help="ratio above which adversarial training of the source is advised",
    )
    group.add_argument("--images", type=int, default=1000, help="of each domain, at most")
    group.add_argument("--draws", type=int, default=shift.DRAWS, help="random halves")
    group.add_argument("--seed", type=int, default=0, help="of the halves")
    add_run_options(parser, resumable=False)
    parser.arrange(
        first="source target model images out",
        advanced="trust threshold draws",
    )


def run(options: Options) -> int:
    """Measure, print the distance, the threshold and the advice, and write a summary."""
    config = settings("shift", options)
    _check(config)
    device = resolve_device(config["device"])
    features = _features(config, device)
    with run_folder("shift", options, config, keep_failed=False) as folder:
        found = shift.measure_shift(
            *features,
            threshold=config["threshold"],
            draws=config["draws"],
            seed=config["seed"],
        )
        folder.write_summary({"shift": asdict(found)})
    print(
        f"Fréchet distance {found.frechet:.4g}, within the source {found.within_source:.4g}: ratio "
        f"{found.ratio:.1f} [{found.low:.1f}, {found.high:.1f}], threshold {found.threshold:g}"
    )
    print(found.advice)
    return 0


def _check(config: dict[str, Any]) -> None:
    for name in ("source", "target", "model"):
        if not config[name]:
            raise ConfigError(f"--{name} is needed: whose distance is to be measured, and by whom")
    if not config["threshold"] > 0:
        raise ConfigError(f"--threshold must be positive, not {config['threshold']:g}")
    check_seed(config["seed"])
    for name, least in (("images", 8), ("draws", 2)):
        if config[name] < least:
            raise ConfigError(f"--{name} must be at least {least}, not {config[name]}")


def _features(config: dict[str, Any], device: Any) -> tuple[Any, Any]:
    """Return the features of both domains: of a backbone, or before a classifier's last layer."""
    names = (config["source"], config["target"])
    card = models.read_card(config["model"])
    if card.architecture["family"] == DETECTOR:
        model = detectors.load(config["model"], trust=config["trust"]).to(device)
        loaded = [load_detection(each, "test") for each in names]
        few = [each.subset(_chosen(len(each), config).tolist()) for each in loaded]
        for each, least in zip(few, (8, 4), strict=True):
            if len(each) < least:
                raise DataError(f"{each.name}: {len(each)} images; a distance needs {least} of it")
        first, second = (shift.detector_features(model, each) for each in few)
        return first, second
    classifier = models.load(config["model"]).to(device)
    found = []
    for each in names:
        images = data.load(each).test
        if images.shape != classifier.card.input_shape:
            raise DataError(
                f"{each}: images are {images.shape}, the model takes {classifier.card.input_shape}"
            )
        chosen = images.subset(_chosen(len(images), config))
        found.append(shift.classifier_features(classifier, chosen))
    return found[0], found[1]


def _chosen(count: int, config: dict[str, Any]) -> torch.Tensor:
    """Return random indices of at most `config["images"]` images: the first may be of one kind."""
    order = torch.randperm(count, generator=torch_generator("shift", config["seed"]))
    return order[: config["images"]]
