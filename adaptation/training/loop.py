"""The training of a detector, step by step, that can stop anywhere and go on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, TypedDict

import torch
from msgspec import Meta
from torch import Tensor, nn

from adaptation.detectors import Detector
from adaptation.training import processes
from adaptation.training.alignment import DomainClassifiers
from adaptation.training.batches import FLIP, DetectionBatch, Drawing
from adaptation.training.checkpoint import load_state, read_notes, save_state, unusable
from adaptation.training.config import DetectionConfig
from adaptation.training.statistics import adapt_statistics
from adaptation.training.step import Parts, radius, shard_loss
from adaptation.training.teacher import Thresholds, follow, make_teacher, objects_per_image
from robustkit.compute import device_of, isolated_rng
from robustkit.data import to_unit
from robustkit.data.detection import DetectionSet
from robustkit.errors import ConfigError, RunError
from robustkit.jobs import DivergedError
from robustkit.reading import check_kind

EVERY = 250  # steps between checkpoints


class Progress(TypedDict):
    """The progress of a training, as its checkpoint holds it."""

    step: Annotated[int, Meta(ge=0)]
    losses: list[float]
    right: list[list[float]]


@dataclass(frozen=True)
class StepRecord:
    """The result of a step: its number from 1, the loss and its parts.

    With alignment `right` are the shares of places and of images whose domain was told.
    """

    step: int
    loss: float
    parts: Mapping[str, float]
    right: tuple[float, ...] = ()


OnStep = Callable[[StepRecord], None]
OnResume = Callable[[list[float], list[tuple[float, ...]]], None]


def train_detector(
    model: Detector,
    source: DetectionSet,
    config: DetectionConfig,
    *,
    target: DetectionSet | None = None,
    checkpoint: Path | None = None,
    on_step: OnStep = lambda record: None,
    on_resume: OnResume = lambda losses, right: None,
) -> Detector:
    """Train `model` in place; returns it in evaluation mode (the teacher's weights with one).

    `source` is what is labelled; `target` are unlabelled images for alignment, a teacher or batch
    norm. With a `checkpoint` the state is written there every so many steps and at the end, and a
    training whose file is there goes on from it, to the same bits; `on_resume` gets the losses of
    the steps before, and what alignment told right in each. Raises `RunError` for a state of other
    settings or data, and `DivergedError` at the first loss that is not finite, with the step and
    its images; the last checkpoint stays.
    """
    if config.needs_target and target is None:
        raise ConfigError("alignment, a teacher and adabn need images of the target")
    with isolated_rng(config.seed):
        training = _Training(model, source, target, config)
        if checkpoint is not None and checkpoint.is_file():
            training.restore(checkpoint)
            on_resume(training.losses, training.right)
        while training.step < config.steps:
            record = training.advance()
            on_step(record)
            if checkpoint is not None and processes.rank() == 0 and not training.step % EVERY:
                training.store(checkpoint)
        if checkpoint is not None and processes.rank() == 0 and config.steps:
            training.store(checkpoint)
        if training.parts.teacher is not None:
            model.load_state_dict(training.parts.teacher.state_dict())
        if config.adabn:
            assert target is not None
            adapt_statistics(model, target)
    return model.eval()


class _Training:
    """The state that goes from step to step."""

    def __init__(
        self,
        model: Detector,
        source: DetectionSet,
        target: DetectionSet | None,
        config: DetectionConfig,
    ) -> None:
        self.model, self.source, self.target, self.config = model, source, target, config
        self.device = device_of(model)
        self.parts = Parts()
        self.step = 0
        self.losses: list[float] = []
        self.right: list[tuple[float, ...]] = []
        # What a state is of: one of anything else must not be taken for it.
        self.of = {
            "config": asdict(replace(config, loader_workers=0)) | {"augment": list(config.augment)},
            "source": [source.name, *source.classes, str(len(source))],
            "target": None if target is None else [target.name, str(len(target))],
        }
        if config.align:
            first = to_unit(source.image(0)).to(self.device)
            with torch.no_grad():
                levels = model.eval().features([first]).values()
            self.parts.classifiers = DomainClassifiers([level.shape[1] for level in levels])
            self.parts.classifiers.to(self.device)
        if config.teacher:
            self.parts.teacher = make_teacher(model)
            self.parts.thresholds = Thresholds(config.sure, objects_per_image(source))
        self.modules: dict[str, nn.Module] = {"model": model}
        if self.parts.classifiers is not None:
            self.modules["classifiers"] = self.parts.classifiers
        self.optimizer, self.scales = _optimizer(self.modules, config)
        self.parameters = [
            parameter for group in self.optimizer.param_groups for parameter in group["params"]
        ]
        if self.parts.teacher is not None:
            self.modules["teacher"] = self.parts.teacher
        self._streams: list[Iterator[DetectionBatch]] = []
        self._drawn: tuple[DetectionBatch, DetectionBatch | None] | None = None

    def advance(self) -> StepRecord:
        """Do one step; raises `DivergedError` for a loss that is not finite."""
        config = self.config
        self.model.train()
        for group, scale in zip(self.optimizer.param_groups, self.scales, strict=True):
            group["lr"] = scale * learning_rate(config, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        source, target = self._batches()
        parts = self.parts if self.step >= self.burnt_in else replace(self.parts, teacher=None)
        totals: dict[str, Tensor] = {}
        right: dict[str, Tensor] = {}
        found: list[Tensor] = []
        for shard in processes.own_shards(config.shards):
            source_part = source.part(shard, config.shards)
            target_part = None if target is None else target.part(shard, config.shards)
            losses = shard_loss(
                self.model, source_part, target_part, parts, config, self.step, shard
            )
            inputs = [*self.parameters, *losses.leaves]
            torch.autograd.backward(losses.total / config.shards, inputs=inputs)
            self._move(losses.leaves, shard * len(source_part.ids))
            _add(totals, losses.parts, config.shards)
            _add(right, losses.right, config.shards)
            found += losses.found
        self._share(totals, right)
        record = self._record(totals, right, source)
        nn.utils.clip_grad_norm_(self.parameters, config.clip)
        self.optimizer.step()
        self._teach(found)
        self.step += 1
        self.losses.append(record.loss)
        if record.right:
            self.right.append(record.right)
        return record

    @property
    def burnt_in(self) -> int:
        """Return the number of steps before there is a teacher."""
        return math.ceil(self.config.burn_in * self.config.steps)

    def _teach(self, found: list[Tensor]) -> None:
        """Move the teacher, and let its thresholds know what was found in the target images."""
        teacher, thresholds = self.parts.teacher, self.parts.thresholds
        if teacher is None or thresholds is None:
            return
        if self.step + 1 < self.burnt_in:
            return
        # It begins with the student's weights.
        follow(teacher, self.model, self.config.ema if self.step >= self.burnt_in else 0.0)
        if found:
            counts = processes.gathered(torch.tensor([len(each) for each in found]))
            rows = processes.gathered(torch.cat(found))
            thresholds.remember(torch.split(rows, counts.tolist()))

    def _batches(self) -> tuple[DetectionBatch, DetectionBatch | None]:
        """Return the batches of this step; free training stays with one for several steps."""
        config = self.config
        held = config.replays if config.adversary == "free" else 1
        number, replay = divmod(self.step, held)
        if self._drawn is not None and replay:
            return self._drawn
        if not self._streams:
            self._streams = self._open(range(number, math.ceil(config.steps / held)))
        batches = [next(stream).to(self.device) for stream in self._streams]
        source, target = batches[0], batches[1] if len(batches) > 1 else None
        if config.adversary == "free" and (replay == 0 or not self.parts.delta):
            self.parts.delta = [torch.zeros_like(image) for image in source.images]
        self._drawn = source, target
        return self._drawn

    def _open(self, numbers: range) -> list[Iterator[DetectionBatch]]:
        """Return the streams of source batches and, where it is used, of target batches."""
        config = self.config
        drawings = [self.drawing]
        if self.target is not None and (config.align or config.teacher):
            # What the teacher sees is mirrored at most; the student's is changed later.
            weak = tuple(name for name in config.augment if name == FLIP)
            drawings.append(
                Drawing(self.target, config.batch_size, config.seed, weak, domain="target")
            )
        return [drawing.stream(numbers, config.loader_workers) for drawing in drawings]

    @property
    def drawing(self) -> Drawing:
        """Return how batches of the source are drawn."""
        config = self.config
        return Drawing(self.source, config.batch_size, config.seed, config.augment)

    def _move(self, leaves: list[Tensor], first: int) -> None:
        """Move the perturbations of free training uphill by the radius, and keep them in it."""
        eps = radius(self.config, self.step)
        for number, leaf in enumerate(leaves, start=first):
            if leaf.grad is not None:
                moved = self.parts.delta[number] + eps * leaf.grad.sign()
                self.parts.delta[number] = moved.clamp(-eps, eps)

    def _share(self, totals: dict[str, Tensor], right: dict[str, Tensor]) -> None:
        if processes.count() == 1:
            return
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        processes.add_up(
            [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        )
        processes.add_up([*totals.values(), *right.values()])
        if self.parts.delta:
            shards = processes.own_shards(self.config.shards)
            size = len(self.parts.delta) // self.config.shards
            for number, delta in enumerate(self.parts.delta):
                if number // size not in shards:
                    delta.zero_()
            processes.add_up(self.parts.delta)
        processes.same_everywhere(self.model)

    def _record(
        self, totals: Mapping[str, Tensor], right: Mapping[str, Tensor], batch: DetectionBatch
    ) -> StepRecord:
        parts = {name: float(value) for name, value in totals.items()}
        loss = sum(parts.values())
        if not math.isfinite(loss):
            images = ", ".join(dict.fromkeys(batch.ids))
            raise DivergedError(f"the loss is not finite at step {self.step + 1}, on {images}")
        return StepRecord(self.step + 1, loss, parts, tuple(map(float, right.values())))

    def store(self, path: Path) -> None:
        """Write the state."""
        tensors = {f"delta/{number}": delta for number, delta in enumerate(self.parts.delta)}
        if self.parts.thresholds is not None:
            tensors["seen"] = self.parts.thresholds.seen
        notes = {"step": self.step, "losses": self.losses, "right": self.right, "of": self.of}
        save_state(path, self.modules, self.optimizer, tensors, notes)

    def restore(self, path: Path) -> None:
        """Continue from the state in the file; raises `RunError` for another training's."""
        notes = read_notes(path)
        if notes.get("of") != self.of:
            raise RunError(
                f"{path}: the state of a training with other settings or data; delete it to train "
                "this one anew"
            )
        progress = check_kind(notes, Progress, f"{path}: its notes", error=RunError)
        step, losses, right = progress["step"], progress["losses"], progress["right"]
        if len(losses) != step:
            raise unusable(path, f"{len(losses)} losses of {step} steps")
        if len(right) != (step if self.config.align else 0):
            raise unusable(path, f"{len(right)} accuracies of {step} steps")
        tensors = load_state(path, self.modules, self.optimizer)
        if step > self.config.steps or (step and not self.optimizer.state):
            raise unusable(path, f"step {step} of {self.config.steps}, or no optimiser's state")
        self.step, self.losses, self.right = step, losses, [tuple(each) for each in right]
        if self.parts.thresholds is not None:
            self._recall(tensors.pop("seen", None), path)
        self.parts.delta = self._perturbations(tensors, path)

    def _recall(self, seen: Tensor | None, path: Path) -> None:
        """Put back what the teacher found in target images."""
        thresholds = self.parts.thresholds
        assert thresholds is not None
        if seen is None or seen.dim() != 2 or seen.shape[1] != 3 or not bool(seen.isfinite().all()):
            raise unusable(path, "what its teacher found is missing")
        thresholds.seen = seen.float()
        thresholds.images = max(0, self.step - self.burnt_in) * self.config.batch_size

    def _perturbations(self, tensors: Mapping[str, Tensor], path: Path) -> list[Tensor]:
        """Return the perturbations of free training, one for each image of a batch, or none."""
        images: list[Tensor] = []
        if self.config.adversary == "free" and self.step:
            images = self.drawing.batch((self.step - 1) // self.config.replays).images
        expected = {f"delta/{number}": image for number, image in enumerate(images)}
        if {name: tensor.shape for name, tensor in tensors.items()} != {
            name: image.shape for name, image in expected.items()
        }:
            raise unusable(path, "its perturbations are not those of a batch")
        return [tensors[name].to(self.device, images[0].dtype) for name in expected]


def learning_rate(config: DetectionConfig, step: int) -> float:
    """Return the rate at a step: linear growth over the warm-up, then a cosine to 0."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    span = max(1, config.steps - config.warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - config.warmup) / span))


def _optimizer(
    modules: Mapping[str, nn.Module], config: DetectionConfig
) -> tuple[torch.optim.Optimizer, list[float]]:
    """Return the optimiser, and the share of the learning rate that each of its groups has."""
    groups: list[list[nn.Parameter]] = []
    scales: list[float] = []
    detector = modules["model"]
    if config.layer_decay != 1 and isinstance(detector, Detector):
        stages = detector.stages()
        groups += stages
        scales += [config.layer_decay ** (len(stages) - number) for number in range(len(stages))]
    placed = {id(parameter) for group in groups for parameter in group}
    rest = [
        parameter
        for module in modules.values()
        for parameter in module.parameters()
        if id(parameter) not in placed
    ]
    groups, scales = [*groups, rest], [*scales, 1.0]
    kept = [
        ([parameter for parameter in group if parameter.requires_grad], scale)
        for group, scale in zip(groups, scales, strict=True)
        if scale > 0
    ]
    kept = [(group, scale) for group, scale in kept if group]
    by_group = [{"params": group} for group, _ in kept]
    scales = [scale for _, scale in kept]
    if config.optimizer == "adamw":
        made: torch.optim.Optimizer = torch.optim.AdamW(
            by_group, lr=config.lr, weight_decay=config.weight_decay
        )
        return made, scales
    made = torch.optim.SGD(
        by_group, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
    return made, scales


def _add(totals: dict[str, Tensor], values: Mapping[str, Tensor], shards: int) -> None:
    for name, value in values.items():
        totals[name] = totals.get(name, torch.zeros_like(value)) + value / shards
