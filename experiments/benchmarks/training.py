"""What trainings cost: penalised steps, memory layouts, batches from memory, worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from experiments.benchmarks.record import Record, cost, speedup
from experiments.benchmarks.timing import CLASSES, noise, stepper, timed
from robustkit import data, models, training
from robustkit.attacks import loss_gradient
from robustkit.data import batches, crop_flip, to_unit
from robustkit.jobs import open_executor
from robustkit.training import TrainConfig
from robustkit.training.examples import Batch
from robustkit.training.references import unit_rows

SIZE, BATCH = 32, 64
LAZY = 4  # steps of which one has the penalty
# Nets like those a search tries, and one with shortcuts, batch norm and nineteen layers.
NETS = {"small": 15, "vgg3": 15, "resnet20": 9}


def penalty_records() -> Iterator[Record]:
    """Yield a 3-conv net without batch norm at 3x32x32; the live reference is a ResNet-18."""
    net, reference = (
        models.build(name, num_classes=CLASSES, in_channels=3, image_size=SIZE, seed=seed)
        for seed, name in enumerate(("small", "resnet18"))
    )
    reference.eval()
    batch = noise(BATCH, SIZE)
    plain_step = stepper(net, TrainConfig(lam=0.0))
    penalised_step = stepper(net, TrainConfig(lam=1.0))

    def live() -> None:
        gradient, _ = loss_gradient(reference, batch.images, batch.labels)
        penalised_step(replace(batch, directions=unit_rows(gradient)[0][None].half()))

    def cached() -> None:
        penalised_step(batch)

    works = {"penalised, cached gradients": cached, "plain": lambda: plain_step(batch)}
    penalised, plain = timed(works, rounds=25)
    yield cost(f"penalised step in plain steps, batch {BATCH}", penalised, plain, at_most=3.3)
    penalised, slow = timed({"cached gradients": cached, "live ResNet-18": live}, rounds=5)
    yield speedup(
        f"penalised step with the reference's gradients computed live, batch {BATCH}",
        penalised,
        slow,
        at_least=8.0,
    )


def lazy_records() -> Iterator[Record]:
    """Yield four steps at 3x32x32 with the penalty in each, beside four with it in one.

    At equal outcome by the study `penalty`, which trains both.
    """
    batch = noise(BATCH, SIZE)
    for name, rounds in NETS.items():
        net = models.build(name, num_classes=CLASSES, in_channels=3, image_size=SIZE, seed=0)
        plain, penalised = (stepper(net, TrainConfig(lam=lam)) for lam in (0.0, 1.0))
        works = {
            f"penalised in {count} of {LAZY}": partial(
                _steps, [penalised] * count + [plain] * (LAZY - count), batch
            )
            for count in (1, LAZY, 0)
        }
        one, every, none = timed(works, rounds=rounds)
        yield speedup(
            f"{name}: {LAZY} steps with the penalty in each, batch {BATCH}",
            one,
            every,
            note=f"{one.median / none.median:.2f} times as long as without a penalty",
        )


def _steps(steps: Sequence[Callable[[Batch], object]], batch: Batch) -> None:
    for step in steps:
        step(batch)


def layout_records() -> Iterator[Record]:
    """Yield plain and penalised steps at 3x32x32 in both layouts, in turns; nothing is claimed."""
    batch = noise(BATCH, SIZE)
    for name, rounds in NETS.items():
        net = models.build(name, num_classes=CLASSES, in_channels=3, image_size=SIZE, seed=0)
        works = {}
        for kind, lam in (("plain", 0.0), ("penalised", 1.0)):
            for layout in ("usual layout", "channels last"):
                step = stepper(net, TrainConfig(lam=lam, channels_last=layout == "channels last"))
                works[f"{kind}, {layout}"] = partial(step, batch)
        plain, plain_last, penalised, penalised_last = timed(works, rounds=rounds)
        yield cost(f"{name}: plain step, batch {BATCH}", plain_last, plain)
        yield cost(f"{name}: penalised step, batch {BATCH}", penalised_last, penalised)


COUNT, LOADED, PAD = 10_000, 100, 4


class _Images(Dataset[Tensor]):
    """The same images one by one with the usual transforms, as a DataLoader wants them."""

    def __init__(self, images: Tensor) -> None:
        self._images = images
        self._transform = v2.Compose(
            [
                v2.RandomCrop(images.shape[-1], padding=PAD),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        view: Tensor = self._transform(self._images[index])
        return view


def batches_records() -> Iterator[Record]:
    """Yield an epoch of cropped, mirrored float batches of 3x32x32 images, both ways."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (COUNT, 3, 32, 32), generator=generator, dtype=torch.uint8)
    loader = DataLoader(
        _Images(images), LOADED, shuffle=True, num_workers=2, persistent_workers=True
    )

    def ours() -> None:
        for indices in batches(COUNT, LOADED, generator=generator):
            to_unit(crop_flip(images[indices], pad=PAD, flip=True, generator=generator))

    def theirs() -> None:
        for _ in loader:
            pass

    mine, other = timed({"from memory": ours, "DataLoader": theirs}, rounds=5)
    yield speedup(
        f"an epoch of {COUNT:,} images, cropped and mirrored: DataLoader with 2 workers",
        mine,
        other,
        at_least=4.0,
        note=f"{COUNT / mine.median:,.0f} and {COUNT / other.median:,.0f} images/s",
    )


@dataclass(frozen=True)
class Training:
    """A short training of `small` on the embedded digits."""

    seed: int

    def run(self) -> float:
        """Return the last epoch's loss."""
        splits = data.load("digits")
        net = models.build("small", num_classes=10, in_channels=1, image_size=16, seed=self.seed)
        config = training.TrainConfig(epochs=2, seed=self.seed)
        return training.fit(net, splits, config).best.train_loss


def workers_records() -> Iterator[Record]:
    """Yield eight trainings on warm workers."""
    with (
        open_executor("processes", workers=1) as single,
        open_executor("processes", workers=2) as pair,
    ):
        one, two = timed(
            {
                "one process": lambda: list(single.run(iter([Training(n) for n in range(8)]))),
                "two processes": lambda: list(pair.run(iter([Training(n) for n in range(8)]))),
            },
            rounds=5,
        )
    yield speedup("eight trainings in two processes beside one", two, one, at_least=1.6)
