"""What every attack keeps to, ours and torchattacks' alike: the contract of `Attack`."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks import (
    ATTACKS,
    COMPONENTS,
    Attack,
    Ensemble,
    library_attacks,
    make,
    violations,
)
from robustkit.attacks.components import parameters_of
from robustkit.attacks.libraries.torchattack import attack_classes
from robustkit.data import ImageSet
from robustkit.errors import AttackError

CLASSES, SIDE = 6, 8
# As little work as shows what an attack does to a model.
QUICK = {
    "APGD": "steps=3",
    "APGDT": "steps=3",
    "AutoAttack": "version=rand",
    "CW": "steps=4",
    "DeepFool": "steps=3",
    "EADEN": "binary_search_steps=2&max_iterations=10",
    "EADL1": "binary_search_steps=2&max_iterations=10",
    "FAB": "steps=3",
    "LGV": "epochs=1&nb_models_epoch=1",
    "MultiAttack": "attacks=FGSM+PGD",
    "OnePixel": "steps=2&popsize=2",
    "PGDRS": "steps=2&noise_batch_size=2",
    "PGDRSL2": "steps=2&noise_batch_size=2",
    "PIFGSM": "num_iter_set=2",
    "PIFGSMPP": "num_iter_set=2",
    "Pixle": "restarts=2&max_iterations=2",
    "SPSA": "nb_sample=4",
    "SparseFool": "steps=2",
    "Square": "n_queries=10",
}
PLAIN = ("FFGSM", "FGSM", "GN", "JSMA", "VANILA")  # they have no number of steps
LIBRARY = sorted(library_attacks())
# Components are attacks of their own as far as the contract goes, and so are forty random
# combinations.
OF_MEMBERS = ("svre", "cwa", "adaea")  # of an ensemble
FEW = {"samples": 2, "shuffles": 2, "spectra": 2, "mixed": 2, "extra": 2, "inner": 2, "scales": 2}


def combined(base: str, names: Sequence[str]) -> str:
    """The attack with these components, each with as little to do as shows what it does."""
    options = [
        f"{name}.{option}={count}"
        for name in names
        for option, count in FEW.items()
        if option in parameters_of(COMPONENTS[name])
    ]
    return "+".join([base, *names]) + ("?" + "&".join(options) if options else "")


def random_combinations(count: int) -> list[str]:
    """Of two to five components that go together on one net."""
    luck, found = random.Random(0), list[str]()
    one = sorted({*COMPONENTS} - {*OF_MEMBERS, "fft", "mi"})
    while len(found) < count:
        names = luck.sample(one, luck.randint(2, 5))
        with contextlib.suppress(AttackError):
            make(spec := combined("mifgsm", names))
            found.append(spec)
    return found


COMBINED = [
    *(combined("pgd" if name == "mi" else "mifgsm", [name]) for name in sorted(COMPONENTS)),
    *random_combinations(40),
    "pgd+di+ti+si",
    "fgsm+di+si",
]
# Of torchattack, what finds something to do in any net and image: those for vision transformers
# look for modules of timm's, others want images of 224 pixels or a further package.
LARGE = {"GeoDA", "L2T", "SSA", "MuMoDIG"}
PEERS = sorted(set(attack_classes()) - {"ATT", "PNAPatchOut", "TGR", "VDC"} - LARGE)
LAYERED = ("BFA", "DANAA", "DR", "FIA", "ILPD", "NAA")
FEW_OF_PEERS = {
    "BPA": "steps=2&hook_cfg=resnet18",
    "SGM": "steps=2&hook_cfg=resnet18",
    "FGSM": "",
    "FDA": "steps=2",
    **dict.fromkeys(LAYERED, "steps=2&feature_layer_cfg=branch"),
}
OURS = [*sorted(ATTACKS), *COMBINED]
EVERY = [
    *OURS,
    *(f"torchattacks:{name}" for name in LIBRARY),
    *(f"torchattack:{name}" for name in PEERS),
]
# Attacks of torchattacks that draw nothing, with what they must be told for that.
DRAWS_NOTHING = {
    "BIM": "steps=2",
    "CW": "steps=4",
    "DeepFool": "steps=3",
    "EADL1": "binary_search_steps=2&max_iterations=10",
    "EADEN": "binary_search_steps=2&max_iterations=10",
    "EOTPGD": "steps=2&random_start=false",
    "FGSM": "",
    "JSMA": "",
    "MIFGSM": "steps=2",
    "NIFGSM": "steps=2",
    "PGD": "steps=2&random_start=false",
    "PGDL2": "steps=2&random_start=false",
    "SINIFGSM": "steps=2",
    "SparseFool": "steps=2",
    "UPGD": "steps=2",
    "VANILA": "",
}
# Faults that no wrapper can undo: what these make of an image depends on who else is in the batch.
MIX_BATCHES = {
    "EADEN": "abort_early stops all images when the loss of the whole batch stops falling",
    "EADL1": "abort_early stops all images when the loss of the whole batch stops falling",
}


def quick(name: str) -> Attack:
    """The attack `name`, with little to do."""
    if name.startswith("torchattack:"):
        written = FEW_OF_PEERS.get(name.partition(":")[2], "steps=2")
        return make(f"{name}?{written}" if written else name)
    library = name.removeprefix("torchattacks:")
    if library == name:
        steps = {} if name.startswith("fgsm") else {"steps": 3}
        attack = make(name, eps=0.1, targeted="+fft" in name, **steps)
        return attack.trained_on(some_images())
    written = QUICK.get(library, "" if library in PLAIN else "steps=2")
    attack = make(f"{name}?{written}" if written else name)
    return attack.trained_on(some_images())


def some_images() -> ImageSet:
    """What attacks that train are trained on."""
    images, labels = examples(8)
    return ImageSet((255 * images).round().to(torch.uint8), labels, tuple("abcdef"))


def subject(name: str, net: Net) -> nn.Module:
    """What the attack is for: the net, or an ensemble with it."""
    return Ensemble([net, Net(1)]) if any(each in name for each in OF_MEMBERS) else net


class Net(nn.Module):
    """Conv, batch norm, dropout, a residual branch, attention, linear; raises at a chosen call.

    It has a buffer of its own.
    """

    seen: Tensor

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = nn.Sequential(
                nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU(), nn.Dropout(0.5)
            )
            self.branch = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
            self.projection = nn.Linear(4, 12)
            self.head = nn.Linear(4 * (SIDE // 2) ** 2, CLASSES)
        self.register_buffer("seen", torch.zeros(()))
        self.calls = 0
        self.fails_at: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.fails_at:
            raise BoomError
        self.seen += 1  # a buffer that a forward pass changes
        maps = self.body(x)
        maps = F.max_pool2d(maps + self.branch(maps), 2)
        tokens = maps.flatten(2).transpose(1, 2)
        q, k, v = self.projection(tokens)[:, None].chunk(3, dim=-1)
        tokens = tokens + F.scaled_dot_product_attention(q, k, v)[:, 0]
        logits: Tensor = self.head(tokens.flatten(1))
        return logits


class BoomError(Exception):
    """What the net raises."""


def examples(count: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, 3, SIDE, SIDE, generator=generator)
    return images, Net().eval()(images).argmax(dim=1)


def strange_net() -> Net:
    """A net in a state that nobody would leave it in, so that any change shows."""
    net = Net()
    net.train()
    net.body[1].eval()
    net.body[0].weight.requires_grad_(False)
    net.head.bias.grad = torch.full((CLASSES,), 3.0)
    return net


def state(net: Net) -> dict[str, Any]:
    return {
        "modes": [module.training for module in net.modules()],
        "wants": [weight.requires_grad for weight in net.parameters()],
        "gradients": [
            None if weight.grad is None else (id(weight.grad), weight.grad.tolist())
            for weight in net.parameters()
        ],
        "weights": [weight.tolist() for weight in net.parameters()],
        "buffers": [buffer.tolist() for buffer in net.buffers()],
        "hooks": [len(module._forward_hooks) for module in net.modules()],
        "python": random.getstate(),
        "numpy": [str(part) for part in np.random.get_state()],
        "torch": torch.get_rng_state().tolist(),
        "grad mode": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "determinism": torch.are_deterministic_algorithms_enabled(),
    }


@contextmanager
def unchanged(net: Net) -> Iterator[None]:
    before = state(net)
    yield
    after = state(net)
    assert [name for name in before if before[name] != after[name]] == []


@pytest.mark.parametrize("name", EVERY)
def test_the_model_and_all_random_states_are_left_as_they_were(name: str) -> None:
    net, (images, labels) = strange_net(), examples()
    copies = images.clone(), labels.clone()
    attack = quick(name)
    with unchanged(net):
        attack(subject(name, net), images, labels)
    assert torch.equal(images, copies[0])
    assert torch.equal(labels, copies[1])


@pytest.mark.slow
def test_the_standard_autoattack_too_leaves_all_as_it_was_and_stays_inside() -> None:
    net, (images, labels) = strange_net(), examples()
    attack = make("torchattacks:AutoAttack", eps=0.1)
    with unchanged(net):
        made = attack(net, images, labels)
    assert not violations(made, images, attack).any()


@pytest.mark.parametrize("name", EVERY)
def test_so_they_are_when_the_model_raises(name: str) -> None:
    net, (images, labels) = strange_net(), examples()
    attack = quick(name)
    attack(subject(name, net), images, labels)
    fails_at = (net.calls + 1) // 2
    net = strange_net()  # another: what an attack has learnt of a net it may remember
    net.fails_at = fails_at
    with unchanged(net), pytest.raises(BoomError):
        attack(subject(name, net), images, labels)


@pytest.mark.parametrize("name", EVERY)
def test_adversarials_are_in_the_ball_and_the_range(name: str) -> None:
    images, labels = examples()
    attack = quick(name)
    made = attack(subject(name, Net()), images, labels)
    assert made.shape == images.shape
    assert made.dtype == images.dtype
    assert not made.requires_grad
    assert not violations(made, images, attack).any()


@pytest.mark.parametrize("name", EVERY)
def test_the_generator_alone_decides(name: str) -> None:
    images, labels = examples()
    attack, runs = quick(name), []
    for seed, disturbance in ((5, 1), (5, 2)):
        torch.manual_seed(disturbance)
        random.seed(disturbance)
        np.random.seed(disturbance)
        generator = torch.Generator().manual_seed(seed)
        runs.append(attack(subject(name, Net()), images, labels, generator=generator))
    assert torch.equal(*runs)


@pytest.mark.parametrize("name", [*OURS, *DRAWS_NOTHING])
def test_batch_mates_do_not_matter(name: str, request: pytest.FixtureRequest) -> None:
    if name in MIX_BATCHES:
        request.applymarker(pytest.mark.xfail(reason=MIX_BATCHES[name], strict=True))
    if name in OURS:
        attack = quick(name)
    else:
        attack = make(
            f"torchattacks:{name}" + (f"?{DRAWS_NOTHING[name]}" if DRAWS_NOTHING[name] else "")
        )
    images, labels = examples(5)
    net, images = subject(name, Net()).double(), images.double()
    # Other images to mix in are what the caller says, or the batch's.
    mixing: dict[str, Any] = {"others": images} if attack.mixes else {}
    seeded = [torch.Generator().manual_seed(2) for _ in range(2)]
    whole = attack(net, images, labels, generator=seeded[0], **mixing)
    alone = attack(net, images[:2], labels[:2], generator=seeded[1], **mixing)
    assert torch.allclose(whole[:2], alone, atol=1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_nothing_is_made_of_nothing(name: str) -> None:
    images, labels = examples()
    made = quick(name)(subject(name, Net()), images[:0], labels[:0])
    assert made.shape == (0, 3, SIDE, SIDE)
