"""The loss of one batch: cross-entropy, on adversarials if asked, plus the misalignment penalty."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from robustkit.attacks import Attack
from robustkit.training.config import TrainConfig
from robustkit.training.examples import Batch
from robustkit.training.misalignment import Misalignment, differentiable_gradient, misalignment


@contextmanager
def in_layout(model: nn.Module, channels_last: bool) -> Iterator[None]:
    """Keep the model's weights channels-last inside the block, if asked; contiguous after it.

    The parameters stay the very same, and so do their values.
    """
    if not channels_last:
        yield
        return
    _lay(model, torch.channels_last)
    try:
        yield
    finally:
        _lay(model, torch.contiguous_format)


def laid_out(images: Tensor) -> Tensor:
    """Return images (N,C,H,W) with their channels last."""
    return images.contiguous(memory_format=torch.channels_last)


def _lay(model: nn.Module, layout: torch.memory_format) -> None:
    # Not `model.to(memory_format=…)`, which fails on weights of five axes.
    for weight in model.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=layout)
            if weight.grad is not None:
                weight.grad = weight.grad.contiguous(memory_format=layout)


@dataclass(frozen=True)
class StepLoss:
    """`total` is what is descended; `cross_entropy` and `logits` are of the trained-on images."""

    total: Tensor
    cross_entropy: Tensor
    logits: Tensor
    misalignment: Misalignment | None


def step_loss(
    model: nn.Module,
    batch: Batch,
    config: TrainConfig,
    attack: Attack | None,
    generator: torch.Generator,
    *,
    lam: float | None = None,
) -> StepLoss:
    """Return CE + λ·penalty of one batch, with λ = `lam`, else the config's.

    One forward pass serves both terms, unless the cross-entropy is taken on adversarials or the
    penalty with running statistics.
    """
    if config.channels_last:
        batch = replace(batch, images=laid_out(batch.images))
    images = batch.images
    if attack is not None:
        images = attack(model, images, batch.labels, generator=generator)
    weight = config.lam if lam is None else lam
    penalised = batch.directions is not None and weight > 0
    shared = penalised and attack is None and not _needs_own_pass(model, config)
    if shared:
        images = images.requires_grad_(True)
    # Taken before this batch's own forward pass moves them.
    statistics = _running_statistics(model) if config.penalty_stats == "running" else {}
    with torch.autocast(images.device.type, torch.bfloat16, enabled=config.bf16):
        logits = model(images).float()
    loss = F.cross_entropy(logits, batch.labels)
    if not penalised:
        return StepLoss(loss, loss, logits, None)
    if shared:
        gradient = differentiable_gradient(logits, images, batch.labels, config.grad_loss)
    else:
        gradient = _own_pass(model, batch, config, statistics)
    assert batch.directions is not None
    assert batch.usable is not None
    measured = misalignment(gradient, batch.directions, batch.usable, config.phi)
    return StepLoss(loss + weight * measured.penalty, loss, logits, measured)


def _needs_own_pass(model: nn.Module, config: TrainConfig) -> bool:
    return config.penalty_stats == "running" and bool(_batch_norms(model))


def _running_statistics(model: nn.Module) -> dict[str, Tensor]:
    norms = set(_batch_norms(model))
    return {
        f"{path}.{name}" if path else name: buffer.clone()
        for path, module in model.named_modules()
        if module in norms
        for name, buffer in module.named_buffers(recurse=False)
    }


def _own_pass(
    model: nn.Module, batch: Batch, config: TrainConfig, statistics: dict[str, Tensor]
) -> Tensor:
    """Return g_M on the clean images, from a separate forward pass with these statistics."""
    frozen = _batch_norms(model) if config.penalty_stats == "running" else []
    images = batch.images.detach().requires_grad_(True)
    try:
        for module in frozen:
            module.eval()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=config.bf16):
            logits = functional_call(model, statistics, (images,)).float()
    finally:
        for module in frozen:
            module.train()
    return differentiable_gradient(logits, images, batch.labels, config.grad_loss)


def _batch_norms(model: nn.Module) -> list[nn.Module]:
    kinds = nn.modules.batchnorm._BatchNorm
    return [module for module in model.modules() if isinstance(module, kinds) and module.training]
