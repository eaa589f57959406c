"""Detections, their precision, what is left of it under attack, and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from msgspec import UNSET, structs

from adaptation.attacks import LOSSES, DetectionAttack
from adaptation.detect.result import Evaluated, Summary
from adaptation.detectors import Detections, Detector
from adaptation.evaluation import detect, evaluate, robust_ap50
from adaptation.report import detections_figure, draw_explained
from robustkit.compute.seeds import check_seed
from robustkit.data.detection import DetectionSet
from robustkit.errors import ConfigError, did_you_mean
from robustkit.runs import RunFolder, atomic_path
from robustkit.settings import setting


@dataclass(frozen=True, kw_only=True)
class DetectOptions:
    """The detector, the images, and the attack of an evaluation."""

    model: str = setting(
        "",
        "a detector's file, torchvision:NAME?weights=COCO_V1, or torchvision:NAME with --weights",
    )
    weights: str | None = setting(None, "a state dict for torchvision:NAME")
    download: bool = setting(
        False, "allow torchvision's weights to be fetched into the cache of torch's hub"
    )
    trust: tuple[str, ...] = setting(
        (), "functions, package.module:factory, that a detector's file may have run"
    )
    data: str = setting("shapes:photo", "voc:FOLDER:SPLIT, coco:IMAGES:JSON or shapes:STYLE[:N]")
    contrast: str | None = setting(
        None, "another detector's file: detections and input gradients side by side"
    )
    eps: tuple[float, ...] = setting(
        (2 / 255,), "radii of the attack that measures robust precision, between commas; 0: none"
    )
    attack_loss: str = setting("all", "what it attacks: cls, loc, all or mtd")
    attack_steps: int = setting(10, "its steps")
    attack_images: int = setting(200, "images it is made on, the first ones")
    pictures: int = setting(8, "images drawn with their detections")
    sure: float = setting(0.4, "least score of a detection that is drawn")
    seed: int = setting(0, "of the attack")

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if not self.model:
            raise ConfigError("--model: name a detector's file, or torchvision:NAME")
        if self.attack_loss not in LOSSES:
            hint = did_you_mean(self.attack_loss, LOSSES)
            raise ConfigError(f"--attack-loss: unknown '{self.attack_loss}'{hint}")
        for name in ("attack_steps", "attack_images"):
            if getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise ConfigError(f"--{flag} must be at least 1, not {getattr(self, name)}")
        if self.pictures < 0:
            raise ConfigError(f"--pictures must not be negative: {self.pictures}")
        if not all(0 <= value <= 1 for value in (*self.eps, self.sure)):
            raise ConfigError("--eps and --sure must be in [0,1]")

    def attacks(self) -> dict[float, DetectionAttack]:
        """Return an attack for each radius above 0."""
        return {
            eps: DetectionAttack(loss=self.attack_loss, eps=eps, steps=self.attack_steps)
            for eps in sorted(set(self.eps))
            if eps > 0
        }


def run_detect(
    models: Mapping[str, Detector],
    images: DetectionSet,
    options: DetectOptions,
    folder: RunFolder,
    left_out: Sequence[str],
    log: Callable[[str], None],
) -> Summary:
    """Evaluate, attack and draw the "detector", and the "contrast" if there is one.

    `images` are in the detector's classes, without those `left_out`. Pictures go to `folder`.
    """
    evaluated: dict[str, Evaluated] = {}
    detections: dict[str, list[Detections]] = {}
    attacked = images.subset(range(min(options.attack_images, len(images))))
    for name, model in models.items():
        log(f"{name}: {len(images)} images")
        detections[name] = detect(model, images)
        evaluation = evaluate(detections[name], images.truths, images.classes)
        evaluated[name] = Evaluated(
            **structs.asdict(evaluation),
            robust_ap50={
                f"{eps:.12g}": robust_ap50(model, attacked, attack, options.seed)
                for eps, attack in options.attacks().items()
            },
            attacked_images=len(attacked),
            notes=list(model.notes),
        )
    rows = range(min(options.pictures, len(images)))
    if rows:
        drawn = detections_figure(images, detections, rows, options.sure)
        with atomic_path(folder.file("detections.png")) as temporary:
            temporary.write_bytes(drawn)
        explained = draw_explained(models, images, detections, rows, options.sure)
        with atomic_path(folder.file("maps.png")) as temporary:
            temporary.write_bytes(explained)
    return Summary(
        images=len(images),
        classes=list(images.classes),
        detector=evaluated["detector"],
        contrast=evaluated.get("contrast", UNSET),
        left_out=list(left_out),
    )
