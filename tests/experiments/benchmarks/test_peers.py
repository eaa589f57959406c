"""Peers: timed beside ours when they are there and agree, and named when not."""

from __future__ import annotations

import sys

import pytest
import torch

from experiments.benchmarks.attacks import _same_accuracy
from experiments.benchmarks.peers import (
    Agreement,
    Peer,
    absent,
    same_images,
    same_maps,
    same_sets,
    similar,
    versus,
)


def equal(ours: int, theirs: int) -> Agreement:
    return Agreement(ours == theirs, f"{ours} and {theirs}")


def test_every_peer_gets_a_record_whether_there_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "foolbox", None)
    peers = [
        Peer("json", "json", lambda: lambda: 1, at_least=1e-9),
        Peer("math", "math", lambda: lambda: 2),
        Peer("foolbox", "foolbox", lambda: pytest.fail("prepared although it is not there")),
    ]
    found = list(versus("counting", lambda: 1, peers, equal, rounds=3, note="by ones"))
    there, other, gone = found
    assert there.what == "counting: json"
    assert there.kept is True
    assert there.note == "by ones; 1 and 1"
    assert there.ours is not None
    assert len(there.ours.values) == 3
    assert other.ratio is None
    assert other.differs == "1 and 2"
    assert gone.skipped == "foolbox is not installed (pip install 'robustkit[bench]')"


def test_without_any_peer_ours_is_not_even_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    peers: list[Peer[int]] = [Peer("Captum", "captum", lambda: pytest.fail("prepared"))]
    (found,) = versus("maps", lambda: pytest.fail("run"), peers, equal, rounds=3)
    assert found.skipped.startswith("captum is not installed")


def test_packages_are_told_by_the_name_they_are_installed_under(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    assert (
        absent("pytorch_grad_cam") == "grad-cam is not installed (pip install 'robustkit[bench]')"
    )
    assert absent("json") == ""


def test_maps_agree_but_for_rounding() -> None:
    one = torch.tensor([[1.0, -4.0]])
    assert same_maps(one, one + 1e-4).same
    assert not same_maps(one, one + 1e-1).same
    assert not same_maps(one, one[:, :1]).same
    assert not same_sets([one, one], [one, one + 0.1]).same
    assert same_sets([one, one], [one, one]).same


def test_a_stronger_attack_is_other_work_too() -> None:
    assert _same_accuracy(0.340, 0.344).same
    assert not _same_accuracy(0.300, 0.340).same
    assert not _same_accuracy(0.340, 0.300).same


def test_few_pixels_of_adversarials_may_differ() -> None:
    one = torch.zeros(1, 1, 100, 100)
    other = one.clone()
    other[..., 0, :90] = 0.1  # 90 of 10,000
    assert same_images(one, other).same
    other[..., 1, :90] = 0.1
    assert not same_images(one, other).same


def test_noisy_maps_resemble_each_other_as_much_as_two_seeds_do() -> None:
    signal, noise = torch.linspace(-1, 1, 500), torch.randn(3, 500) * 0.3
    ours, again, theirs = signal + noise
    agree = similar(again)
    assert agree(ours, theirs).same
    assert not agree(ours, -theirs).same
