"""PGD-40 robust accuracy beside torchattacks and foolbox: same net, images, steps, iterates."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

from torch import Tensor

from experiments.benchmarks.timing import Claim, medians
from robustkit import attacks, data, models, training
from robustkit.data import ImageSet

EPS, STEPS, IMAGES = 0.1, 40, 200
FEW = 96  # images for the net of full width: enough that its last few are a batch still
ALPHA = EPS / 4
ADVERSARIAL_EPS = 0.1


def claims() -> Iterator[Claim]:
    """A ResNet-18 on digits, trained normally, and one of quarter width trained on adversarials."""
    splits = data.load("digits")
    test = splits.test.subset(data.stratified_sample(splits.test.labels, IMAGES, 0))
    few = splits.test.subset(data.stratified_sample(splits.test.labels, FEW, 0))
    whole = _trained(splits, None, width=64)
    yield from _beside(whole, few, "normal", least=(3.0, 4.0))
    yield from _beside(_trained(splits, "pgd"), test, "adversarially trained", least=(None, None))
    yield from _bfloat16(_trained(splits, None), test)


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


def _beside(
    net: models.Classifier, test: ImageSet, kind: str, *, least: tuple[float | None, float | None]
) -> Iterator[Claim]:
    """Robust accuracy by three libraries, one after the other on the same batch."""
    images, labels = test.floats(), test.labels
    standing: dict[str, float] = {}

    def run(name: str, evaluate: Callable[[], Tensor]) -> Callable[[], None]:
        def timed() -> None:
            standing[name] = float(evaluate().double().mean())

        return timed

    ours = attacks.PGD(eps=EPS, alpha=ALPHA, steps=STEPS, random_start=False)
    runs = {
        "ours": lambda: attacks.survivors(net, test, ours),
        "torchattacks": lambda: _right(net, _torchattacks(net, images, labels), labels),
        "foolbox": lambda: _right(net, _foolbox(net, images, labels), labels),
    }
    timed = medians(*(run(name, evaluate) for name, evaluate in runs.items()), rounds=3)
    shown = ", ".join(
        f"{name} {seconds:.2f} s at {standing[name]:.1%}"
        for name, seconds in zip(runs, timed, strict=True)
    )
    for peer, seconds, bound in zip(("torchattacks", "foolbox"), timed[1:], least, strict=True):
        apart = abs(standing[peer] - standing["ours"])
        equal = apart <= 0.005 or standing["ours"] < standing[peer]
        yield Claim(
            f"PGD-40 robust accuracy, {kind} ResNet-18, {peer} in ours",
            seconds / timed[0] if equal else float("nan"),
            bound,
            at_most=False,
            detail=shown,
        )


def _right(net: models.Classifier, made: Tensor, labels: Tensor) -> Tensor:
    return attacks.predict(net, made).argmax(dim=1) == labels


def _torchattacks(net: models.Classifier, images: Tensor, labels: Tensor) -> Tensor:
    import torchattacks

    attack = torchattacks.PGD(net, eps=EPS, alpha=ALPHA, steps=STEPS, random_start=False)
    made: Tensor = attack(images, labels)
    return made


def _foolbox(net: models.Classifier, images: Tensor, labels: Tensor) -> Tensor:
    import foolbox

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = foolbox.PyTorchModel(net, bounds=(0, 1))
    attack = foolbox.attacks.LinfProjectedGradientDescentAttack(
        abs_stepsize=ALPHA, steps=STEPS, random_start=False
    )
    _, clipped, _ = attack(wrapped, images, labels, epsilons=EPS)
    made: Tensor = clipped
    return made


def _bfloat16(net: models.Classifier, test: ImageSet) -> Iterator[Claim]:
    """Crafting in bfloat16, scored in float32: a figure, not a promise."""
    fooled: dict[bool, float] = {}

    def craft(bf16: bool) -> Callable[[], None]:
        attack = attacks.MIFGSM(eps=EPS, bf16=bf16)

        def timed() -> None:
            fooled[bf16] = float(attacks.craft(net, test, attack).fooled.double().mean())

        return timed

    exact, rough = medians(craft(False), craft(True), rounds=3)
    yield Claim(
        "MI-FGSM crafted in float32, in bfloat16",
        exact / rough,
        None,
        at_most=False,
        detail=f"fooled {fooled[False]:.1%} and {fooled[True]:.1%}",
    )
