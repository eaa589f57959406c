"""Transfer attacks beside torchattacks and torchattack at equal success, and what each costs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.benchmarks.peers import Agreement, Peer, versus
from experiments.benchmarks.record import Record, Value, cost
from experiments.benchmarks.timing import timings
from robustkit import attacks, data, models, training
from robustkit.stats import mcnemar

EPS, STEPS, IMAGES = 0.15, 5, 96
LEVEL = 0.01  # success rates are the same unless McNemar's p over the same images is less
AT_LEAST = 0.9  # in units of ours: the same passes, less what a machine varies by
TORCHATTACKS, TORCHATTACK = "torchattacks", "torchattack"


@dataclass(frozen=True)
class Method:
    """One attack in our words, and in those of the libraries that have it: name and parameters."""

    what: str
    spec: str
    peers: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)


# Few samples: the ratio is of passes, which both sides make alike. torchattack's TI and SSM take
# three channels only, its SSM 224 pixels; its SI-NI and GRA are other attacks (docs/attacks.md).
METHODS = (
    Method("MI-FGSM", "mifgsm", {name: ("MIFGSM", {}) for name in (TORCHATTACKS, TORCHATTACK)}),
    Method(
        "DI on MI-FGSM, probability 0.5",
        "mifgsm+di?diversity=0.5",
        {
            TORCHATTACKS: ("DIFGSM", {"decay": 1.0, "diversity_prob": 0.5}),
            TORCHATTACK: ("DIFGSM", {"diversity_prob": 0.5}),
        },
    ),
    Method(
        "SI-NI-FGSM, 5 scales",
        "nifgsm+si?scales=5",
        {TORCHATTACKS: ("SINIFGSM", {"m": 5})},
    ),
    Method(
        "VMI-FGSM, 5 neighbours",
        "mifgsm+vmi?samples=5",
        {TORCHATTACKS: ("VMIFGSM", {"N": 5}), TORCHATTACK: ("VMIFGSM", {"n": 5})},
    ),
    Method(
        "VNI-FGSM, 5 neighbours",
        "mifgsm+vni?samples=5",
        {TORCHATTACKS: ("VNIFGSM", {"N": 5}), TORCHATTACK: ("VNIFGSM", {"n": 5})},
    ),
    Method(
        "Admix, 3 x 5 copies",
        "mifgsm+admix+si?mixed=3&scales=5",
        {TORCHATTACK: ("Admix", {"size": 3, "num_classes": 10})},
    ),
    Method(
        "BSR, 5 shuffles of 2 x 2 blocks",
        "mifgsm+bsr?shuffles=5&blocks=2",
        {TORCHATTACK: ("BSR", {"num_scale": 5, "num_block": 2})},
    ),
)


def records() -> Iterator[Record]:
    """Yield every method beside the libraries that have it, then seconds of each at 224 pixels."""
    yield from _beside_peers()
    yield from _at_full_size()


def _beside_peers() -> Iterator[Record]:
    """Yield crafting on a ResNet-18 of quarter width; success is judged on another net."""
    splits = data.load("digits")
    test = splits.test.subset(data.stratified_sample(splits.test.labels, IMAGES, 0))
    images, labels = test.floats(), test.labels
    source, target = (_trained(splits, name) for name in ("resnet18?width=16", "vgg3"))

    def agree(ours: Tensor, theirs: Tensor) -> Agreement:
        fooled = [
            (attacks.predicted_classes(target, each) != labels).numpy() for each in (ours, theirs)
        ]
        p = mcnemar(*fooled)
        said = f"{fooled[0].mean():.0%} and {fooled[1].mean():.0%} of {IMAGES} transfer, p {p:.2g}"
        return Agreement(p >= LEVEL, said)

    for method in METHODS:
        attack = attacks.make(method.spec, eps=EPS, steps=STEPS)
        yield from versus(
            f"{method.what}, {STEPS} steps, {IMAGES} images",
            lambda attack=attack: attack(source, images, labels),  # type: ignore[misc]
            [
                Peer(
                    library,
                    library,
                    _prepared(library, name, given, source, images, labels),
                    AT_LEAST,
                )
                for library, (name, given) in method.peers.items()
            ],
            agree,
            rounds=4,
        )


def _trained(splits: data.Splits, name: str) -> models.Classifier:
    mean, std = data.channel_stats(splits.train)
    net = models.build(
        name, num_classes=10, in_channels=1, image_size=16, mean=mean, std=std, seed=0
    )
    training.fit(net, splits, training.TrainConfig(epochs=3, seed=0))
    return net.eval()


def _prepared(
    library: str, name: str, given: dict[str, Any], net: nn.Module, images: Tensor, labels: Tensor
) -> Callable[[], Callable[[], Tensor]]:
    def prepare() -> Callable[[], Tensor]:
        own, settings = copy.deepcopy(net), {"eps": EPS, "steps": STEPS, "alpha": EPS / STEPS}
        if library == TORCHATTACKS:
            import torchattacks

            attack = getattr(torchattacks, name)(own, **settings, **given)
        else:
            from torchattack import ATTACK_REGISTRY

            attack = ATTACK_REGISTRY[name](own, None, torch.device("cpu"), **settings, **given)

        def craft() -> Tensor:
            torch.manual_seed(0)
            adversarials: Tensor = attack(images, labels)
            return adversarials.detach()

        return craft

    return prepare


# Seconds of 100 images are told from this one: a batch costs little less per image on a CPU.
FULL_SIZE, FULL_STEPS = 224, 10
CONVOLUTIONAL, TRANSFORMER = "torchvision:resnet18", "torchvision:vit_b_16"


def _at_full_size() -> Iterator[Record]:
    """Yield seconds of 100 images at 224 pixels beside bare forward and backward passes.

    Weights are random: a pass costs the same, and how well an attack transfers is no matter here.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, FULL_SIZE, FULL_SIZE, generator=generator)
    components = {name: needs for name, _, _, needs in attacks.catalogue() if name[0] == "+"}
    for name in (CONVOLUTIONAL, TRANSFORMER):
        nets = [
            models.build(name, num_classes=1000, in_channels=3, image_size=FULL_SIZE, seed=seed)
            for seed in (0, 1)
        ]
        yield _priced("", "", nets[0].eval(), image, name)
        for component, needs in components.items():
            if component == "+mi" or (needs == "a vision transformer") != (name == TRANSFORMER):
                continue
            model = (
                attacks.Ensemble([net.eval() for net in nets]) if "ensemble" in needs else nets[0]
            )
            yield _priced(component, needs, model, image, name)


def _priced(component: str, needs: str, model: nn.Module, image: Tensor, name: str) -> Record:
    aimed = needs == "a target"
    attack = attacks.make(
        f"mifgsm{component}",
        eps=EPS,
        steps=FULL_STEPS,
        targeted=aimed,
        loss="logit" if aimed else "ce",
    )
    labels = torch.zeros(1, dtype=torch.long)

    def bare() -> None:
        inputs = image.clone().requires_grad_(True)
        torch.autograd.grad(F.cross_entropy(model(inputs), labels), inputs)

    bare()
    whole, one = timings(lambda: attack(model, image, labels), bare, rounds=1, warm_ups=0)
    return cost(
        f"mifgsm{component}, {FULL_STEPS} steps, 100 images of {FULL_SIZE} on {name.split(':')[1]}",
        Value("ours", "s", tuple(100 * each for each in whole)),
        Value("forward and backward", "s", tuple(100 * each for each in one)),
        note="from one image",
    )
