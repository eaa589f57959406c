"""Failures and images to judge on are enough to repair any module, which stays as it is."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from robustkit.data import ImageSet
from robustkit.errors import DataError, RepairError
from robustkit.repair import ARACHNE, Patch, SwarmConfig, gather, repair
from tests.robustkit.repair.nets import noise
from tests.robustkit.repair.trained import SWARM, Trained, check_figures, said


class Plain(nn.Module):
    """Somebody's module, which normalises by itself and has no card."""

    def __init__(self, normalise: nn.Module, body: nn.Module) -> None:
        super().__init__()
        self.normalise, self.body = normalise, body

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.body(self.normalise(x))
        return logits


def plain(net: Trained) -> Plain:
    return Plain(copy.deepcopy(net.model.preprocess), copy.deepcopy(net.model.net))


def wrong(net: Trained, images: ImageSet) -> ImageSet:
    answers = torch.tensor(said(net.model, images))
    return images.subset(torch.nonzero(answers != images.labels).squeeze(1))


def rows(images: ImageSet) -> list[tuple[bytes, int]]:
    pairs = zip(images.images.numpy(), images.labels.tolist(), strict=True)
    return [(image.tobytes(), label) for image, label in pairs]


def test_failures_and_held_out_images_are_divided(net: Trained) -> None:
    test = net.splits.test
    failing = wrong(net, test)
    images, kept = gather(net.model, failing, test, seed=3)
    assert kept is not None
    assert rows(images)[: len(failing)] == rows(failing)
    watched, judged = rows(images)[len(failing) :], rows(kept)
    answers = said(net.model, test)
    right = {
        row for row, answer in zip(rows(test), answers, strict=True) if answer == row[1]
    } - set(rows(failing))
    others = set(rows(test)) - set(rows(failing))
    assert set(watched) <= right
    assert len(watched) in (len(right) // 2, len(right) // 2 + 1)
    assert set(watched).isdisjoint(judged)
    assert set(watched) | set(judged) == others
    again, _ = gather(net.model, failing, test, seed=3)
    other, _ = gather(net.model, failing, test, seed=4)
    assert rows(again) == rows(images) != rows(other)


def test_the_shorter_door_is_the_longer_one_with_its_sets(net: Trained) -> None:
    test = net.splits.test
    failing = wrong(net, test)
    made = repair(net.model, failures=failing, held_out=test, swarm=SWARM)
    images, kept = gather(net.model, failing, test, seed=0)
    expected = repair(net.model, ARACHNE, images, kept, swarm=SWARM)
    assert len(made.patch) > 0
    assert made.patch.child == expected.patch.child
    assert made.sets.counts()["n_neg"] == len(failing)
    assert kept is not None
    applied = made.patch.apply(net.model)
    check_figures(made.result, images, said(net.model, images), said(applied, images))
    check_figures(made.result.held_out, kept, said(net.model, kept), said(applied, kept))


def test_a_plain_module_is_repaired_as_a_classifier_is(net: Trained, tmp_path: Path) -> None:
    failing, test = wrong(net, net.splits.train), net.splits.test
    module = plain(net).train()
    before = copy.deepcopy(module.state_dict())
    made = repair(module, failures=failing, held_out=test, swarm=SWARM)
    expected = repair(net.model, failures=failing, held_out=test, swarm=SWARM)
    assert made.scored_by == expected.scored_by == "products"
    (change,), (other,) = made.patch.changes.values(), expected.patch.changes.values()
    assert torch.equal(change.indices, other.indices)
    assert torch.equal(change.new, other.new)
    assert [f"body.{name}" for name in expected.patch.changes] == list(made.patch.changes)
    repaired = made.patch.apply(module)
    assert isinstance(repaired, Plain)
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    x = test.floats()
    assert torch.equal(repaired.eval()(x), expected.patch.apply(net.model).eval()(x))
    made.patch.save(tmp_path / "patch.safetensors")
    loaded = Patch.load(tmp_path / "patch.safetensors")
    reverted = loaded.revert(repaired).state_dict()
    assert all(torch.equal(value, before[name]) for name, value in reverted.items())
    with pytest.raises(RepairError, match="the patch is for the model"):
        loaded.apply(repaired)


@pytest.mark.parametrize(
    ("name", "layer"), [("resnet18", "fc.weight"), ("mobilenet_v3_small", "classifier.3.weight")]
)
def test_torchvisions_nets_are_repaired(name: str, layer: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, num_classes=4)
    images = noise(24, channels=3, side=32)
    with torch.no_grad():
        answers = copy.deepcopy(model).eval()(images.floats()).argmax(dim=1)
    labels = answers.clone()
    labels[:6] = (answers[:6] + 1) % 4  # six failures
    pair = (images.floats(), labels)
    failing = (images.images[:6], labels[:6])
    before = copy.deepcopy(model.state_dict())
    swarm = SwarmConfig(particles=5, iterations=2, start="graded", spread=0.1)
    made = repair(model, failures=failing, held_out=pair, swarm=swarm)
    assert made.scored_by == "products"
    assert made.sets.counts()["n_neg"] == 6
    assert set(made.patch.changes) <= {layer}
    assert type(made.patch.apply(model)) is type(model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_sets_of_every_kind_will_do(net: Trained) -> None:
    test = net.splits.test
    failing = wrong(net, test)
    expected, rest = gather(net.model, failing, test, seed=0)
    assert rest is not None
    loader = DataLoader(TensorDataset(test.floats(), test.labels), batch_size=100)
    levels = (failing.images.numpy(), failing.labels.numpy())
    images, kept = gather(net.model, levels, loader, seed=0)
    assert kept is not None
    assert (rows(images), rows(kept)) == (rows(expected), rows(rest))
    named = replace(test, classes=tuple("abcdefghij"))
    assert gather(net.model, levels, named, seed=0)[0].classes == named.classes


def test_floats_between_the_levels_are_told_from_copies(net: Trained) -> None:
    test = net.splits.test
    failing = wrong(net, test)
    shifted = test.floats().clamp(0.001, 0.999)
    shifted[:50] = test.floats()[:50]  # copies of what may be among the failures
    images, kept = gather(net.model, failing, (shifted, test.labels), seed=0)
    assert images.images.dtype == torch.float32
    assert torch.equal(images.images[: len(failing)], failing.floats())
    assert kept is not None
    copies = len(set(rows(failing)) & set(rows(test.subset(torch.arange(50)))))
    assert copies > 0
    assert len(images) - len(failing) + len(kept) == len(test) - copies


def test_right_images_among_the_failures_are_what_must_not_break(net: Trained) -> None:
    made = repair(net.model, failures=net.splits.train, swarm=SWARM)
    expected = repair(net.model, ARACHNE, net.splits.train, swarm=SWARM)
    assert made.patch.child == expected.patch.child
    assert made.result.held_out is None


def test_what_cannot_be_repaired_is_said(net: Trained) -> None:
    train, model = net.splits.train, net.model
    failing = wrong(net, train)
    right = train.subset(
        torch.tensor([i for i, a in enumerate(said(model, train)) if a == train.labels[i]])
    )
    with pytest.raises(
        RepairError, match=r"right on none of the images.*give held_out images, too"
    ):
        repair(model, failures=failing)
    with pytest.raises(RepairError, match="no failures to repair: the model is right on"):
        repair(model, failures=right, held_out=net.splits.test)
    with pytest.raises(RepairError, match="every held-out image is among the failures"):
        repair(model, failures=failing, held_out=failing)
    with pytest.raises(RepairError, match=r"right on none .* hold out some that it gets right"):
        repair(model, failures=failing.subset(torch.arange(3)), held_out=failing)
    with pytest.raises(RepairError, match=r"failures are \(1, 16, 16\) and held-out images \(1, 8"):
        repair(plain(net), failures=failing, held_out=_halved(train))
    with pytest.raises(DataError, match="failures: no pictures and labels in a Tensor"):
        repair(model, failures=failing.images)
    with pytest.raises(DataError, match=r"failures: .*\[0,\s?1\]"):
        repair(model, failures=(255 * failing.floats(), failing.labels))
    more = ImageSet(failing.images, failing.labels, tuple(map(str, range(12))))
    with pytest.raises(RepairError, match="have 12 classes, the model gives 10 logits"):
        repair(model, failures=more)
    with pytest.raises(RepairError, match="either images, with a config, or failures"):
        repair(model, ARACHNE)  # type: ignore[call-overload]
    named = replace(net.splits.test, classes=tuple("abcdefghij"))
    with pytest.raises(RepairError, match="other class names"):
        repair(model, failures=replace(failing, classes=tuple("klmnopqrst")), held_out=named)


def _halved(images: ImageSet) -> ImageSet:
    return ImageSet(images.images[:, :, ::2, ::2].clone(), images.labels, images.classes)
