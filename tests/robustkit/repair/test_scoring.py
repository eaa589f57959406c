"""However candidates are scored, the figures are those of an ordinary forward pass."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit import models
from robustkit.data import ImageSet
from robustkit.repair import Selection, make_scorer, repairable, select
from robustkit.repair import dense as products
from robustkit.repair.scoring import TailScorer

CLASSES, SIDE, COUNT = 5, 8, 70


class Deep(nn.Module):
    """Three fully connected layers with different functions between, one of them without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.first = nn.Linear(4 * SIDE**2, 12)
        self.second = nn.Linear(12, 9, bias=False)
        self.third = nn.Linear(9, CLASSES)
        self.drop = nn.Dropout(0.5)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x)).flatten(1)
        x = self.drop(F.relu(self.first(x)))
        logits: Tensor = self.third(self.act(self.second(x)))
        return logits


class InPlace(nn.Module):
    """A residual sum whose activation writes into what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(1, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.act(self.one(x))
        seen = self.act(self.two(seen) + seen)
        logits: Tensor = self.head(seen.mean(dim=(2, 3)))
        return logits


class Branching(nn.Module):
    """Code that depends on its data, which cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(SIDE**2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x.flatten(1))
        return logits + 1 if float(x.mean()) > 100 else logits


def deep() -> nn.Module:
    return Deep()


def in_place() -> nn.Module:
    return InPlace()


def branching() -> nn.Module:
    return Branching()


def classifier(factory: str) -> models.Classifier:
    return models.build(
        f"{__name__}:{factory}", num_classes=CLASSES, in_channels=1, image_size=SIDE, seed=0
    )


def images() -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (COUNT, 1, SIDE, SIDE), generator=generator).byte()
    return ImageSet(pixels, torch.arange(COUNT) % CLASSES, tuple("abcde"))


def chosen(model: models.Classifier, share: dict[str, float]) -> Selection:
    generator = torch.Generator().manual_seed(1)
    layers = repairable(model, tuple(share))
    masks = {
        name: torch.rand(layer.weight.shape, generator=generator) < share[name]
        for name, layer in layers.items()
    }
    return select(masks)


def candidates(model: models.Classifier, selection: Selection) -> Tensor:
    noise = torch.randn(7, len(selection), generator=torch.Generator().manual_seed(2))
    return selection.values(model) + 0.3 * noise


def naive(model: models.Classifier, selection: Selection, values: Tensor) -> Tensor:
    """Logits (P,n,K) by putting each candidate into a copy of the net."""
    found = []
    for candidate in values:
        changed = copy.deepcopy(model).eval()
        start = 0
        for name, indices in selection.indices.items():
            weight = changed.net.get_submodule(name).weight
            assert isinstance(weight, Tensor)
            for offset, index in enumerate(indices.tolist()):
                weight.data.view(-1)[index] = candidate[start + offset]
            start += len(indices)
        with torch.no_grad():
            found.append(changed(images().floats()))
    return torch.stack(found)


SHARES: list[dict[str, float]] = [
    {"first": 0.05},
    {"second": 0.3},
    {"third": 0.4},
    {"first": 0.02, "second": 0.2, "third": 0.2},
    {"first": 0.02, "third": 0.5},
    {"first": 1.0, "second": 1.0, "third": 1.0},
]


@pytest.mark.parametrize("share", SHARES, ids=str)
@pytest.mark.parametrize("way", ["products", "tail", "whole"])
def test_every_way_gives_the_logits_of_an_ordinary_forward(
    way: str, share: dict[str, float]
) -> None:
    model = classifier("deep")
    selection = chosen(model, share)
    values = candidates(model, selection)
    scorer = make_scorer(model, images(), selection, ways=(way,))
    assert scorer.way == way
    expected = naive(model, selection, values)
    assert torch.allclose(scorer.logits(values), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", ["products", "tail", "whole"])
def test_scores_are_of_those_logits(way: str) -> None:
    model = classifier("deep")
    selection = chosen(model, {"first": 0.05, "third": 0.2})
    values = candidates(model, selection)
    right, loss = make_scorer(model, images(), selection, ways=(way,)).score(values)
    logits = naive(model, selection, values)
    labels = images().labels
    assert torch.equal(right, logits.argmax(dim=2) == labels)
    for candidate, row in zip(logits, loss, strict=True):
        assert torch.allclose(row, F.cross_entropy(candidate, labels, reduction="none"), atol=1e-5)


def test_chunks_change_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier("deep")
    selection = chosen(model, {"first": 0.05, "second": 0.1})
    values = candidates(model, selection)
    whole = make_scorer(model, images(), selection, ways=("products",)).logits(values)
    monkeypatch.setattr(products, "CHUNK", 64)
    monkeypatch.setattr(products, "LEAST_IMAGES", 3)
    cut = make_scorer(model, images(), selection, ways=("products",)).logits(values)
    assert torch.allclose(whole, cut, atol=1e-5)


@pytest.mark.parametrize(("factory", "layer"), [("in_place", "two"), ("deep", "conv")])
def test_convolutions_are_scored_by_the_tail(factory: str, layer: str) -> None:
    model = classifier(factory)
    selection = chosen(model, {layer: 0.3})
    values = candidates(model, selection)
    scorer = make_scorer(model, images(), selection)
    assert scorer.way in ("tail", "whole")
    expected = naive(model, selection, values)
    # Twice: activations that are held must not have been written into.
    for _ in range(2):
        assert torch.allclose(scorer.logits(values), expected, rtol=1e-5, atol=1e-5)


def test_code_that_cannot_be_traced_is_run_whole() -> None:
    model = classifier("branching")
    selection = chosen(model, {"head": 0.3})
    values = candidates(model, selection)
    scorer = make_scorer(model, images(), selection)
    assert scorer.way == "whole"
    assert torch.allclose(scorer.logits(values), naive(model, selection, values), atol=1e-5)


def test_what_does_not_fit_into_memory_is_not_held() -> None:
    model = classifier("deep")
    selection = chosen(model, {"first": 0.05})
    assert make_scorer(model, images(), selection, memory=1000).way == "whole"
    assert not isinstance(make_scorer(model, images(), selection), TailScorer)


def test_the_model_is_left_as_it_was() -> None:
    model = classifier("deep").train()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    selection = chosen(model, {"first": 0.05})
    for way in ("products", "tail", "whole"):
        make_scorer(model, images(), selection, ways=(way,)).score(candidates(model, selection))
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
    assert all(each.requires_grad for each in model.parameters())
