"""Verdicts, image by image, against what plain torch says of the same nets."""

from __future__ import annotations

import shutil
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from evolution.protocol.jobs import (
    NetEvaluation,
    evaluate_on_test,
    evaluation_path,
    load_evaluation,
    mean_or_none,
    save_evaluation,
)
from evolution.protocol.workspace import Workspace
from robustkit import models
from robustkit.compute import derive_seed, single_thread, torch_generator
from robustkit.errors import RunError
from robustkit.runs import RunFolder


@pytest.fixture(scope="module")
def space(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the finished run, its verdicts and derived files removed."""
    folder = tmp_path_factory.mktemp("judging") / "run"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "evaluation")
    return Workspace(RunFolder.open(folder))


def attacked(net: models.Classifier, space: Workspace, *, flipped: bool = False) -> Tensor:
    test = space.splits.test
    seed = derive_seed(space.config.seed, "craft", "test")
    attack = space.config.make_attack(flipped=flipped)
    return attack(net, test.floats(), test.labels, generator=torch_generator("craft", seed))


def right(net: models.Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """One image at a time."""
    with torch.no_grad():
        found = [
            net(image[None]).argmax() == label for image, label in zip(images, labels, strict=True)
        ]
    return torch.stack(found)


def gradient(net: models.Classifier, image: Tensor, label: Tensor) -> Tensor:
    image = image[None].double().requires_grad_(True)
    (found,) = torch.autograd.grad(cross_entropy(net.double()(image), label[None]), image)
    net.float()
    return found.flatten()


def expected(name: str, space: Workspace) -> NetEvaluation:
    net, reference, surrogate = (space.net(each) for each in (name, "R", "S"))
    test, clean = space.splits.test, space.splits.test.floats()
    own = attacked(net, space)
    pairs = [
        (gradient(net, image, label), gradient(reference, image, label))
        for image, label in zip(clean, test.labels, strict=True)
    ]
    return NetEvaluation(
        correct=right(net, clean, test.labels),
        under={
            "R": right(net, attacked(reference, space), test.labels),
            "S": right(net, attacked(surrogate, space), test.labels),
        },
        under_flipped=right(net, attacked(reference, space, flipped=True), test.labels),
        under_own=right(net, own, test.labels),
        R_under_own=right(reference, own, test.labels),
        cosine=torch.stack([mine @ other / (mine.norm() * other.norm()) for mine, other in pairs]),
        norm=torch.stack([mine.norm() for mine, _ in pairs]),
    )


@pytest.mark.parametrize("name", ["R", "Rp-0", "E-0"])
def test_a_verdict_is_what_plain_torch_says(space: Workspace, finished: Path, name: str) -> None:
    with single_thread():
        figures, direct = evaluate_on_test(name, space), expected(name, space)
    metrics = load_evaluation(evaluation_path(space.folder.path, name))
    in_run = load_evaluation(evaluation_path(finished, name))
    for field in fields(NetEvaluation):
        found, slow = getattr(metrics, field.name), getattr(direct, field.name)
        run = getattr(in_run, field.name)
        if field.name == "under":
            assert found.keys() == slow.keys() == run.keys()
            assert all(torch.equal(found[source], slow[source]) for source in found)
            assert all(torch.equal(found[source], run[source]) for source in found)
            continue
        if found.dtype == torch.bool:
            assert torch.equal(found, slow), field.name
        else:
            torch.testing.assert_close(found, slow, rtol=1e-3, atol=1e-6)
        assert torch.equal(found, run), field.name
    assert figures["clean_acc"] == pytest.approx(direct.correct.double().mean())
    robust = (direct.correct & direct.under_own).double().mean()
    assert figures["whitebox_acc"] == pytest.approx(robust)
    assert figures["params"] == sum(each.numel() for each in space.net(name).parameters())


def test_the_reference_is_aligned_with_itself(finished: Path) -> None:
    metrics = load_evaluation(evaluation_path(finished, "R"))
    assert torch.equal(metrics.under_R, metrics.under_own)
    assert torch.equal(metrics.R_under_own, metrics.under_own)
    cosine = metrics.cosine[~metrics.cosine.isnan()]
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_a_verdict_is_kept_whole_or_refused_by_name(finished: Path, tmp_path: Path) -> None:
    metrics = load_evaluation(evaluation_path(finished, "E-0"))
    path = tmp_path / "evaluation" / "copy.safetensors"
    save_evaluation(metrics, path)
    again = load_evaluation(path)
    for field in fields(NetEvaluation):
        one, other = getattr(again, field.name), getattr(metrics, field.name)
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(RunError, match=r"copy\.safetensors: damaged"):
        load_evaluation(path)
    with pytest.raises(RunError, match=r"none\.safetensors: No such file"):
        load_evaluation(tmp_path / "none.safetensors")


def test_a_mean_leaves_out_what_is_no_number() -> None:
    assert mean_or_none(torch.tensor([1.0, torch.nan, 3.0])) == 2.0
    assert mean_or_none(torch.tensor([torch.nan])) is None
