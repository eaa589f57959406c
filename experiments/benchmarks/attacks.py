"""Attacks beside torchattacks and foolbox, and a transfer matrix crafted once and kept."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from experiments.benchmarks.peers import Agreement, Peer, same_images, versus
from experiments.benchmarks.record import Record, speedup
from experiments.benchmarks.timing import timed
from robustkit import attacks, data, evaluation, models, training
from robustkit.attacks import Attack
from robustkit.data import ImageSet

EPS, STEPS, IMAGES = 0.1, 40, 200
FEW = 96  # images for the net of full width: enough that its last few are a batch still
ALPHA = EPS / 4
ADVERSARIAL_EPS = 0.1
MI_STEPS = 10
APART = 0.005  # robust accuracies this near are the same


def robust_records() -> Iterator[Record]:
    """Yield ResNet-18s on digits: of full width, and of quarter width trained on
    adversarials too.
    """
    splits = data.load("digits")
    test = splits.test.subset(data.stratified_sample(splits.test.labels, IMAGES, 0))
    few = splits.test.subset(data.stratified_sample(splits.test.labels, FEW, 0))
    whole = _trained(splits, None, width=64)
    yield from _accuracy(whole, few, "normal", {"torchattacks": 3.0, "foolbox": 4.0})
    yield from _accuracy(_trained(splits, "pgd"), test, "adversarially trained", {})
    narrow = _trained(splits, None)
    yield from _crafted(narrow, test)
    yield from _bfloat16(narrow, test)


def _trained(splits: data.Splits, adversarial: str | None, *, width: int = 16) -> models.Classifier:
    mean, std = data.channel_stats(splits.train)
    net = models.build(
        f"resnet18?width={width}",
        num_classes=10,
        in_channels=1,
        image_size=16,
        mean=mean,
        std=std,
        seed=0,
    )
    config = training.TrainConfig(epochs=3, adversarial=adversarial, eps=ADVERSARIAL_EPS, seed=0)
    training.fit(net, splits, config)
    return net.eval()


def _accuracy(
    net: models.Classifier, test: ImageSet, kind: str, least: dict[str, float]
) -> Iterator[Record]:
    """Yield robust accuracy under PGD, which needs no adversarials for transfer.

    Ours stops for each image once it is fooled, which changes no answer.
    """
    images, labels = test.floats(), test.labels
    pgd = attacks.PGD(eps=EPS, alpha=ALPHA, steps=STEPS, random_start=False)
    settings: dict[str, Any] = {"steps": STEPS, "random_start": False}

    def standing(make: Callable[[], Callable[[], Tensor]]) -> Callable[[], Callable[[], float]]:
        def prepare() -> Callable[[], float]:
            craft = make()
            return lambda: _share(attacks.predicted_classes(net, craft()) == labels)

        return prepare

    yield from versus(
        f"PGD-{STEPS} robust accuracy, {kind} ResNet-18",
        lambda: _share(evaluation.survivors(net, test, pgd)),
        [
            Peer(
                "torchattacks",
                "torchattacks",
                standing(
                    lambda: _torchattacks(
                        "PGD", net, images, labels, eps=EPS, alpha=ALPHA, **settings
                    )
                ),
                least.get("torchattacks"),
            ),
            Peer(
                "foolbox",
                "foolbox",
                standing(
                    lambda: _foolbox(
                        "LinfProjectedGradientDescentAttack",
                        net,
                        images,
                        labels,
                        abs_stepsize=ALPHA,
                        **settings,
                    )
                ),
                least.get("foolbox"),
            ),
        ],
        _same_accuracy,
        rounds=3,
    )


def _crafted(net: models.Classifier, test: ImageSet) -> Iterator[Record]:
    """Yield adversarials themselves, by attacks that are the same step by step in both libraries.

    foolbox's momentum adds gradients that it has not normalised: its MI-FGSM is another attack.
    """
    images, labels = test.floats(), test.labels
    alpha = EPS / MI_STEPS

    def ours(attack: Attack) -> Callable[[], Tensor]:
        return lambda: attack(net, images, labels)

    yield from versus(
        f"FGSM, {IMAGES} images crafted",
        ours(attacks.FGSM(eps=EPS)),
        [
            Peer(
                "torchattacks",
                "torchattacks",
                lambda: _torchattacks("FGSM", net, images, labels, eps=EPS),
            ),
            Peer(
                "foolbox",
                "foolbox",
                lambda: _foolbox("FGSM", net, images, labels, random_start=False),
            ),
        ],
        same_images,
        rounds=9,
    )
    yield from versus(
        f"MI-FGSM, {MI_STEPS} steps, {IMAGES} images crafted",
        ours(attacks.MIFGSM(eps=EPS, steps=MI_STEPS)),
        [
            Peer(
                "torchattacks",
                "torchattacks",
                lambda: _torchattacks(
                    "MIFGSM", net, images, labels, eps=EPS, alpha=alpha, steps=MI_STEPS
                ),
            )
        ],
        same_images,
        rounds=9,
    )


def _share(right: Tensor) -> float:
    return float(right.double().mean())


def _same_accuracy(ours: float, theirs: float) -> Agreement:
    """Return whether both accuracies agree: with a lower one, ours would stop for more images."""
    return Agreement(abs(ours - theirs) <= APART, f"robust accuracy {ours:.1%} and {theirs:.1%}")


def _torchattacks(
    name: str, net: models.Classifier, images: Tensor, labels: Tensor, **settings: Any
) -> Callable[[], Tensor]:
    import torchattacks

    attack = getattr(torchattacks, name)(net, **settings)

    def craft() -> Tensor:
        adversarials: Tensor = attack(images, labels)
        return adversarials

    return craft


def _foolbox(
    name: str, net: models.Classifier, images: Tensor, labels: Tensor, **settings: Any
) -> Callable[[], Tensor]:
    import foolbox

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = foolbox.PyTorchModel(net, bounds=(0, 1))
    attack = getattr(foolbox.attacks, name)(**settings)

    def craft() -> Tensor:
        _, clipped, _ = attack(wrapped, images, labels, epsilons=EPS)
        adversarials: Tensor = clipped
        return adversarials

    return craft


def _bfloat16(net: models.Classifier, test: ImageSet) -> Iterator[Record]:
    """Yield crafting in bfloat16, scored in float32; nothing is claimed of it."""
    fooled: dict[bool, float] = {}

    def craft(bf16: bool) -> Callable[[], None]:
        attack = attacks.MIFGSM(eps=EPS, bf16=bf16)

        def work() -> None:
            fooled[bf16] = _share(attacks.craft(net, test, attack).fooled)

        return work

    rough, exact = timed({"bfloat16": craft(True), "float32": craft(False)}, rounds=5)
    yield speedup(
        f"MI-FGSM, {IMAGES} images crafted in bfloat16 beside float32",
        rough,
        exact,
        note=f"fooled {fooled[True]:.1%} and {fooled[False]:.1%}",
    )


PICTURES = 300


def matrix_records() -> Iterator[Record]:
    """Yield matrices of four untrained zoo nets on digits with MI-FGSM, 10 steps."""
    test = data.load("digits").test
    images = test.subset(data.stratified_sample(test.labels, PICTURES, 0))
    nets = {
        f"{name}-{seed}": models.build(
            name, num_classes=10, in_channels=1, image_size=16, seed=seed
        ).eval()
        for name in ("small", "vgg3")
        for seed in (0, 1)
    }
    attack = attacks.MIFGSM(eps=EPS)

    def once() -> None:
        evaluation.transfer_matrix(nets, nets, images, attack)

    def pair_by_pair() -> None:
        for source, target in itertools.product(nets.items(), repeat=2):
            evaluation.transfer_matrix(dict([source]), dict([target]), images, attack)

    whole, pairs = timed({"once a source": once, "once a pair": pair_by_pair}, rounds=5)
    what = f"4 x 4 matrix, {PICTURES} images"
    yield speedup(f"{what}: crafting per pair", whole, pairs, at_least=3.5)
    with tempfile.TemporaryDirectory() as folder:

        def kept() -> None:
            evaluation.transfer_matrix(
                nets, nets, images, attack, store=attacks.Store(Path(folder))
            )

        kept()
        fresh, again = timed({"computed": once, "from the cache": kept}, rounds=5)
    yield speedup(
        f"{what}: computing instead of reading",
        again,
        fresh,
        at_least=20.0,
    )
