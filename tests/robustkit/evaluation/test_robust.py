"""Robust accuracy against the composition it stands for, step by step."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from robustkit import evaluation
from robustkit.attacks import FGSM, PGD, Attack, make, predict
from robustkit.compute import derive_seed
from robustkit.data import stratified_sample
from robustkit.errors import AttackError, ConfigError
from robustkit.evaluation import RobustAccuracy, diagnosis
from robustkit.evaluation.diagnosis import diagnose
from robustkit.evaluation.robustness import worst_case
from robustkit.runs.summaries import Finding
from robustkit.stats import wilson
from tests.robustkit.attacks.nets import smooth_net, striped, trained

IMAGES = striped(60, seed=3)
RADII = (0.02, 0.06, 0.1)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return trained(seed=2)


def test_it_is_worst_case_at_every_radius_with_survivors_carried_on(net: nn.Module) -> None:
    attacks = [FGSM(), PGD(steps=3)]
    told: list[float] = []
    result = evaluation.robust_accuracy(
        net,
        IMAGES,
        attacks,
        eps=RADII[::-1],
        restarts=2,
        seed=5,
        probe=20,
        on_attack=lambda attack: told.append(attack.eps),
    )
    assert list(result.by_eps) == list(RADII)
    assert told == [eps for eps in RADII for _ in attacks]
    robust: torch.Tensor | None = None
    findings: list[Finding] = []
    for eps in RADII:
        listed: list[Attack] = [replace(attack, eps=eps) for attack in attacks]
        step = worst_case(
            net, IMAGES, listed, restarts=2, seed=derive_seed(5, "attack"), start=robust
        )
        robust = step.survivors
        assert result.by_eps[eps] == wilson(int(robust.sum()) / 60, 60)
        assert result.per_attack[eps] == {
            "fgsm": wilson(int(step.robust[0].sum()) / 60, 60),
            "pgd": wilson(int(step.robust[1].sum()) / 60, 60),
        }
        findings += diagnosis.read(step)
    right = predict(net, IMAGES.images).argmax(1) == IMAGES.labels
    assert result.clean == wilson(int(right.sum()) / 60, 60)
    rates = [rate.value or 0.0 for rate in result.by_eps.values()]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < rates[0] < (result.clean.value or 0)
    findings += diagnosis.read_curve(RADII, rates)
    chosen = stratified_sample(IMAGES.labels, 20, derive_seed(5, "probe"))
    findings += diagnose(net, IMAGES.subset(chosen), eps=0.1, seed=5)
    assert result.diagnosis == tuple(dict.fromkeys(findings))


def test_without_radii_each_attack_has_its_own(net: nn.Module) -> None:
    attacks = {"wide": PGD(eps=0.1), "narrow": FGSM(eps=0.02), "other": PGD(eps=0.1, steps=2)}
    result = evaluation.robust_accuracy(net, IMAGES, attacks, probe=0)
    names = {eps: list(each) for eps, each in result.per_attack.items()}
    assert names == {0.02: ["narrow"], 0.1: ["wide", "other"]}
    assert result.by_eps[0.1] == result.per_attack[0.1]["other"]


def test_attacks_of_one_name_are_told_apart(net: nn.Module) -> None:
    attacks = [PGD(steps=1), PGD(steps=2), FGSM(), PGD(steps=3)]
    result = evaluation.robust_accuracy(net, IMAGES, attacks, eps=[0.02], probe=0)
    assert list(result.per_attack[0.02]) == ["pgd", "pgd 2", "fgsm", "pgd 3"]


def test_a_result_comes_back_from_json(net: nn.Module) -> None:
    result = evaluation.robust_accuracy(net.train(), IMAGES, [FGSM()], eps=RADII)
    net.eval()
    assert result.diagnosis  # the model was in train mode
    written = result.to_json()
    assert RobustAccuracy.from_json(written) == result
    assert json.loads(written)["by_eps"][0]["per_attack"]["fgsm"]["n"] == 60


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a result of robust_accuracy as JSON"),
        ("[]", "not a result"),
        ('{"format": 1}', "not a result of robust_accuracy as JSON: "),
        ('{"format": 2}', "of format 2; this version reads 1"),
        ('{"format": 1, "norm": "linf", "clean": 3, "by_eps": []}', "not a result"),
    ],
)
def test_other_json_is_refused_in_a_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        RobustAccuracy.from_json(text)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_evaluated_is_refused_in_a_line(net: nn.Module) -> None:
    with pytest.raises(ConfigError, match="at least one attack is needed"):
        evaluation.robust_accuracy(net, IMAGES, [])
    with pytest.raises(ConfigError, match="at least one radius is needed"):
        evaluation.robust_accuracy(net, IMAGES, [FGSM()], eps=[])
    with pytest.raises(AttackError, match=r"attacks in l2 and linf, .* one norm at a time"):
        evaluation.robust_accuracy(net, IMAGES, [FGSM(), PGD(norm="l2")])
    with pytest.raises(AttackError, match="pgd is targeted"):
        evaluation.robust_accuracy(net, IMAGES, [PGD(targeted=True)])


def test_fewer_probes_than_classes_are_taken_at_random() -> None:
    result = evaluation.robust_accuracy(smooth_net(), IMAGES, [FGSM()], eps=[0.02], probe=2)
    assert result.clean.n == 60


class Small(nn.Module):
    """A net on a device with room for ten images."""

    def __init__(self) -> None:
        super().__init__()
        self.net = smooth_net()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory")
        logits: torch.Tensor = self.net(images)
        return logits


def test_batches_that_did_not_fit_are_notes_of_the_result() -> None:
    told: list[str] = []
    result = evaluation.robust_accuracy(Small(), IMAGES, [FGSM()], eps=[0.02], on_note=told.append)
    assert "batch 60 did not fit on cpu; halved to 30" in result.notes
    assert list(result.notes) == told
    assert RobustAccuracy.from_json(result.to_json()).notes == result.notes
    whole = evaluation.robust_accuracy(smooth_net(), IMAGES, [FGSM()], eps=[0.02])
    assert whole.by_eps == result.by_eps


def test_searches_without_gradients_are_attacks_too(net: nn.Module) -> None:
    attacks = [PGD(), make("torchattacks:Square?n_queries=5")]
    result = evaluation.robust_accuracy(net, IMAGES, attacks, eps=[0.05], probe=0)
    assert list(result.per_attack[0.05]) == ["pgd", "torchattacks:Square"]
