"""Suites of `robustkit bench gpu`: training steps, attacks and maps, reference gradients, packing.

`--device cpu` rehearses them in small. Each takes its sizes and a device, and yields records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from experiments.benchmarks.record import Record, Value, alone, cost, per_second
from experiments.benchmarks.timing import CLASSES, noise, stepper, timed, timings
from robustkit import attacks, explain, models, training
from robustkit.compute import free_memory, resolve_device
from robustkit.compute.devices import SHARE
from robustkit.data import ImageSet
from robustkit.errors import DeviceError
from robustkit.jobs import Executor, Ok, open_executor
from robustkit.training import TrainConfig
from robustkit.training.references import unit_rows


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The nets of the zoo, the sizes of their data 3×`side`×`side`, and the rounds of each timing.

    `batch` images make a training step, `images` are attacked and explained, `stored` are those
    whose reference gradients are laid out as for a training. A packed candidate trains `epochs`
    on `candidate_images`; each number in `packs` of processes gets `candidates` of them.
    """

    nets: tuple[str, ...]
    side: int
    batch: int
    images: int
    attack_steps: int
    stored: int
    packs: tuple[int, ...]
    candidates: int
    candidate_images: int
    epochs: int
    rounds: int
    warm_ups: int
    pack_rounds: int


FULL = Sizes(
    nets=("small", "resnet18"),
    side=32,
    batch=128,
    images=1000,
    attack_steps=10,
    stored=50_000,
    packs=(1, 2, 4),
    candidates=8,
    candidate_images=5000,
    epochs=2,
    rounds=30,
    warm_ups=5,
    pack_rounds=3,
)
REHEARSAL = Sizes(
    nets=("small",),
    side=16,
    batch=8,
    images=16,
    attack_steps=2,
    stored=64,
    packs=(1, 2),
    candidates=2,
    candidate_images=32,
    epochs=1,
    rounds=3,
    warm_ups=1,
    pack_rounds=1,
)


def sizes_for(device: torch.device) -> Sizes:
    """Return the full sizes, or on a CPU those of a rehearsal."""
    return REHEARSAL if device.type == "cpu" else FULL


PLAIN = "plain step"
STEPS = {
    PLAIN: TrainConfig(),
    "plain step, bf16 and channels last": TrainConfig(bf16=True, channels_last=True),
    "penalised step": TrainConfig(lam=1.0),
    "penalised step, bf16": TrainConfig(lam=1.0, bf16=True),
    "penalised step, channels last": TrainConfig(lam=1.0, channels_last=True),
    "penalised step, bf16 and channels last": TrainConfig(lam=1.0, bf16=True, channels_last=True),
}


def training_records(sizes: Sizes, device: torch.device) -> Iterator[Record]:
    """Yield a step of each net, in turns, beside the plain step."""
    batch = noise(sizes.batch, sizes.side, device)
    for name in sizes.nets:
        net = models.build(
            name, num_classes=CLASSES, in_channels=3, image_size=sizes.side, seed=0
        ).to(device)
        works = {step: partial(stepper(net, config), batch) for step, config in STEPS.items()}
        plain, *others = timed(works, rounds=sizes.rounds, device=device, warm_ups=sizes.warm_ups)
        yield alone(f"{name}: {plain.name}", plain)
        for each in others:
            yield cost(f"{name}: {each.name}", each, plain)


EPS = 8 / 255
MAPS = 100  # images of a trace: it keeps every layer's maps


def images_records(sizes: Sizes, device: torch.device) -> Iterator[Record]:
    """Yield PGD, MI-FGSM, never stopped early, and CAV of automatic layers.

    Images and what becomes of them lie with the host, as they do for the verbs: the way there and
    back is in the time.
    """
    images = _noise_images(sizes)
    count = min(MAPS, len(images))
    shown = images.floats(torch.arange(count))
    for name in sizes.nets:
        net = models.build(name, num_classes=CLASSES, in_channels=3, image_size=sizes.side, seed=0)
        net.to(device).eval()
        crafted = [
            attacks.PGD(eps=EPS, steps=sizes.attack_steps),
            attacks.PGD(eps=EPS, steps=sizes.attack_steps, bf16=True),
            attacks.MIFGSM(eps=EPS, steps=sizes.attack_steps),
        ]

        def maps(net: models.Classifier = net) -> None:
            with explain.trace(net, shown, 0, layers=["auto"]) as trace:
                for each in explain.cav(trace).values():
                    each.raw.cpu()

        works = [lambda a=a, net=net: attacks.craft(net, images, a) for a in crafted]
        seconds = timings(*works, maps, rounds=sizes.rounds // 3, device=device)
        kinds = ("PGD", "PGD, bf16", "MI-FGSM")
        for kind, values in zip(kinds, seconds, strict=False):
            speed = per_second("attacked", "images", len(images), values)
            what = f"{name}: {kind}, {sizes.attack_steps} steps"
            yield Record(what=what, ours=speed, higher=True)
        speed = per_second("explained", "images", count, seconds[-1])
        yield Record(what=f"{name}: CAV maps of every stage", ours=speed, higher=True)


def _noise_images(sizes: Sizes) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    shape = (sizes.images, 3, sizes.side, sizes.side)
    pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    labels = torch.arange(sizes.images) % CLASSES
    return ImageSet(pixels, labels, tuple(str(label) for label in range(CLASSES)))


def gradients_records(sizes: Sizes, device: torch.device) -> Iterator[Record]:
    """Yield the computing of reference gradients in float16, and where they are kept."""
    name = sizes.nets[-1]
    net = models.build(name, num_classes=CLASSES, in_channels=3, image_size=sizes.side, seed=1)
    net.to(device).eval()
    views = torch.randint(256, (1, sizes.images, 3, sizes.side, sizes.side)).to(torch.uint8)
    labels = torch.arange(sizes.images) % CLASSES
    (seconds,) = timings(
        lambda: training.compute_reference(net, views, labels), rounds=3, device=device
    )
    speed = per_second("computed", "images", sizes.images, seconds)
    yield Record(what=f"{name}: reference gradients", ours=speed, higher=True)
    yield _placement(sizes, device)


def _placement(sizes: Sizes, device: torch.device) -> Record:
    """Return the bytes of one view's gradients beside those of its images, and where both
    are kept.
    """
    shape = (1, sizes.stored, 3, sizes.side, sizes.side)
    reference = training.ReferenceGradients(
        torch.zeros(shape, dtype=torch.float16), torch.ones(shape[:2])
    )
    views = torch.zeros(shape, dtype=torch.uint8)
    examples = training.Examples(views, torch.zeros(sizes.stored).long(), (reference,))
    free = free_memory(device)
    moved = examples.to(device)
    sides = {
        "images": moved.views.device.type == device.type,
        "gradients": moved.references[0].directions.device.type == device.type,
    }
    kept = ", ".join(
        f"{what} on the device" if there else f"{what} with the host"
        for what, there in sides.items()
    )
    return cost(
        f"reference gradients of {sizes.stored:,} images: memory",
        Value("gradients", "bytes", (float(reference.directions.nbytes),)),
        Value("images", "bytes", (float(views.nbytes),)),
        note=f"{kept}; free there: {free:,} bytes, of which 1/{1 / SHARE:g} may be taken",
    )


@dataclass(frozen=True)
class PackedTraining:
    """A training as a search has many: a small net, a few epochs, the penalty."""

    seed: int
    device: str
    images: int
    side: int
    epochs: int

    def run(self) -> float:
        """Return the last epoch's loss."""
        generator = torch.Generator().manual_seed(self.seed)
        shape = (self.images, 3, self.side, self.side)
        views = torch.randint(256, (1, *shape), generator=generator, dtype=torch.uint8)
        directions, norms = unit_rows(torch.randn(shape, generator=generator))
        reference = training.ReferenceGradients(directions[None].half(), norms[None])
        examples = training.Examples(views, torch.arange(self.images) % CLASSES, (reference,))
        net = models.build(
            "small", num_classes=CLASSES, in_channels=3, image_size=self.side, seed=self.seed
        )
        config = training.TrainConfig(
            epochs=self.epochs, batch_size=min(64, self.images), lr=0.01, lam=1.0, seed=self.seed
        )
        history = training.fit_examples(
            net, examples, None, config, device=resolve_device(self.device)
        )
        return history.best.train_loss


def packing_records(sizes: Sizes, device: torch.device) -> Iterator[Record]:
    """Yield trainings ended in a second with 1, 2, … processes at work on `device`."""
    candidates = [
        PackedTraining(seed, str(device), sizes.candidate_images, sizes.side, sizes.epochs)
        for seed in range(sizes.candidates)
    ]
    with open_executor("processes", workers=max(sizes.packs)) as executor:
        works = [partial(_train, executor, candidates, at_once) for at_once in sizes.packs]
        # The first round starts processes, and CUDA in each: it is the warm-up.
        seconds = timings(*works, rounds=sizes.pack_rounds)
    single, *packed = (
        per_second(_processes(count), "trainings", sizes.candidates, values)
        for count, values in zip(sizes.packs, seconds, strict=True)
    )
    yield Record(what=_title(sizes.packs[0]), ours=single, higher=True)
    for count, each in zip(sizes.packs[1:], packed, strict=True):
        yield Record(what=_title(count), ours=each, peer=single, higher=True)


def _train(executor: Executor, candidates: Sequence[PackedTraining], at_once: int) -> None:
    """Train all candidates, so many at a time; the other processes are idle."""
    ended = 0

    def jobs() -> Iterator[PackedTraining | None]:
        for number, candidate in enumerate(candidates):
            while number - ended >= at_once:
                yield None
            yield candidate

    for _, outcome in executor.run(jobs()):
        ended += 1
        if not isinstance(outcome, Ok):
            raise DeviceError(f"{_title(at_once)}: a training ended as {outcome.kind}")


def _title(count: int) -> str:
    return f"candidates, {_processes(count)} on one device"


def _processes(count: int) -> str:
    return f"{count} process{'es' if count > 1 else ''}"


RECORDS: dict[str, Callable[[Sizes, torch.device], Iterator[Record]]] = {
    "gpu-training": training_records,
    "gpu-images": images_records,
    "gpu-gradients": gradients_records,
    "gpu-packing": packing_records,
}
