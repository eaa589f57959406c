"""Preserve the state of a model and the random states."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from robustkit.compute.seeds import isolated_rng


@contextmanager
def state_preserved(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode without parameter gradients inside the block; restore all afterwards.

    Restores, also after an exception: train or eval mode of every submodule, `requires_grad` and
    `.grad` of every parameter, every buffer, and the global random states of python, numpy and
    torch.
    """
    modes = [(module, module.training) for module in model.modules()]
    parameters = [(item, item.requires_grad, item.grad) for item in model.parameters()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    with isolated_rng(None):
        try:
            model.eval()
            for parameter, _, _ in parameters:
                parameter.requires_grad_(False)
            yield
        finally:
            # Parents come first, so that a module with a `train` of its own, such as one that
            # torch.fx cut, which has a graph for each mode, is put back before what it contains.
            for module, training in modes:
                if type(module).train is nn.Module.train:
                    module.training = training
                else:
                    module.train(training)
            for parameter, requires_grad, gradient in parameters:
                parameter.requires_grad_(requires_grad)
                parameter.grad = gradient
            for module, name, buffer, before in buffers:
                # The very tensor, too: a module may have put another in its place.
                setattr(module, name, buffer)
                # An unchanged buffer is left alone: a graph that holds it stays usable.
                if not torch.equal(buffer, before):
                    buffer.detach().copy_(before)
