"""Jobs on a real workspace: what they return, and trainings that leave the finite numbers."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from evolution.protocol.jobs import TrainNet
from evolution.protocol.search import trial_hash
from evolution.protocol.workspace import Workspace, open_workspace
from robustkit import evaluation, models, training
from robustkit.jobs import Diverged, Invalid, Ok, Outcome
from robustkit.jobs.executors import attempt
from tests.evolution.protocol.runs import trials

SMALL = {"family": "zoo", "name": "small", "options": {}}


@pytest.fixture(scope="module")
def run(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run, for jobs to work in."""
    folder = tmp_path_factory.mktemp("jobs") / "run"
    shutil.copytree(finished, folder)
    (folder / "scratch").mkdir()
    return folder


@pytest.fixture
def space(run: Path) -> Workspace:
    return open_workspace(str(run), None)  # the very one that jobs open


def job(run: Path, **changes: Any) -> TrainNet:
    return replace(
        TrainNet(str(run), SMALL, seed=1, part="trial", penalised=False, final=False), **changes
    )


def with_rate(space: Workspace, monkeypatch: pytest.MonkeyPatch, lr: float) -> None:
    monkeypatch.setattr(space, "config", replace(space.config, lr=lr))


def test_a_trial_scores_what_it_says(run: Path, space: Workspace) -> None:
    outcome = attempt(job(run, scored=True, name="scored"))
    assert isinstance(outcome, Ok)
    result, val = outcome.value, space.splits.val
    net, reference = space.net("scored"), space.net("R")
    adversarials = space.adversarials("R", "val", flipped=False).images
    right, both, misled = 0, 0, 0
    for image, adversarial, label in zip(val.floats(), adversarials, val.labels, strict=True):
        with torch.no_grad():
            found = [int(model(image[None]).argmax()) == label for model in (net, reference)]
            wrong = int(net(adversarial[None]).argmax()) != label
        right += found[0]
        both += all(found)
        misled += all(found) and wrong
    assert result["accuracy"] == pytest.approx(right / len(val))
    assert result["transfer_n"] == both
    assert result["transfer"] == pytest.approx(misled / both)
    own = evaluation.input_gradients(net, val).flatten(1).double()
    others = evaluation.input_gradients(reference, val).flatten(1).double()
    cosines = torch.nn.functional.cosine_similarity(own, others, eps=1e-30)
    assert result["cos_abs"] == pytest.approx(float(cosines.abs().mean()), rel=1e-5)
    assert result["grad_norm"] == pytest.approx(float(own.norm(dim=1).mean()), rel=1e-5)


def test_a_run_keeps_the_first_trial_of_each_network_alone(finished: Path) -> None:
    first: dict[str, Any] = {}
    for trial in trials(finished):
        assert first.setdefault(trial.key, trial.result) == trial.result


@pytest.mark.parametrize("part", ["trial", "all"])
def test_a_training_that_diverges_is_no_result_and_no_net(
    run: Path, space: Workspace, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    with_rate(space, monkeypatch, 1e30)
    outcome = attempt(job(run, part=part, name=f"diverged-{part}"))
    assert isinstance(outcome, Diverged), outcome
    assert not space.net_path(f"diverged-{part}").exists()


def test_a_training_that_diverges_in_its_last_step_is_noticed(
    run: Path, space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(net: models.Classifier, *arguments: Any, **options: Any) -> Any:
        history = fit(net, *arguments, **options)
        with torch.no_grad():
            next(net.parameters()).fill_(math.nan)  # what the step after the last loss can do
        return history

    fit = training.fit_examples
    monkeypatch.setattr(training, "fit_examples", spoil)
    outcome: Outcome = attempt(job(run, part="all", name="spoilt"))
    assert isinstance(outcome, Diverged)
    assert outcome.reason == "training diverged in its last step: weights are not finite"
    assert not space.net_path("spoilt").exists()


def test_a_network_that_cannot_be_built_is_an_invalid_candidate(run: Path) -> None:
    outcome = attempt(job(run, architecture={"family": "zoo", "name": "smal", "options": {}}))
    assert isinstance(outcome, Invalid)
    assert "smal" in outcome.reason


def test_only_adversarials_that_every_net_meets_stay_in_memory(space: Workspace) -> None:
    made = {
        source: space.adversarials(source, "test", flipped=False) for source in ("R", "S", "E-0")
    }
    again = {source: space.adversarials(source, "test", flipped=False) for source in made}
    assert {source: again[source] is made[source] for source in made} == {
        "R": True,
        "S": True,
        "E-0": False,
    }
    assert torch.equal(again["E-0"].images, made["E-0"].images)


def test_a_trial_is_named_as_before_jobs_knew_of_preprocessing() -> None:
    trial = TrainNet("run", SMALL, seed=1, part="trial", penalised=True, final=False, scored=True)
    assert trial_hash(trial, "around") == "b32d2cf1007457c61cdc9d24cda2efda"
    other = replace(trial, preprocessing=models.Preprocessing())
    assert trial_hash(other, "around") != trial_hash(trial, "around")
    assert trial_hash(replace(trial, run_path="elsewhere"), "around") == trial_hash(trial, "around")


def test_a_net_is_trained_with_the_preprocessing_of_its_job(run: Path, space: Workspace) -> None:
    own = models.Preprocessing(mean=(0.1,), std=(0.3,), input_size=(20, 20))
    outcome = attempt(job(run, scored=True, name="own", preprocessing=own))
    assert isinstance(outcome, Ok)
    net = space.net("own")
    assert net.card.preprocessing == own
    assert net.card.input_shape == space.splits.train.shape
    images = space.splits.val.floats()[:5]
    larger = torch.nn.functional.interpolate(images, size=(20, 20), mode="bilinear", antialias=True)
    with torch.no_grad():
        assert torch.equal(net(images), net.net((larger - 0.1) / 0.3))
