"""Data, detectors and files that the jobs of an adaptation share, found again from the folder."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypedDict

from adaptation import detectors
from adaptation.adapt.config import AdaptOptions
from adaptation.detectors import Detector
from adaptation.detectors.resolve import load_backbone
from adaptation.recipes import recipe
from adaptation.training import DetectionConfig
from robustkit import models
from robustkit.compute import derive_seed
from robustkit.data.detection import DetectionSet, load_detection
from robustkit.data.detection.loading import without_classes
from robustkit.errors import DataError
from robustkit.jobs import cached_per_process
from robustkit.models import Classifier
from robustkit.models.weights import fit_weights, read_weights
from robustkit.runs import RunFolder
from robustkit.runs.summaries import read_settings


class Device(TypedDict):
    """The device that a run computes on."""

    device: str


@dataclass(frozen=True, eq=False)
class Domain:
    """The training and the test images of one domain, in the source's classes."""

    train: DetectionSet
    test: DetectionSet


@dataclass(frozen=True, eq=False)
class Workspace:
    """The settings, the data and the folder of one run."""

    path: Path
    options: AdaptOptions
    base: DetectionConfig
    source: Domain
    target: Domain
    device: str

    def given_config(self, name: str, number: int) -> DetectionConfig:
        """Return the settings of one training of a recipe, as they were given."""
        seed = derive_seed("adapt", self.base.seed, number)
        values = {field.name: getattr(self.base, field.name) for field in fields(DetectionConfig)}
        return recipe(name, DetectionConfig(**{**values, "seed": seed}))

    def file(self, name: str, number: int) -> Path:
        """Return the path of a trained detector."""
        return self.path / f"{name}-{number}.safetensors"

    def checkpoint(self, name: str, number: int) -> Path:
        """Return the path of the state of a training."""
        return self.path / "checkpoint" / f"{name}-{number}.safetensors"

    def fresh(self, seed: int) -> Detector:
        """Return a new detector, on the backbone or the weights that the options name."""
        return make_detector(self.options, self.source.train.classes, seed)

    def trained(self, name: str, number: int) -> Detector:
        """Return a detector trained here; only a trusted function may make its backbone."""
        return detectors.load(self.file(name, number), trust=self.options.trusted)


def make_detector(options: AdaptOptions, classes: tuple[str, ...], seed: int) -> Detector:
    """Return the detector that the options name, for these classes."""
    body: Classifier | None = None
    notes: tuple[str, ...] = ()
    if options.backbone is not None:
        body, notes = load_backbone(
            options.backbone, download=options.download, trust=options.trusted
        )
    detector = detectors.build(
        options.detector,
        classes,
        backbone=body,
        taps=options.taps,
        seed=seed,
        download=options.download,
    )
    if body is not None:
        # The file that is saved tells whose weights it started from.
        provenance = {
            **detector.card.provenance,
            "backbone": options.backbone,
            "notes": [*notes, *detector.notes],
        }
        detector.card = replace(detector.card, parent=models.digest(body), provenance=provenance)
    if options.weights is not None:
        fit_weights(detector.net, read_weights(options.weights), options.weights)
    return detector


def load_domains(options: AdaptOptions) -> tuple[Domain, Domain]:
    """Return both domains in the source's classes; raises `DataError` where none is common."""
    oracle = any(recipe(name).domain == "target" for name in options.recipes)
    source = _domain(options.source, options.source_test)
    target = _domain(options.target, options.target_test, labelled=oracle)
    trained = {"--source": source.train, **({"--target": target.train} if oracle else {})}
    for name, train in trained.items():
        if not any(len(truth.trained_on()) for truth in train.truths):
            raise DataError(f"{name} {train.name}: no object in any image: nothing to learn from")
        _check_apart(name, train, "--source-test", source.test)
        _check_apart(name, train, "--target-test", target.test)
    classes = source.train.classes
    # Images without labels have no classes of their own.
    unlabelled = target.train if oracle else replace(target.train, classes=classes)
    moved = Domain(unlabelled.with_classes(classes), target.test.with_classes(classes))
    return Domain(source.train, source.test.with_classes(classes)), moved


@cached_per_process()
def open_workspace(path: str) -> Workspace:
    """Return the workspace of a run folder, kept for the next job of this process."""
    folder = RunFolder.open(path, command="adapt")
    options, base = read_settings(folder, AdaptOptions), read_settings(folder, DetectionConfig)
    source, target = load_domains(options)
    device = read_settings(folder, Device)["device"]
    return Workspace(Path(path), options, base, source, target, device)


def _check_apart(name: str, train: DetectionSet, other: str, test: DetectionSet) -> None:
    """Raise `DataError` where test images are among those whose labels are trained on."""
    tested = set(test.paths)
    shared = [image for image, path in zip(train.ids, train.paths, strict=True) if path in tested]
    if shared:
        raise DataError(
            f"{len(shared)} images, such as {min(shared)}, are trained on with their labels and "
            f"evaluated on: name parts that share none, {name} and {other}"
        )


def _domain(spec: str, test: str | None, *, labelled: bool = True) -> Domain:
    train = load_detection(spec, "train", labelled=labelled)
    if test is not None:
        return Domain(train, load_detection(test, "test"))
    kind, _, rest = spec.partition(":")
    if kind == "shapes":
        return Domain(train, load_detection(spec, "test"))
    if kind == "voc":
        place = without_classes(rest)
        folder, colon, _ = place.rpartition(":")
        return Domain(train, load_detection(f"voc:{folder if colon else place}:test", "test"))
    raise DataError(f"'{spec}' has no test part: name it, --source-test or --target-test")
