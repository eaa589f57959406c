"""TransferAttack by name, against a small package of its layout that is written here."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from robustkit.attacks import TorchAttack, make, verify
from robustkit.errors import AttackError
from tests.robustkit.attacks.nets import batch, trained

LIBRARY = """
import torch
from torch import nn

class Attack:
    def __init__(self, attack, model_name, epsilon, targeted, random_start, norm, loss, device):
        self.model = self.load_model(model_name)
        self.epsilon, self.targeted, self.device, self.norm = epsilon, targeted, device, norm
    def load_model(self, name):
        raise RuntimeError("would download")
    def __call__(self, data, label):
        self.model.eval()
        self.model.net.extra = nn.Identity()  # what theirs do to a model
        if self.targeted:
            assert len(label) == 2
            label = label[1]
        delta = torch.zeros_like(data, requires_grad=True)
        for _ in range(self.epoch):
            loss = nn.functional.cross_entropy(self.model(data + delta), label)
            (grad,) = torch.autograd.grad(-loss if self.targeted else loss, delta)
            moved = (delta + self.alpha * grad.sign()).clamp(-self.epsilon, self.epsilon)
            delta = ((data + moved).clamp(0, 1) - data).detach().requires_grad_(True)
        return delta.detach()

class BIM(Attack):
    def __init__(self, model_name, epsilon=16/255, alpha=1.6/255, epoch=10, targeted=False,
                 random_start=False, norm='linfty', loss='crossentropy', device=None,
                 attack='BIM', **kwargs):
        super().__init__(attack, model_name, epsilon, targeted, random_start, norm, loss, device)
        self.alpha, self.epoch = alpha, epoch

def load_attack_class(name):
    if name != 'bim':
        raise Exception('Unspported attack algorithm {}'.format(name))
    return BIM
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "transferattack").mkdir()
    (tmp_path / "transferattack" / "__init__.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "transferattack", raising=False)
    yield
    sys.modules.pop("transferattack", None)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("targeted", [False, True])
def test_an_attack_is_given_the_model_and_leaves_it_as_it_was(targeted: bool) -> None:
    net, (images, labels) = trained(), batch(9)
    labels = (labels + targeted) % 3
    attack = make("transferattack:bim?alpha=0.02&epoch=4", eps=0.1, targeted=targeted)
    made = attack(net, images, labels)
    verify(made, images, attack)
    spec = "pgd?alpha=0.02&steps=4&random_start=false"
    assert torch.allclose(made, make(spec, eps=0.1, targeted=targeted)(net, images, labels))
    assert not hasattr(net.net, "extra")
    assert attack.to_dict()["parameters"] == {"alpha": 0.02, "epoch": 4}
    assert re.fullmatch("[0-9a-f]{12}", str(attack.to_dict()["version"]))


def test_its_version_is_that_of_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = []
    for number, further in enumerate(("A = 1", "A = 1", "A = 2")):
        package = tmp_path / str(number) / "transferattack"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(LIBRARY)
        (package / "further.py").write_text(further)
        (package / "notes.txt").write_text(str(number))  # no source
        monkeypatch.syspath_prepend(package.parent)
        monkeypatch.delitem(sys.modules, "transferattack", raising=False)
        versions.append(make("transferattack:bim").to_dict()["version"])
    sys.modules.pop("transferattack", None)
    assert versions[0] == versions[1] != versions[2]


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("transferattack:bimm", "transferattack:bimm: Unspported attack algorithm bimm"),
        ("transferattack:bim?steps=3", "unknown parameter 'steps'"),
        ("transferattack:bim?norm=l1", "transferattack:bim works in linf or l2 only, not l1"),
        ("transferattack:bim?epoch=0", "epoch must be at least 1, not 0"),
    ],
)
def test_what_it_cannot_do_is_said(spec: str, message: str) -> None:
    with pytest.raises(AttackError, match=message):
        make(spec)


def test_without_a_clone_it_is_said_where_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transferattack", None)
    with pytest.raises(AttackError, match="TransferAttack is not there: clone"):
        make("transferattack:mifgsm")


def test_autoattack_by_its_version() -> None:
    attack = make("autoattack:rand", eps=0.1)
    assert isinstance(attack, TorchAttack)
    assert dict(attack.parameters) == {"version": "rand"}
    with pytest.raises(AttackError, match="Not valid version"):
        make("autoattack:best")
