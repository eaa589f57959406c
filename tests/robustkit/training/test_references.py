from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks import loss_gradient
from robustkit.errors import AttackError, DataError
from robustkit.models import Classifier
from robustkit.training import ReferenceGradients, cached_reference, compute_reference
from robustkit.training import references as room
from robustkit.training.references import unit_rows
from tests.robustkit.attacks.nets import classifier, striped

COUNT = 6


def views() -> Tensor:
    images = striped(COUNT).images
    return torch.stack([images, images.flip(-1)])


def labels() -> Tensor:
    return striped(COUNT).labels


def confident(factor: float) -> Classifier:
    """A classifier whose logits are so far apart that 1 - p is about e^-factor."""
    net = classifier()
    images = striped(COUNT).floats()
    with torch.no_grad():
        logits = net.eval()(images)
        head = [each for each in net.modules() if isinstance(each, nn.Linear)][-1]
        gap = logits.topk(2, dim=1).values
        head.weight.mul_(factor / (gap[:, 0] - gap[:, 1]).mean())
        head.bias.mul_(factor / (gap[:, 0] - gap[:, 1]).mean())
    return net


def test_directions_are_unit_gradients_view_by_view() -> None:
    net = classifier().train()
    made = compute_reference(net, views(), labels())
    assert net.training
    assert (made.directions.dtype, made.norms.dtype) == (torch.float16, torch.float32)
    assert made.masked == 0
    for view, pixels in enumerate(views()):
        exact, _ = loss_gradient(net.double().eval(), pixels.double() / 255, labels())
        norm = exact.flatten(1).norm(dim=1)
        unit = exact / norm.view(-1, 1, 1, 1)
        assert torch.allclose(made.norms[view].double(), norm, rtol=1e-4)
        assert torch.allclose(made.directions[view].double(), unit, atol=1e-3)
        net.float()
    sizes = made.directions.double().flatten(2).norm(dim=2)
    assert torch.allclose(sizes, torch.ones_like(sizes), atol=1e-3)


def test_a_confident_reference_keeps_its_rows() -> None:
    net = confident(35.0)
    images = views()
    own = net(images[0].float() / 255).argmax(dim=1)
    made = compute_reference(net, images[:1], own)
    raw, _ = loss_gradient(net, images[0].float() / 255, own)
    assert not raw.half().flatten(1).any(dim=1).all()  # a down-cast before would lose rows
    assert made.masked == 0
    sizes = made.directions.double().flatten(2).norm(dim=2)
    assert torch.allclose(sizes, torch.ones_like(sizes), atol=1e-3)


def test_a_reference_surer_than_float32_is_masked_and_counted() -> None:
    net = confident(2000.0)
    images = views()
    own = net(images[0].float() / 255).argmax(dim=1)
    made = compute_reference(net, images[:1], own)
    assert made.masked == int((~made.usable).sum()) > 0
    assert not made.directions[~made.usable].any()
    # The margin has a gradient however sure the net is.
    assert compute_reference(net, images[:1], own, "margin").masked == 0


@pytest.mark.parametrize("scale", [1.0, 1e-10, 1e-18])
def test_unit_rows_do_not_underflow(scale: float) -> None:
    rows = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    rows[1] = 0.0
    unit, norms = unit_rows(rows * scale)
    assert norms.double().tolist() == pytest.approx(
        (rows.double().flatten(1).norm(dim=1) * scale).tolist(), rel=1e-4
    )
    assert unit.flatten(1).norm(dim=1).tolist() == pytest.approx([1.0, 0.0, 1.0], rel=1e-5)


def same(first: ReferenceGradients, second: ReferenceGradients) -> bool:
    return torch.equal(first.directions, second.directions) and torch.equal(
        first.norms, second.norms
    )


def forbidden(*_: object, **__: object) -> None:
    raise AssertionError("computed again")


def test_the_cache_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = classifier()
    made = cached_reference(net, views(), labels(), tmp_path / "new")
    assert same(made, compute_reference(net, views(), labels()))
    monkeypatch.setattr(room, "_fill", forbidden)
    assert same(made, cached_reference(net, views(), labels(), tmp_path / "new"))


def test_whatever_gradients_depend_on_makes_another_file(tmp_path: Path) -> None:
    net, other = classifier(), classifier(seed=1)
    moved = views()
    moved[1, 0, 0, 0, 0] += 1
    cached_reference(net, views(), labels(), tmp_path)
    cached_reference(other, views(), labels(), tmp_path)
    cached_reference(net, moved, labels(), tmp_path)
    cached_reference(net, views(), labels().flip(0), tmp_path)
    cached_reference(net, views(), labels(), tmp_path, "margin")
    assert len(list(tmp_path.iterdir())) == 10


def cached_files(folder: Path) -> tuple[Path, Path]:
    cached_reference(classifier(), views(), labels(), folder)
    norms, directions = sorted(folder.iterdir(), key=os.path.getsize)
    return norms, directions


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("kept", [0, 20, -1])
def test_a_damaged_file_is_named(tmp_path: Path, which: int, kept: int) -> None:
    path = cached_files(tmp_path)[which]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        DataError, match=rf"{path.name} cannot be read as a whole \.npy file: .*; delete it"
    ):
        cached_reference(classifier(), views(), labels(), tmp_path)


@pytest.mark.parametrize("which", [0, 1])
def test_a_deleted_file_is_made_again(tmp_path: Path, which: int) -> None:
    path = cached_files(tmp_path)[which]
    before = path.read_bytes()
    path.unlink()
    cached_reference(classifier(), views(), labels(), tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("which", [0, 1])
def test_a_file_of_another_shape_or_type_is_refused(tmp_path: Path, which: int) -> None:
    path = cached_files(tmp_path)[which]
    array = np.load(path)
    for wrong in (array[:, 1:], array.astype(np.float64)):
        np.save(path, wrong)
        with pytest.raises(DataError, match=rf"{path.name} holds .* not .*; delete it"):
            cached_reference(classifier(), views(), labels(), tmp_path)


def test_an_unknown_loss_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(AttackError, match="unknown loss 'mse'"):
        cached_reference(classifier(), views(), labels(), tmp_path, "mse")
    assert not list(tmp_path.iterdir())


def test_a_subset_keeps_rows_together() -> None:
    made = compute_reference(classifier(), views(), labels())
    part = made.subset(torch.tensor([4, 1]))
    assert torch.equal(part.directions, made.directions[:, [4, 1]])
    assert torch.equal(part.norms, made.norms[:, [4, 1]])
