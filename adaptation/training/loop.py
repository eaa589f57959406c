"""The training of a detector, step by step, that can stop anywhere and go on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, TypedDict

import torch
from msgspec import Meta
from torch import Tensor, nn

from adaptation.detectors import Detector
from adaptation.training import processes
from adaptation.training.batches import DetectionBatch, draw_batch
from adaptation.training.checkpoint import load_state, read_notes, save_state, unusable
from adaptation.training.config import DetectionConfig
from adaptation.training.methods import (
    DomainClassifiers,
    adapt_statistics,
    ends,
    follow,
    make_teacher,
)
from adaptation.training.step import Parts, radius, shard_loss
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


@dataclass(frozen=True)
class StepRecord:
    """The result of a step: its number from 1, the loss and its parts."""

    step: int
    loss: float
    parts: Mapping[str, float]


OnStep = Callable[[StepRecord], None]
OnResume = Callable[[list[float]], None]


def train_detector(
    model: Detector,
    source: DetectionSet,
    config: DetectionConfig,
    *,
    target: DetectionSet | None = None,
    checkpoint: Path | None = None,
    on_step: OnStep = lambda record: None,
    on_resume: OnResume = lambda losses: None,
) -> Detector:
    """Train `model` in place; returns it in evaluation mode (the teacher's weights with one).

    `source` is what is labelled; `target` are unlabelled images for alignment, a teacher or batch
    norm. With a `checkpoint` the state is written there every so many steps and at the end, and a
    training whose file is there goes on from it, to the same bits; `on_resume` gets the losses of
    the steps before. Raises `RunError` for a state of other settings or data, and `DivergedError`
    at the first loss that is not finite, with the step and its images; the last checkpoint stays.
    """
    if config.needs_target and target is None:
        raise ConfigError("alignment, a teacher and adabn need images of the target")
    with isolated_rng(config.seed):
        training = _Training(model, source, target, config)
        if checkpoint is not None and checkpoint.is_file():
            training.restore(checkpoint)
            on_resume(training.losses)
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
        # What a state is of: one of anything else must not be taken for it.
        self.of = {
            "config": asdict(config),
            "source": [source.name, *source.classes, str(len(source))],
            "target": None if target is None else [target.name, str(len(target))],
        }
        if config.align:
            first = to_unit(source.image(0)).to(self.device)
            with torch.no_grad():
                finest, coarsest = ends(model.eval().features([first]))
            self.parts.classifiers = DomainClassifiers(finest.shape[1], coarsest.shape[1])
            self.parts.classifiers.to(self.device)
        if config.teacher:
            self.parts.teacher = make_teacher(model)
        self.modules: dict[str, nn.Module] = {"model": model}
        if self.parts.classifiers is not None:
            self.modules["classifiers"] = self.parts.classifiers
        trained = [
            parameter for module in self.modules.values() for parameter in module.parameters()
        ]
        self.parameters = [parameter for parameter in trained if parameter.requires_grad]
        if self.parts.teacher is not None:
            self.modules["teacher"] = self.parts.teacher
        self.optimizer = _optimizer(self.parameters, config)

    def advance(self) -> StepRecord:
        """Do one step; raises `DivergedError` for a loss that is not finite."""
        config = self.config
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        source, target = self._batches()
        totals: dict[str, Tensor] = {}
        for shard in processes.own_shards(config.shards):
            source_part = source.part(shard, config.shards)
            target_part = None if target is None else target.part(shard, config.shards)
            losses = shard_loss(
                self.model, source_part, target_part, self.parts, config, self.step, shard
            )
            inputs = [*self.parameters, *losses.leaves]
            torch.autograd.backward(losses.total / config.shards, inputs=inputs)
            self._move(losses.leaves, shard * len(source_part.ids))
            for name, value in losses.parts.items():
                totals[name] = totals.get(name, torch.zeros_like(value)) + value / config.shards
        self._share(totals)
        record = self._record(totals, source)
        nn.utils.clip_grad_norm_(self.parameters, config.clip)
        self.optimizer.step()
        if self.parts.teacher is not None:
            follow(self.parts.teacher, self.model, config.ema)
        self.step += 1
        self.losses.append(record.loss)
        return record

    def _batches(self) -> tuple[DetectionBatch, DetectionBatch | None]:
        config = self.config
        # Free training stays with a batch for several steps.
        number = self.step // config.replays if config.adversary == "free" else self.step
        size, seed, flip = config.batch_size, config.seed, config.flip
        source = draw_batch(self.source, number, size, seed, flip=flip).to(self.device)
        if config.adversary == "free" and (self.step % config.replays == 0 or not self.parts.delta):
            self.parts.delta = [torch.zeros_like(image) for image in source.images]
        target = None
        if self.target is not None and (config.align or config.teacher):
            target = draw_batch(self.target, number, size, seed, flip=flip, domain="target").to(
                self.device
            )
        return source, target

    def _move(self, leaves: list[Tensor], first: int) -> None:
        """Move the perturbations of free training uphill by the radius, and keep them in it."""
        eps = radius(self.config, self.step)
        for number, leaf in enumerate(leaves, start=first):
            if leaf.grad is not None:
                moved = self.parts.delta[number] + eps * leaf.grad.sign()
                self.parts.delta[number] = moved.clamp(-eps, eps)

    def _share(self, totals: dict[str, Tensor]) -> None:
        if processes.count() == 1:
            return
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        processes.add_up(
            [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        )
        processes.add_up(totals.values())
        if self.parts.delta:
            shards = processes.own_shards(self.config.shards)
            size = len(self.parts.delta) // self.config.shards
            for number, delta in enumerate(self.parts.delta):
                if number // size not in shards:
                    delta.zero_()
            processes.add_up(self.parts.delta)
        processes.same_everywhere(self.model)

    def _record(self, totals: Mapping[str, Tensor], batch: DetectionBatch) -> StepRecord:
        parts = {name: float(value) for name, value in totals.items()}
        loss = sum(parts.values())
        if not math.isfinite(loss):
            images = ", ".join(dict.fromkeys(batch.ids))
            raise DivergedError(f"the loss is not finite at step {self.step + 1}, on {images}")
        return StepRecord(self.step + 1, loss, parts)

    def store(self, path: Path) -> None:
        """Write the state."""
        tensors = {f"delta/{number}": delta for number, delta in enumerate(self.parts.delta)}
        notes = {"step": self.step, "losses": self.losses, "of": self.of}
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
        step, losses = progress["step"], progress["losses"]
        if len(losses) != step:
            raise unusable(path, f"{len(losses)} losses of {step} steps")
        tensors = load_state(path, self.modules, self.optimizer)
        if step > self.config.steps or (step and not self.optimizer.state):
            raise unusable(path, f"step {step} of {self.config.steps}, or no optimiser's state")
        self.step, self.losses = step, losses
        self.parts.delta = self._perturbations(tensors, path)

    def _perturbations(self, tensors: Mapping[str, Tensor], path: Path) -> list[Tensor]:
        """Return the perturbations of free training, one for each image of a batch, or none."""
        images: list[Tensor] = []
        if self.config.adversary == "free" and self.step:
            number = (self.step - 1) // self.config.replays
            size, seed = self.config.batch_size, self.config.seed
            images = draw_batch(self.source, number, size, seed, flip=False).images
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


def _optimizer(parameters: list[nn.Parameter], config: DetectionConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
