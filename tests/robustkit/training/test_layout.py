"""Channels last is a matter of memory: the same numbers, the same files, nothing left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustkit import attacks, models
from robustkit.training import Examples, TrainConfig, fit_examples
from robustkit.training.examples import Batch
from robustkit.training.references import unit_rows
from robustkit.training.step import in_layout, laid_out, step_loss
from tests.robustkit.attacks.nets import striped

SETTINGS: list[dict[str, Any]] = [
    {},
    {"lam": 1.0},
    {"lam": 1.0, "penalty_stats": "running"},
    {"lam": 1.0, "adversarial": "pgd"},
    {"lam": 1.0, "bf16": True},
]


def net(seed: int = 0) -> models.Classifier:
    """Convolutions, batch norm and shortcuts over three channels, and room for a layout."""
    return models.build("resnet20?width=4", num_classes=2, in_channels=3, image_size=8, seed=seed)


def pictures(count: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(count, 3, 8, 8, generator=generator)
    return images, torch.randint(2, (count,), generator=generator)


def is_last(tensor: Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_step_has_the_same_losses_and_slopes(settings: dict[str, Any]) -> None:
    images, labels = pictures()
    directions, _ = unit_rows(torch.randn(images.shape, generator=torch.Generator().manual_seed(1)))
    slopes, totals = [], []
    for channels_last in (False, True):
        config = TrainConfig(channels_last=channels_last, **settings)
        model = net().train()
        parameters = list(model.parameters())
        attack = attacks.PGD(eps=0.1, steps=2) if config.adversarial else None
        on = Batch(images.clone(), labels, directions[None].half(), torch.ones(1, 16).bool())
        with in_layout(model, channels_last):
            made = step_loss(model, on, config, attack, torch.Generator().manual_seed(0))
            torch.autograd.backward(made.total, inputs=parameters)
        totals.append(float(made.total.detach()))
        slopes.append(
            torch.cat([each.grad.flatten() for each in parameters if each.grad is not None])
        )
    near = 5e-2 if settings.get("bf16") else 1e-4
    assert totals[1] == pytest.approx(totals[0], rel=near)
    assert float((slopes[0] - slopes[1]).norm() / slopes[0].norm()) < 2 * near


def test_weights_and_images_really_lie_so() -> None:
    model = net()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    same = list(model.parameters())
    with in_layout(model, True):
        kernels = [each for each in model.parameters() if each.dim() == 4]
        assert all(is_last(each) for each in kernels if each.shape[2:].numel() > 1)
        shown = laid_out(pictures()[0])
        assert is_last(shown)
        torch.autograd.backward(model(shown).sum())
    for mine, other in zip(model.parameters(), same, strict=True):
        assert mine is other
        assert mine.is_contiguous()
        assert mine.grad is not None
        assert mine.grad.is_contiguous()
    after = {k: v for k, v in model.state_dict().items() if "running" not in k and "num_" not in k}
    assert all(torch.equal(before[name], each) for name, each in after.items())


def test_weights_of_five_axes_are_left_alone() -> None:
    volume = nn.Conv3d(2, 2, 3)
    with in_layout(volume, True):
        assert volume.weight.is_contiguous()


def test_a_failure_inside_puts_the_weights_back() -> None:
    model = net()
    with pytest.raises(ZeroDivisionError), in_layout(model, True):
        _ = 1 / 0
    assert all(each.is_contiguous() for each in model.parameters())


def test_a_training_goes_alike_and_its_files_have_the_usual_layout(tmp_path: Path) -> None:
    images = striped(32)
    shape = images.shape
    losses = []
    for channels_last in (False, True):
        model = models.build(
            "small", num_classes=3, in_channels=shape[0], image_size=shape[1], seed=0
        )
        config = TrainConfig(epochs=2, batch_size=16, lr=0.01, channels_last=channels_last)
        folder = tmp_path / str(channels_last)
        folder.mkdir()
        history = fit_examples(
            model,
            Examples(images.images[None], images.labels),
            images,
            config,
            checkpoint_dir=folder,
        )
        losses.append([record.train_loss for record in history.records])
        assert all(each.is_contiguous() for each in model.parameters())
        kept = models.load(folder / "epoch_0002.safetensors")
        assert models.digest(kept) == models.digest(model)
        assert all(each.is_contiguous() for each in kept.parameters())
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
